"""A tunnel with several devices: where each peer is, and what lies on which, over any life of its peers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.features.tunnel.test_compile import NOW, compiled, listed_by_nft, peer, tunnel
from tests.unit.worlds import key_of, private_key_of, run_pass

from resource_wireguard.features.tunnel.compile import compile_tunnels, questions
from resource_wireguard.host.facts import Facts, Observation, PeerFacts
from resource_wireguard.host.state import Address, Device, Link, Peer, Route, Sysctl, Table, state_of
from resource_wireguard.model.specs import DeviceSpec, Further, Seat, Specs, TunnelSpec
from resource_wireguard.system.fake import FakeHost

PHONE, SITE = ("10.13.1.2/32", "fd00:0:0:1::2/128"), ("10.13.1.3/32", "192.168.7.0/24")
HOME = tunnel(peer("phone", *PHONE), peer("site", *SITE, keepalive=25), exit=True)

NEW = DeviceSpec(
    interface="wg-homer",
    private_key=private_key_of("new"),
    public_key=private_key_of("new").public(),
    listen_port=51999,
    successor=True,
)
SIDE = DeviceSpec(
    interface="wg-side",
    private_key=HOME.private_key,
    public_key=HOME.public_key,
    listen_port=52000,
    seats=(Seat(peer="site", public_key=key_of("site2"), keepalive=1),),
)
STAGED = Seat(peer="phone", public_key=key_of("phone2"))

FURTHER = [
    Further(),
    Further((NEW,)),
    Further((), (STAGED,)),
    Further((SIDE,)),
    Further((NEW, SIDE), (STAGED,)),
]


def specs_of(further: Further, home: TunnelSpec = HOME) -> Specs:
    return Specs({"tunnel": (home,), "rotate": {"home": further}})


def shaken(specs: Specs, times: dict[tuple[str, Any], float], **more: Any) -> Facts:
    known = {place: PeerFacts(latest_handshake=at) for place, at in times.items()}
    return Facts(NOW, Observation(peers=known, **more))


def places(specs: Specs) -> list[tuple[str, Any]]:
    return [place for one in HOME.peers for place in specs.places(HOME, one)]


@st.composite
def lives(draw: st.DrawFn) -> tuple[Specs, list[dict[tuple[str, Any], float]]]:
    """Any tunnel, and handshakes at several moments."""
    specs = specs_of(draw(st.sampled_from(FURTHER)))
    some = st.dictionaries(st.sampled_from(places(specs)), st.sampled_from([1.0, 2.0, 3.0]))
    return specs, draw(st.lists(some, min_size=1, max_size=4))


@given(lives())
def test_each_peer_is_where_it_shook_hands_last(
    life: tuple[Specs, list[dict[tuple[str, Any], float]]],
) -> None:
    """On each device its prefixes lie with one key; they are routed to one device; quiet is who was left."""
    specs, moments = life
    for times in moments:
        state = compiled(*specs.tunnels, facts=shaken(specs, times), further=specs.further("home"))
        for one in HOME.peers:
            known = specs.places(HOME, one)
            latest = max(known, key=lambda place: (times.get(place, 0.0), -known.index(place)))
            peers = {place: state.of(Peer)[place] for place in known}
            assert peers[latest].allowed_ips == one.allowed_ips
            for interface in {interface for interface, _ in known}:
                held = [peers[place].allowed_ips for place in known if place[0] == interface]
                assert sorted(map(len, held)) == [0] * (len(held) - 1) + [len(one.allowed_ips)]
            assert all(peers[place].keepalive == 0 for place in known[: known.index(latest)])
            for prefix in one.allowed_ips:
                by_network = latest[0] == "wg-home" and prefix != "192.168.7.0/24"
                route = state.of(Route).get((prefix, 254, 0, None))
                assert (route is None) if by_network else (route and route.interface == latest[0])


@given(lives())
def test_whatever_happens_the_kernel_takes_each_plan_and_is_right_after_one_pass(
    life: tuple[Specs, list[dict[tuple[str, Any], float]]],
) -> None:
    specs, moments = life
    host = FakeHost()
    for times in [{}, *moments]:
        facts = shaken(specs, times, engine="kernel")
        report = run_pass(host, compile_tunnels(specs, facts))
        assert not report.drift, report.problems


@given(lives())
def test_no_peer_is_without_a_way_while_it_moves(
    life: tuple[Specs, list[dict[tuple[str, Any], float]]],
) -> None:
    """No plan of a move takes away a route that is wanted before or after, or an address or a link."""
    specs, moments = life
    host = FakeHost()
    run_pass(host, compile_tunnels(specs, shaken(specs, {}, engine="kernel")))
    for times in moments:
        facts = shaken(specs, times, engine="kernel")
        report = run_pass(host, compile_tunnels(specs, facts))
        gone = [action.before for action in report.done if action.verb == "delete"]
        assert all(isinstance(record, Route) and record.prefix.endswith(("/32", "/128")) for record in gone)


@pytest.mark.parametrize("holds", [True, False])
def test_who_holds_the_prefixes_can_be_told(holds: bool) -> None:
    """To move them before a key is used: what comes with the new key is then never refused."""
    told = Seat(peer="phone", public_key=key_of("phone2"), holds=holds)
    specs = specs_of(Further((), (told,)))
    old, new = specs.places(HOME, HOME.peer("phone"))
    times = {old: 5.0} if holds else {old: 5.0, new: 9.0}
    state = compiled(HOME, facts=shaken(specs, times), further=specs.further("home"))
    assert bool(state.of(Peer)[new].allowed_ips) is holds
    assert bool(state.of(Peer)[old].allowed_ips) is not holds


def test_all_devices_have_the_addresses_and_one_brings_the_route() -> None:
    state = compiled(HOME, further=Further((NEW,)))
    bare = {key: address.bare for key, address in state.of(Address).items()}
    assert bare == {(i, a): i == "wg-homer" for i in ("wg-home", "wg-homer") for a in HOME.addresses}
    assert {link.tunnel for link in state.of(Link).values()} == {"home"}
    assert [device.listen_port for device in state.of(Device).values()] == [51820, 51999]


def test_what_an_address_brought_along_is_settled() -> None:
    """An adopted interface may have addresses that are bare: to make them anew would lose packets."""
    seen = Address("wg-home", HOME.addresses[0], bare=True)
    facts = Facts(NOW, Observation(state_of([seen])))
    assert compiled(HOME, facts=facts).of(Address)[seen.key] is seen


def test_later_generations_have_routes_of_their_own_to_their_networks() -> None:
    home = tunnel(generation=1, addresses=("10.13.1.1/24", "10.99.0.1/16", "10.0.0.9/32", "fd00::1/64"))
    routes = {(r.prefix, r.metric, r.source) for r in compiled(home).of(Route).values()}
    assert routes == {
        ("10.13.1.0/24", 0, "10.13.1.1"),
        ("10.99.0.0/16", 0, "10.99.0.1"),
        ("fd00::/64", 256, None),
    }


def test_nft_lists_the_rules_of_two_devices_word_for_word() -> None:
    out = tunnel(peer("out", "0.0.0.0/0", "::/0"), exit=True)
    (table,) = compiled(out, further=Further((NEW, SIDE))).of(Table).values()
    script, listed = listed_by_nft(table)
    assert listed == script
    (spoofed, *_) = (rules for chain, rules in table.chains if chain.name == "spoofed")
    assert 'iifname != "wg-home" iifname != "wg-homer" iifname != "wg-side" ip daddr' in spoofed[0]


@pytest.mark.parametrize(
    ("values", "loosened"),
    [
        ({"all": "1"}, True),
        ({"all": "0", "default": "1"}, True),
        ({"all": "0", "wg-home": "1"}, True),
        ({"all": "2", "default": "1"}, False),
        ({"all": "0", "default": "0", "wg-home": "2"}, False),
        ({}, False),
    ],
)
def test_strict_reverse_path_filters_are_loosened_on_both(values: dict[str, str], loosened: bool) -> None:
    settings = [Sysctl(f"net/ipv4/conf/{name}/rp_filter", value) for name, value in values.items()]
    facts = Facts(NOW, Observation(state_of(settings)))
    plain = tunnel(peer("phone", *PHONE))
    state = compiled(plain, facts=facts, further=Further((NEW,)))
    wanted = {f"net/ipv4/conf/{name}/rp_filter" for name in ("wg-home", "wg-homer")}
    assert set(state.of(Sysctl)) == (wanted if loosened else set())
    assert wanted < questions(specs_of(Further((NEW,)), plain), {}).sysctls
    assert not compiled(plain, facts=facts).of(Sysctl)
