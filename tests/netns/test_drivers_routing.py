"""Addresses, routes, rules, paths, sysctls, survey and events, looked at with ip(8)."""

import errno
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.netns import drivers
from tests.netns.harness import Namespace, in_namespace, new_name, run

from resource_wireguard.host.diff import Action
from resource_wireguard.host.facts import Path as NetworkPath
from resource_wireguard.host.facts import Questions
from resource_wireguard.host.state import Address, Route, Rule, Sysctl
from resource_wireguard.system import sysctl
from resource_wireguard.system.events import NetlinkEvents

TABLE = 15_700_001


@pytest.fixture
def box(engine: str) -> Iterator[drivers.Box]:
    with drivers.box(engine) as box:
        yield box


def test_addresses_come_and_go(box: drivers.Box) -> None:
    name = box.interface
    box.settle(box.link(), Address(name, "10.9.0.1/24"), Address(name, "fd09::1/64"))
    assert box.namespace.addresses(name) == {"10.9.0.1/24", "fd09::1/64"}
    box.settle(box.link(), Address(name, "10.9.0.1/16"), Address(name, "fe80::1/64"))
    assert box.namespace.addresses(name) == {"10.9.0.1/16"}
    link_local = [a["local"] for a in box.namespace.link(name)["addr_info"] if a["scope"] == "link"]
    assert "fe80::1" in link_local
    box.settle(box.link())
    assert box.namespace.addresses(name) == set()


def test_an_address_that_somebody_added_is_drift_only_on_our_link(box: drivers.Box) -> None:
    box.settle(box.link())
    box.namespace.ip(f"address add 10.8.0.1/24 dev {box.interface}", "address add 10.7.0.1/24 dev lo")
    (action,) = box.settle(box.link())
    assert (action.verb, action.record) == ("delete", Address(box.interface, "10.8.0.1/24"))
    assert "10.7.0.1/24" in box.namespace.addresses("lo")


def test_routes_come_change_and_go(box: drivers.Box) -> None:
    name = box.interface
    plain = [Route("10.20.0.0/16", name), Route("fd20::/64", name), Route("10.21.0.0/16", name, 254, 50)]
    tables = [Route("0.0.0.0/0", name, TABLE), Route("::/0", name, TABLE, 77)]
    closed = [Route("0.0.0.0/0", None, TABLE, 9999), Route("::/0", None, TABLE, 9999)]
    box.settle(box.link(), *plain, *tables, *closed)
    assert box.namespace.routes(name, table="main") >= {"10.20.0.0/16", "fd20::/64", "10.21.0.0/16"}
    assert box.namespace.routes(name, table=str(TABLE)) == {"default"}
    assert unreachable(box) == {("default", 9999)}
    shown = box.namespace.ip_json("-4 route show 10.21.0.0/16")[0]
    assert (shown["metric"], shown["protocol"]) == (50, "157")

    (change,) = box.settle(box.link(), Route("10.20.0.0/16", None), *plain[1:], *tables, *closed)
    assert change.verb == "change"
    box.settle(box.link(), *plain, *tables, *closed)

    box.settle(box.link())
    assert unreachable(box) == set()
    box.settle()


def unreachable(box: drivers.Box) -> set[tuple[str, int]]:
    shown = box.namespace.ip_json(f"-4 route show table {TABLE} type unreachable")
    assert shown == [] or box.namespace.ip_json(f"-6 route show table {TABLE} type unreachable") != []
    return {(route["dst"], route["metric"]) for route in shown}


def test_routes_outlive_their_link_only_if_they_are_unreachable(box: drivers.Box) -> None:
    closed = Route("10.30.0.0/16", None)
    box.settle(box.link(), Route("10.20.0.0/16", box.interface), closed)
    box.settle(closed)
    shown = box.namespace.ip_json("-4 route show")
    assert [(route["dst"], route["type"]) for route in shown] == [("10.30.0.0/16", "unreachable")]


def test_foreign_routes_are_not_seen_not_replaced_and_not_removed(box: drivers.Box) -> None:
    box.namespace.ip("route add unreachable 10.40.0.0/16", "route add unreachable fd40::/64")
    assert box.plan() == ()
    problems = box.refused(Route("10.40.0.0/16", None), Route("fd40::/64", None))
    assert [("is not ours" in problem.message) for problem in problems] == [True, True]
    assert box.plan() == ()
    assert len(box.namespace.ip_json("route show 10.40.0.0/16")) == 1
    box.apply(*(Action("delete", before=Route(prefix, None)) for prefix in ("10.40.0.0/16", "fd40::/64")))
    assert len(box.namespace.ip_json("route show 10.40.0.0/16")) == 1


def test_a_route_in_the_way_stops_only_itself(box: drivers.Box) -> None:
    box.namespace.ip("route add unreachable 10.40.0.0/16")
    taken, free = Route("10.40.0.0/16", box.interface), Route("10.41.0.0/16", box.interface)
    (problem,) = box.refused(box.link(), taken, free)
    assert problem.interface == box.interface
    assert "10.40.0.0/16" in problem.message
    assert box.plan(box.link(), free) == ()


def test_rules_come_and_go(box: drivers.Box) -> None:
    rules = [
        Rule(15_700, 4, TABLE, fwmark=TABLE, invert=True),
        Rule(15_700, 6, TABLE, fwmark=TABLE, invert=True),
        Rule(15_701, 4, 254, suppress_prefixlength=0),
        Rule(15_702, 4, 200, source="10.9.0.0/24", input_interface="lo"),
        Rule(15_702, 6, 200, source="fd09::/64"),
    ]
    box.settle(*rules)
    shown = {rule["priority"]: rule for rule in box.namespace.ip_json("-4 rule show")}
    assert shown[15_700]["table"] == str(TABLE)
    assert int(shown[15_700]["fwmark"], 16) == TABLE
    assert "not" in shown[15_700]
    assert shown[15_701]["suppress_prefixlen"] == 0
    assert (shown[15_702]["src"], shown[15_702]["srclen"], shown[15_702]["iif"]) == ("10.9.0.0", 24, "lo")
    box.settle(*rules[:2])
    assert 15_702 not in {rule["priority"] for rule in box.namespace.ip_json("-4 rule show")}
    box.settle()
    assert len(box.namespace.ip_json("-6 rule show")) == 2


def test_foreign_rules_are_left_alone(box: drivers.Box) -> None:
    box.namespace.ip(
        "rule add priority 15700 fwmark 5 lookup 200", "rule add priority 900 lookup 200 protocol 157"
    )
    before = box.namespace.ip_json("rule show")
    assert box.plan() == ()
    box.settle(Rule(15_700, 4, 200, fwmark=5))
    assert len(box.namespace.ip_json("rule show")) == len(before) + 1
    box.settle()
    assert box.namespace.ip_json("rule show") == before


def test_path_and_default_mtu(box: drivers.Box) -> None:
    box.namespace.ip(
        "link add eth0 mtu 1400 type veth peer name eth1",
        "address add 192.0.2.1/24 dev eth0",
        "address add 2001:db8::1/64 dev eth0 nodad",
        "link set eth0 up",
        "link set eth1 up",
    )
    assert box.observe().default_mtu == 1500
    box.namespace.ip(
        "route add default via 192.0.2.254",
        "route add 198.51.100.0/24 via 192.0.2.254 mtu 1300",
        "link add small mtu 1280 type veth peer name other",
        "link set small up",
        f"route add default dev small table {TABLE}",
        f"rule add priority 100 not fwmark {TABLE} lookup {TABLE}",
    )
    direct, metric = NetworkPath("203.0.113.1", TABLE), NetworkPath("198.51.100.1", TABLE)
    v6, nowhere = NetworkPath("2001:db8::2"), NetworkPath("2001:db8:9::1")
    through_tunnel = NetworkPath("203.0.113.1")
    seen = box.observe(Questions(paths=frozenset({direct, metric, v6, nowhere, through_tunnel})))
    assert seen.problems == ()
    assert seen.default_mtu == 1400
    assert seen.path_mtu == {direct: 1400, metric: 1300, v6: 1400, through_tunnel: 1280}


def test_sysctls_are_read_when_asked_and_written(box: drivers.Box) -> None:
    name = "net.ipv4.ip_forward"
    ask = Questions(sysctls=frozenset({name, "net.no.such"}))
    assert box.observe().state.of(Sysctl) == {}
    assert box.observe(ask).state.of(Sysctl) == {name: Sysctl(name, "0")}
    assert box.refused(Sysctl(name, "1")) == []
    assert box.observe(ask).state.of(Sysctl) == {name: Sysctl(name, "1")}
    assert box.namespace.exec("cat", "/proc/sys/net/ipv4/ip_forward").stdout.strip() == "1"
    (problem,) = box.refused(Sysctl("net.no.such", "1"))
    assert "net.no.such" in problem.message
    assert "--sysctl" in problem.hint


def test_a_sysctl_of_an_interface_with_a_dot() -> None:
    assert sysctl._path("net/ipv4/conf/eth0.1/rp_filter") == Path("/proc/sys/net/ipv4/conf/eth0.1/rp_filter")
    assert sysctl._path("net.ipv4.conf.eth0/1.rp_filter") == Path("/proc/sys/net/ipv4/conf/eth0.1/rp_filter")


def test_the_survey_names_what_is_in_use_by_whomever(box: drivers.Box) -> None:
    box.namespace.ip(
        "link add eth0 type veth peer name eth1",
        "address add 192.0.2.1/24 dev eth0",
        "address add 2001:db8::1/64 dev eth0 nodad",
        "link set eth0 up",
        "link set eth1 up",
        "route add 10.40.0.0/16 via 192.0.2.9 table 77",
        "route add default via 192.0.2.254",
    )
    box.settle(box.link(), drivers.device(box.interface, 4711), Address(box.interface, "10.9.0.1/24"))
    seen = in_namespace(box.namespace.name, box.host.survey)
    assert seen.prefixes >= {"192.0.2.0/24", "2001:db8::/64", "10.40.0.0/16", "10.9.0.0/24", "127.0.0.0/8"}
    assert not {"0.0.0.0/0", "::/0"} & seen.prefixes
    assert 4711 in seen.udp_ports
    assert seen.interfaces >= {"lo", "eth0", box.interface}
    assert seen.public_address == "192.0.2.1"


def test_the_survey_of_a_bare_namespace(box: drivers.Box) -> None:
    seen = in_namespace(box.namespace.name, box.host.survey)
    assert seen.public_address is None
    assert seen.prefixes <= {"127.0.0.0/8", "127.0.0.1/32", "::1/128"}


@pytest.mark.parametrize(
    "change",
    [
        "link add eth0 type veth peer name eth1",
        "address add 10.1.0.1/24 dev lo",
        "-6 address add fd01::1/64 dev lo",
        "route add unreachable 10.2.0.0/16",
        "-6 route add unreachable fd02::/64",
        "rule add priority 15790 lookup 99",
    ],
)
def test_a_change_makes_events_readable(box: drivers.Box, change: str) -> None:
    events = in_namespace(box.namespace.name, box.host.events)
    try:
        assert not readable(events, 0)
        box.namespace.exec("ip", *change.split())
        assert readable(events, 2)
        assert events.drain() > 0
        assert not readable(events, 0)
        assert events.drain() == 0
    finally:
        events.close()


def test_a_change_of_nftables_makes_events_readable(box: drivers.Box) -> None:
    events = in_namespace(box.namespace.name, box.host.events)
    try:
        box.namespace.nft("add", "table", "inet", "somebody")
        assert readable(events, 2)
    finally:
        events.close()


def readable(events: NetlinkEvents, seconds: float) -> bool:
    return bool(select.select([events], [], [], seconds)[0])


def test_the_errno_of_an_existing_object_is_not_shown_raw(box: drivers.Box) -> None:
    box.namespace.ip("route add unreachable 10.40.0.0/16")
    (problem,) = box.refused(Route("10.40.0.0/16", None))
    assert str(errno.EEXIST) not in problem.message
    assert "File exists" not in problem.message


def test_a_namespace_without_any_route_is_observed_whole(engine: str) -> None:
    """Such a namespace has no main table yet, and the kernel answers ENOENT to who asks for its routes."""
    namespace = Namespace(f"rwd-{new_name()}")
    run("ip", "netns", "add", namespace.name)
    try:
        host = drivers.new_host(namespace, drivers.setting(engine))
        seen = host.observe()
        host.close()
    finally:
        run("ip", "netns", "delete", namespace.name)
    assert seen.complete
    assert seen.problems == ()
