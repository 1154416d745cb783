"""Two hosts with our agent, and the tunnel of one lies in a network namespace: its agent speaks in there."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tests.netns.harness import (
    UNIT,
    UNIT_ALLOW_NETNS,
    Agent,
    Lab,
    Namespace,
    Pinger,
    key_pair,
    new_name,
    run,
    wait_until,
)
from tests.netns.test_exchange import A_INSIDE, B_INSIDE, MOVED_WITHIN, PORT, Site, agree, introduce
from tests.netns.test_exchange_psk import BOTH, in_kernel, states

PER_SECOND = 200


@pytest.fixture
def at_a(lab: Lab) -> Iterator[Agent]:
    """An agent that can make network namespaces, with no more rights than its unit has."""
    agent = lab.agent(own_mounts=False, capabilities=UNIT_ALLOW_NETNS).start()
    yield agent
    agent.terminate()
    agent.capabilities = UNIT_ALLOW_NETNS
    agent.start().end()


@pytest.fixture
def sites(lab: Lab, at_a: Agent) -> Iterator[tuple[Site, Site]]:
    """A's tunnel lies in a network namespace of its host, B's does not."""
    at_b = lab.agent(lab.laptop).start()
    a, b = introduce(at_a, at_b)
    yield moved_in(a), b
    at_b.end()


def import_tunnel(agent: Agent, inside: str) -> dict[str, str]:
    """From a file, which may name addresses that another tunnel has."""
    text = f"[Interface]\nPrivateKey = {key_pair()[0]}\nAddress = {inside}/24\n"
    made: dict[str, str] = agent.call("tunnel.import", name=new_name(), text=text)["tunnel"]
    agent.call("tunnel.activate", name=made["name"])
    return made


def moved_in(site: Site) -> Site:
    """Its tunnel lies in a new network namespace."""
    name = new_name("ns")
    site.agent.call("namespace.create", name=name, tunnel=site.tunnel, kind="netns")
    return replace(site, namespace=Namespace(f"wg-{name}"))


def moved_out(site: Site) -> Site:
    """Its network namespace is gone, and the tunnel lies in that of the host."""
    site.agent.call("namespace.delete", name=site.namespace.name.removeprefix("wg-"))
    return replace(site, namespace=site.agent.namespace)


def begin(site: Site) -> str:
    """New keys for one end; the public key that it had before."""
    before: str = site.shown()["public_key"]
    site.agent.call("rotate.keys", tunnel=site.tunnel, overlap=3600)
    return before


def change_keys(site: Site, a: Site, b: Site) -> None:
    """With no hands: the keys of one end, until both agree."""
    before = begin(site)
    wait_until(lambda: site.shown()["public_key"] != before, MOVED_WITHIN, "the new key")
    wait_until(lambda: agree(a, b), MOVED_WITHIN, "both sides to agree")


def ears(namespace: Namespace) -> set[str]:
    """The addresses at which an agent listens there; some versions of ss(8) show the device as well."""
    listed = namespace.exec("ss", "-H", "-l", "-n", "-u", f"sport = :{PORT}").stdout.splitlines()
    return {line.split()[3].rpartition(":")[0].partition("%")[0] for line in listed}


def test_all_keys_change_without_losing_a_packet(
    sites: tuple[Site, Site], lab: Lab, record_property: Callable[[str, object], None]
) -> None:
    a, b = sites
    assert a.namespace.ping(B_INSIDE)
    with Pinger(a.namespace, B_INSIDE, PER_SECOND) as ping:
        change_keys(a, a, b)
        change_keys(b, a, b)
        done = a.agent.cli("rotate", "psk", a.tunnel, a.peer)
        assert done.returncode == 0, done.stderr
        assert "note: the agent of 'b' has the new key too: nothing is left to do" in done.stderr
    record_property("remark", f"keys of A, of B, preshared: {ping.lost} of {len(ping.sent)} packets lost")
    assert ping.lost == 0
    assert (states(a)[0], states(b)[0]) == (BOTH, BOTH)
    assert in_kernel(a) == in_kernel(b) is not None
    assert (ears(a.namespace), ears(lab.server)) == ({A_INSIDE}, set())


@pytest.mark.any_engine
def test_it_hears_wherever_its_tunnel_lies(sites: tuple[Site, Site], lab: Lab) -> None:
    """Its devices are lost, it moves out of the namespace and into another one, and that one is lost too."""
    a, b = sites
    change_keys(b, a, b)
    a.namespace.ip(*(f"link delete {interface}" for interface in a.interfaces()))
    change_keys(b, a, b)
    a = moved_out(a)
    change_keys(b, a, b)
    assert ears(lab.server) == {A_INSIDE}
    a = moved_in(a)
    change_keys(b, a, b)
    a.agent.terminate()
    run("ip", "netns", "delete", a.namespace.name)
    a.agent.start()
    change_keys(b, a, b)
    assert (ears(a.namespace), ears(lab.server)) == ({A_INSIDE}, set())


@pytest.mark.any_engine
def test_the_same_addresses_inside_and_outside_and_no_right_to_enter(
    sites: tuple[Site, Site], lab: Lab
) -> None:
    """Each peer is heard on its own tunnel; an agent that may not enter one goes on with the others."""
    with contextlib.ExitStack() as stack:
        inner, far = sites
        at_c = lab.agent(lab.internet).start()
        stack.callback(at_c.end)
        outer, other = introduce(
            inner.agent, at_c, outside=("198.51.100.1", "198.51.100.9"), make=import_tunnel
        )
        pings = [stack.enter_context(Pinger(site.namespace, B_INSIDE, PER_SECOND)) for site in (inner, outer)]
        before = {begin(site) for site in (inner, outer)}
        for one, another in ((inner, far), (outer, other)):
            wait_until(lambda: one.shown()["public_key"] not in before, MOVED_WITHIN, "the new key")  # noqa: B023
            wait_until(lambda: agree(one, another), MOVED_WITHIN, "both sides to agree")  # noqa: B023
        for ping in pings:
            ping.stop()
        outer.agent.terminate()
        outer.agent.capabilities = UNIT
        outer.agent.start()
        begin(outer)
        wait_until(lambda: other.peer_key() == outer.shown()["public_key"], MOVED_WITHIN, "the new key")
        deaf = f"cannot hear agents on {inner.shown()['interface']}"
        assert outer.agent.log.count(deaf) == 1
    assert [ping.lost for ping in pings] == [0, 0]
