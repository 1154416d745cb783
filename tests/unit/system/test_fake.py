"""The in-memory host says no where Linux does, so that what passes on it has a chance on a machine."""

import pytest

from resource_wireguard.host.diff import Action
from resource_wireguard.host.facts import Questions
from resource_wireguard.host.state import (
    Address,
    Device,
    Link,
    NetNamespace,
    Peer,
    PeerEndpoint,
    Record,
    Route,
    Rule,
    Sysctl,
    Table,
)
from resource_wireguard.model.keys import PrivateKey, PublicKey
from resource_wireguard.system.fake import FakeHost, Killed
from resource_wireguard.system.fake_kernel import ForeignTable, UdpSocket

OWN_KEY = PrivateKey(bytes(range(32)))
ALICE, BOB = PublicKey(b"a" * 32), PublicKey(b"b" * 32)
LINK = Link("wg-a", "a", "kernel", 1420)
OTHER_LINK = Link("wg-b", "b", "kernel", 1420)
ROUTE = Route("10.9.0.0/16", "wg-a")


def peer(key: PublicKey, *allowed: str, interface: str = "wg-a") -> Peer:
    return Peer(interface, key, None, 0, frozenset(allowed))


def make(host: FakeHost, *records: Record) -> list[str]:
    """Create records in turn; the messages of what was refused."""
    return [p.message for p in host.apply(tuple(Action("create", after=record) for record in records))]


def remove(host: FakeHost, record: Record) -> list[str]:
    return [p.message for p in host.apply((Action("delete", before=record),))]


def seen(host: FakeHost) -> set[Record]:
    objects = host.observe().state.objects
    return {record for records in objects.values() for record in records.values()}


@pytest.mark.parametrize(
    "record",
    [
        Device("wg-a", OWN_KEY, 51820),
        peer(ALICE),
        Address("wg-a", "10.0.0.1/24"),
        ROUTE,
    ],
    ids=lambda record: type(record).__name__,
)
def test_nothing_lies_on_a_link_that_is_not_there(host: FakeHost, record: Record) -> None:
    (message,) = make(host, record)
    assert "No such device" in message
    assert not seen(host)


def test_a_link_takes_all_that_lies_on_it_along(host: FakeHost) -> None:
    device = Device("wg-a", OWN_KEY, 51820)
    assert not make(host, LINK, device, peer(ALICE), Address("wg-a", "10.0.0.1/24"), ROUTE)
    assert not remove(host, LINK)
    assert not seen(host)


def test_a_foreign_link_of_the_wanted_name_is_neither_taken_nor_seen(host: FakeHost) -> None:
    host.place_foreign(LINK)
    before = host.foreign()
    (problem,) = host.apply((Action("create", after=LINK), Action("create", after=ROUTE)))
    assert "File exists" in problem.message
    assert "not ours" in problem.hint
    assert problem.interface == "wg-a"
    assert not seen(host)
    assert host.foreign() == before


def test_touching_what_is_foreign_is_a_failed_test_not_a_problem(host: FakeHost) -> None:
    host.place_foreign(LINK, Route("10.1.0.0/16", None), ForeignTable("inet", "filter"))
    with pytest.raises(AssertionError, match="foreign link"):
        remove(host, LINK)
    with pytest.raises(AssertionError, match="not ours"):
        remove(host, Route("10.1.0.0/16", None))


def test_two_devices_cannot_bind_one_port(host: FakeHost) -> None:
    host.place_foreign(UdpSocket(53))
    problems = make(
        host,
        LINK,
        OTHER_LINK,
        Device("wg-a", OWN_KEY, 51820),
        Device("wg-b", OWN_KEY, 51820),
        Device("wg-b", OWN_KEY, 53),
    )
    assert [p.partition(": ")[2] for p in problems] == ["Address already in use"] * 2


def test_an_allowed_ip_moves_to_the_last_peer_that_asks(host: FakeHost) -> None:
    make(host, LINK, peer(ALICE, "10.0.0.2/32", "10.7.0.0/16"), peer(BOB, "10.0.0.2/32"))
    assert {peer(ALICE, "10.7.0.0/16"), peer(BOB, "10.0.0.2/32")} <= seen(host)


def test_a_route_needs_its_link_up_and_its_place_free(host: FakeHost) -> None:
    down = Link("wg-a", "a", "kernel", 1420, up=False)
    assert "Network is down" in make(host, down, ROUTE)[0]
    host.tamper(there=LINK)
    host.place_foreign(Route("10.1.0.0/16", None))
    make(host, Address("wg-a", "10.2.0.1/16"))
    for taken in (ROUTE, Route("10.1.0.0/16", "wg-a"), Route("10.2.0.0/16", "wg-a")):
        problems = make(host, ROUTE, taken)
        assert "File exists" in problems[-1]


def test_a_link_that_goes_down_loses_its_routes_but_keeps_its_v4_addresses(host: FakeHost) -> None:
    v4, v6 = Address("wg-a", "10.0.0.1/24"), Address("wg-a", "fd00::1/64")
    make(host, LINK, v4, v6, ROUTE, Route("fd01::/64", "wg-a"))
    down = Link("wg-a", "a", "kernel", 1420, up=False)
    host.tamper(there=down)
    assert seen(host) == {down, v4}


def test_a_small_mtu_takes_ipv6_away(host: FakeHost) -> None:
    v6 = Address("wg-a", "fd00::1/64")
    make(host, LINK, v6)
    host.tamper(there=Link("wg-a", "a", "kernel", 1200))
    assert v6 not in seen(host)
    assert "Invalid argument" in make(host, v6)[0]


def test_the_first_address_of_a_subnet_takes_the_others_and_at_last_the_routes_along(host: FakeHost) -> None:
    make(host, LINK, Address("wg-a", "10.0.0.1/24"), Address("wg-a", "10.0.0.2/24"), ROUTE)
    remove(host, Address("wg-a", "10.0.0.1/24"))
    assert seen(host) == {LINK}


def test_long_names_and_absent_engines_are_refused(host: FakeHost) -> None:
    too_long, no_engine = Link("wg-0123456789abc", "a", "kernel", 1420), Link("wg-b", "b", "userspace", 1420)
    first, second = make(host, too_long, no_engine)
    assert "Invalid argument" in first
    assert "not supported" in second


def test_rules_sysctls_and_tables_come_and_go_as_in_linux(host: FakeHost) -> None:
    rule, table = Rule(15700, 4, 254), Table("inet", ())
    assert not make(host, rule, table, Sysctl("net.ipv4.ip_forward", "1"))
    assert seen(host) == {rule, table}
    asked = Questions(sysctls=frozenset({"net.ipv4.ip_forward", "net.no.such"}))
    assert host.observe(asked).state.of(Sysctl) == {"net.ipv4.ip_forward": Sysctl("net.ipv4.ip_forward", "1")}
    assert "File exists" in make(host, rule)[0]
    assert "No such file" in make(host, Sysctl("net.no.such", "1"))[0]
    assert not remove(host, rule) + remove(host, table)
    assert len(remove(host, rule) + remove(host, table)) == 2


def test_an_engine_that_dies_takes_its_link_along() -> None:
    host = FakeHost("userspace")
    make(host, Link("wg-a", "a", "userspace", 1420), Address("wg-a", "10.0.0.1/24"))
    events = host.events()
    host.kill_engine("wg-a")
    assert events.drain() == 1
    assert not seen(host)
    events.close()


def test_a_peer_that_roams_is_learned_without_an_event(host: FakeHost) -> None:
    make(host, LINK, peer(ALICE), PeerEndpoint("wg-a", ALICE, "192.0.2.1:1"))
    events = host.events()
    host.handshake("wg-a", ALICE, "192.0.2.9:4000", at=1000.0)
    facts = host.observe().peers["wg-a", ALICE]
    assert (facts.endpoint, facts.latest_handshake) == ("192.0.2.9:4000", 1000.0)
    assert PeerEndpoint("wg-a", ALICE, "192.0.2.9:4000") in seen(host)
    assert events.drain() == 0
    events.close()


def test_a_devices_own_key_is_no_peer(host: FakeHost) -> None:
    own = peer(OWN_KEY.public())
    make(host, LINK, own, Device("wg-a", OWN_KEY, 51820))
    assert own not in seen(host)
    assert not make(host, own)
    assert own not in seen(host)


def test_faults_can_be_sown_and_ended(host: FakeHost) -> None:
    host.refuse(Peer, "wg-a")
    assert "not permitted" in make(host, LINK, OTHER_LINK, peer(ALICE), peer(ALICE, interface="wg-b"))[0]
    host.mute("wg-b")
    look = host.observe()
    assert not look.complete
    assert [problem.interface for problem in look.problems] == ["wg-b"]
    assert LINK.name in look.state.of(Link) and not look.state.of(Peer)
    host.relent()
    assert host.observe().complete
    assert not make(host, peer(BOB))


def test_a_process_can_be_killed_after_any_action(host: FakeHost) -> None:
    host.stop_after = 1
    with pytest.raises(Killed, match="create interface wg-a"):
        make(host, LINK, OTHER_LINK)
    assert seen(host) == {LINK}


def test_a_survey_names_what_anybody_uses(host: FakeHost) -> None:
    eth0 = Link("eth0", "", "kernel", 1500)
    host.place_foreign(eth0, Address("eth0", "192.0.2.7/24"), Route("10.5.0.0/16", "eth0"), UdpSocket(53))
    make(host, LINK, Device("wg-a", OWN_KEY, 51820), Address("wg-a", "10.0.0.1/24"))
    survey = host.survey()
    assert survey.prefixes == {"192.0.2.0/24", "10.5.0.0/16", "10.0.0.0/24"}
    assert survey.udp_ports == {53, 51820}
    assert survey.interfaces == {"eth0", "wg-a"}


INSIDE = Link("wg-a", "a", "kernel", 1420, netns="wg-work")


def test_a_link_in_a_network_namespace_needs_it_and_goes_with_it(host: FakeHost) -> None:
    assert make(host, INSIDE) == ["interface wg-a: No such file or directory"]
    route = Route("0.0.0.0/0", "wg-a", netns="wg-work")
    assert make(host, NetNamespace("wg-work", "work"), INSIDE, route) == []
    assert make(host, OTHER_LINK, Route("0.0.0.0/0", "wg-b")) == []  # another namespace's tables
    assert remove(host, NetNamespace("wg-work", "work")) == []
    assert seen(host) == {OTHER_LINK, Route("0.0.0.0/0", "wg-b")}


def test_a_foreign_network_namespace_is_in_the_way(host: FakeHost) -> None:
    host.place_foreign(NetNamespace("wg-work", ""))
    assert make(host, NetNamespace("wg-work", "work")) == ["network namespace wg-work: File exists"]
    assert seen(host) == set()
