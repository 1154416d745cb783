"""Keys change under packets that go on, 500 a second each way, to a far end that is plain WireGuard.

It brings its new config up on a second interface and sends over that one when it has shaken hands, as a
careful person or another agent does; or, as a phone, on the interface it has.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
from tests.netns.harness import SLOWNESS, Agent, Lab, Pinger, picture, plain_peer, wait_until

PER_SECOND = 500

Remark = Callable[[str], None]


@pytest.fixture
def home(server: Agent) -> Iterator[dict]:
    made = server.make_tunnel(endpoint="192.0.2.1")
    yield made
    server.call("tunnel.delete", name=made["name"])


def own(addresses: list[str]) -> str:
    return next(a.partition("/")[0] for a in addresses if ":" not in a)


def by_hand(config: str) -> str:
    """A config whose routes are left to the test."""
    return config.replace("[Interface]", "[Interface]\nTable = off")


@contextlib.contextmanager
def pinging_both_ways(
    lab: Lab, hub: str, peer: str, per_second: int = PER_SECOND
) -> Iterator[tuple[Pinger, Pinger]]:
    with Pinger(lab.laptop, hub, per_second) as up, Pinger(lab.server, peer, per_second) as down:
        try:
            yield up, down
        finally:
            for pinger in (up, down):  # together: each hears the other's requests, and would wait for silence
                pinger.stop()


@pytest.fixture
def remark(record_property: Callable[[str, object], None]) -> Remark:
    """Says something in the table at the end."""
    return lambda text: record_property("remark", text)


def told(*pingers: Pinger) -> str:
    """What was sent each way, and what of it was lost."""
    sent, lost = ", ".join(str(len(p.sent)) for p in pingers), ", ".join(str(p.lost) for p in pingers)
    silence = max(pinger.longest_silence() for pinger in pingers)
    return f"{sent} pings, {lost} lost, longest silence {1000 * silence:.0f} ms"


def missed(pinger: Pinger, steps: dict[str, float]) -> list[str]:
    """When what was lost had been sent, in seconds after each step of a test."""
    lost = [at for number, at in pinger.sent.items() if number not in pinger.answered]
    return [", ".join(f"{at - then:+.3f} s {step}" for step, then in steps.items()) for at in lost]


def network_of(home: dict) -> str:
    return own(home["addresses"]).rpartition(".")[0] + ".0/24"


def moved(server: Agent, name: str) -> bool:
    (tunnel,) = server.call("rotate.status", tunnel=name)
    return all(peer["moved"] for peer in tunnel["running"][0]["peers"])


def ended(server: Agent, name: str) -> bool:
    return not server.call("rotate.status", tunnel=name)[0]["running"]


@pytest.mark.parametrize("strict", [False, True], ids=["", "strict-reverse-path"])
def test_a_generation_comes_and_the_old_one_goes_while_packets_do(
    server: Agent, lab: Lab, home: dict, engine: str, strict: bool, remark: Remark
) -> None:
    name, hub, network = home["name"], own(home["addresses"]), network_of(home)
    added = server.call("peer.add", tunnel=name, name="laptop")
    address = added["peer"]["addresses"][0].partition("/")[0]
    lab.laptop.exec("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
    strictness = f"{int(strict)}"
    for which in ("all", "default", home["interface"]):
        lab.server.exec("sysctl", "-qw", f"net.ipv4.conf.{which}.rp_filter={strictness}")
    steps = {}
    with contextlib.ExitStack() as interfaces:
        old = interfaces.enter_context(plain_peer(lab.laptop, by_hand(added["config"]), engine))
        lab.laptop.ip(f"route replace {network} dev {old}")
        with pinging_both_ways(lab, hub, address) as (up, down):
            steps["begin"] = time.monotonic()
            server.call("rotate.keys", tunnel=name)
            config = server.call("peer.config", tunnel=name, name="laptop")["config"]
            new = interfaces.enter_context(plain_peer(lab.laptop, by_hand(config), engine, quick=False))
            wait_until(lambda: moved(server, name), what="the laptop's handshake with the new key")
            wait_until(lambda: address in lab.server.routes(f"{home['interface']}r"))
            steps["the laptop goes over"] = time.monotonic()
            lab.laptop.ip(f"route replace {network} dev {new}")
            wait_until(lambda: ended(server, name), what="the end of the rotation")
            steps["the old device is gone"] = time.monotonic()
            wait_until(lambda: len(up.sent) > 4 * PER_SECOND)
        remark(f"a new generation: {told(up, down)}")
        assert (up.lost, down.lost) == (0, 0), (missed(up, steps), missed(down, steps))
        lab.laptop.ip(f"link set {old} down")
        assert lab.laptop.ping(hub)
    assert lab.server.link(home["interface"]) is None
    assert server.settled()
    (tunnel,) = server.call("tunnel.list", filter=name)
    assert tunnel["interface"] == f"{home['interface']}r"


def test_a_phone_that_swaps_its_config_misses_what_comes_while_it_is_looked_for(
    server: Agent, lab: Lab, home: dict, engine: str, remark: Remark
) -> None:
    """One interface, and a new key for the hub in place of the old one: who looks often loses little."""
    name, hub, network = home["name"], own(home["addresses"]), network_of(home)
    added = server.call("peer.add", tunnel=name, name="phone")
    address = added["peer"]["addresses"][0].partition("/")[0]
    with plain_peer(lab.laptop, by_hand(added["config"]), engine) as phone:
        lab.laptop.ip(f"route replace {network} dev {phone}")
        assert lab.laptop.ping(hub)
        server.call("rotate.keys", tunnel=name)
        config = server.call("peer.config", tunnel=name, name="phone")["config"]
        with pinging_both_ways(lab, hub, address, 100) as (up, down):
            stripped = [
                line for line in config.splitlines() if not line.startswith(("Address", "MTU", "DNS"))
            ]
            lab.laptop.exec("wg", "setconf", phone, "/dev/stdin", stdin="\n".join(stripped))
            changed = time.monotonic()
            for pinger in (up, down):
                wait_until(lambda: pinger.answers_since(changed), 1.5 * SLOWNESS, "an answer")  # noqa: B023
            wait_until(lambda: ended(server, name), what="the end of the rotation")
            wait_until(lambda: len(up.sent) > 400)
        remark(f"a phone that swaps its config: {told(up, down)}")
        assert max(up.longest_silence(), down.longest_silence()) < 1.5
    assert server.settled()


def test_the_old_generation_goes_at_the_end_of_the_overlap_whoever_still_uses_it(
    server: Agent, lab: Lab, home: dict, engine: str
) -> None:
    name, hub = home["name"], own(home["addresses"])
    config = server.call("peer.add", tunnel=name, name="laptop")["config"]
    with plain_peer(lab.laptop, config, engine):
        assert lab.laptop.ping(hub)
        server.call("rotate.keys", tunnel=name, overlap=2)
        assert lab.laptop.ping(hub)
        wait_until(lambda: ended(server, name), what="the end of the overlap")
        assert not lab.laptop.ping(hub)
    (last, *_) = server.call("rotate.history", tunnel=name)
    assert last["outcome"] == "overlap over, not moved: laptop"


def test_rolled_back_nobody_notices(server: Agent, lab: Lab, home: dict, engine: str) -> None:
    name, hub = home["name"], own(home["addresses"])
    added = server.call("peer.add", tunnel=name, name="laptop")
    address = added["peer"]["addresses"][0].partition("/")[0]
    before = picture(lab.server, home["interface"])
    with plain_peer(lab.laptop, added["config"], engine), pinging_both_ways(lab, hub, address) as (up, down):
        server.call("rotate.keys", tunnel=name)
        wait_until(lambda: lab.server.link(f"{home['interface']}r"))
        server.call("rotate.rollback", tunnel=name)
        sent = len(up.sent)
        wait_until(lambda: len(up.sent) > sent + PER_SECOND)
    assert (up.lost, down.lost) == (0, 0)
    after = picture(lab.server, home["interface"])
    assert {**after, "device": None} == {**before, "device": None}
    assert server.settled()


def test_a_new_agent_goes_on_where_a_killed_one_was(lab: Lab, engine: str) -> None:
    """Killed with one peer on each device: the store and the devices say all there is to know."""
    agent = lab.agent(lab.namespace("other")).start()
    made = agent.make_tunnel(endpoint="192.0.2.1")
    agent.call("peer.add", tunnel=made["name"], name="laptop")
    agent.call("rotate.keys", tunnel=made["name"], overlap=4 * SLOWNESS)
    agent.kill()
    agent.start()
    (running,) = agent.call("rotate.status", tunnel=made["name"])[0]["running"]
    assert running["interface"] == f"{made['interface']}r"
    wait_until(lambda: ended(agent, made["name"]), what="the end of the overlap")
    wait_until(agent.settled)
    assert agent.namespace.link(made["interface"]) is None
    assert network_of(made) in agent.namespace.routes(f"{made['interface']}r")
    agent.end()


def test_a_peer_takes_up_its_new_key(
    server: Agent, lab: Lab, home: dict, engine: str, remark: Remark
) -> None:
    name, hub = home["name"], own(home["addresses"])
    config = server.call("peer.add", tunnel=name, name="phone")["config"]
    with plain_peer(lab.laptop, config, engine) as phone:
        assert lab.laptop.ping(hub)
        server.call("rotate.peer", tunnel=name, peer="phone", grace=2)
        assert lab.laptop.ping(hub)
        new = server.call("peer.config", tunnel=name, name="phone")["config"]
        private = next(line.partition(" = ")[2] for line in new.splitlines() if "PrivateKey" in line)
        with Pinger(lab.laptop, hub, 100) as pinger:
            sent = len(pinger.sent)
            lab.laptop.exec("wg", "set", phone, "private-key", "/dev/stdin", stdin=private)
            changed = time.monotonic()
            wait_until(lambda: pinger.answers_since(changed), 1.5 * SLOWNESS, "an answer by the new key")
            wait_until(lambda: len(pinger.sent) > sent + 100)
        remark(f"a peer that swaps its own key: {told(pinger)}")
        assert pinger.longest_silence() < 1.5
        wait_until(lambda: ended(server, name), what="the end of the grace")
        assert len(lab.server.wg(home["interface"]).peers) == 1
        assert lab.laptop.ping(hub)
    assert server.settled()
