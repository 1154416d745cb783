"""A tunnel inside a network namespace changes its keys there, under packets; the host sees nothing of it."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from tests.netns.harness import Agent, Lab, Namespace, Pinger, new_name, plain_peer, wait_until
from tests.netns.test_rotation import by_hand, ended, moved, told

HUB, FAR, NETWORK = "10.97.0.1", "10.97.0.2", "10.97.0.0/24"
PER_SECOND = 200


@pytest.fixture
def agent(lab: Lab) -> Iterator[Agent]:
    agent = lab.agent(own_mounts=False).start()
    yield agent
    agent.end()


def host_of(lab: Lab) -> dict[str, object]:
    """The links of the host, and its routes into the network of the tunnel."""
    routes = lab.server.ip_json("route show table all")
    return {
        "links": {link["ifname"] for link in lab.server.ip_json("link show")},
        "routes": {r["dst"] for r in routes if r["dst"].startswith("10.97.")},
        "addresses": {a["local"] for link in lab.server.ip_json("address show") for a in link["addr_info"]},
    }


def test_a_generation_comes_and_goes_inside(
    lab: Lab, agent: Agent, engine: str, record_property: Callable[[str, object], None]
) -> None:
    made = agent.make_tunnel(addresses=[f"{HUB}/24"], endpoint="192.0.2.1", activate=False)
    name, interface, inside = made["name"], made["interface"], new_name("nr")
    netns, successor = Namespace(f"wg-{inside}"), f"{interface}r"
    before = host_of(lab)
    agent.call("namespace.create", name=inside, tunnel=name, kind="netns")
    agent.call("tunnel.activate", name=name)
    added = agent.call("peer.add", tunnel=name, name="laptop", addresses=[f"{FAR}/32"])
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(plain_peer(lab.laptop, by_hand(added["config"]), engine))
        lab.laptop.ip(f"route replace {NETWORK} dev {old}")
        with Pinger(lab.laptop, HUB, PER_SECOND) as up, Pinger(netns, FAR, PER_SECOND) as down:
            agent.call("rotate.keys", tunnel=name)
            assert netns.link(successor)["ifalias"] == f"resource-wireguard:{name}"
            assert netns.addresses(successor) == netns.addresses(interface) == {f"{HUB}/24"}
            assert host_of(lab) == before
            config = agent.call("peer.config", tunnel=name, name="laptop")["config"]
            new = stack.enter_context(plain_peer(lab.laptop, by_hand(config), engine, quick=False))
            wait_until(lambda: moved(agent, name), what="the laptop's handshake with the new key")
            wait_until(lambda: f"{FAR}" in netns.routes(successor), what="the route to it")
            assert host_of(lab) == before
            lab.laptop.ip(f"route replace {NETWORK} dev {new}")
            wait_until(lambda: ended(agent, name), what="the end of the rotation")
            sent = len(up.sent)
            wait_until(lambda: len(up.sent) > sent + PER_SECOND)
            up.stop()
            down.stop()
        record_property("remark", f"a new generation in a network namespace: {told(up, down)}")
        assert (up.lost, down.lost) == (0, 0)
        wait_until(agent.settled)
        assert netns.link(interface) is None
        assert NETWORK in netns.routes(successor)
        assert host_of(lab) == before
        assert lab.laptop.ping(HUB)
        agent.call("rotate.keys", tunnel=name)
        agent.kill()
        agent.start()
        assert netns.link(interface), "the third generation has the first one's name"
        agent.call("rotate.rollback", tunnel=name)
        assert netns.link(interface) is None
        assert host_of(lab) == before
    agent.call("tunnel.deactivate", name=name)
    agent.call("namespace.delete", name=inside)
