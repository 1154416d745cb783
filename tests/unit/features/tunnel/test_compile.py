"""From specs and facts to records, and rules that nft lists back word for word."""

import subprocess
from typing import Any

import msgspec
import pytest
from tests.unit.worlds import key_of

from resource_wireguard.errors import ConflictError
from resource_wireguard.features.tunnel.compile import PATHS_MOST, compile_tunnels, questions
from resource_wireguard.host.facts import SESSION_LIFETIME, Facts, Observation, Path, PeerFacts
from resource_wireguard.host.ownership import (
    NFT_TABLE,
    RULE_PRIORITY_FIRST,
    RULE_PRIORITY_LAST,
    mark_of,
)
from resource_wireguard.host.state import (
    Device,
    HostState,
    Link,
    Peer,
    PeerEndpoint,
    Route,
    Rule,
    Sysctl,
    Table,
    build,
    state_of,
)
from resource_wireguard.model.keys import PrivateKey
from resource_wireguard.model.net import Endpoint
from resource_wireguard.model.specs import (
    NO_TABLE,
    NOTHING_FURTHER,
    Further,
    NamespaceSpec,
    PeerSpec,
    Specs,
    TunnelSpec,
)

NOW = 1_000_000.0
PRIVATE = PrivateKey(b"p" * 32)


def tunnel(*peers: PeerSpec, name: str = "home", number: int = 1, **more: Any) -> TunnelSpec:
    return TunnelSpec(
        **{
            "name": name,
            "number": number,
            "interface": f"wg-{name}",
            "private_key": PRIVATE,
            "public_key": PRIVATE.public(),
            "listen_port": 51819 + number,
            "addresses": (f"10.13.{number}.1/24", f"fd00:0:0:{number}::1/64"),
            "active": True,
            "peers": peers,
            **more,
        }
    )


def peer(name: str = "phone", *allowed: str, endpoint: str | None = None, **more: Any) -> PeerSpec:
    host, _, port = (endpoint or "").rpartition(":")
    told = Endpoint(host, int(port)) if endpoint else None
    return PeerSpec(name=name, public_key=key_of(name), allowed_ips=frozenset(allowed), endpoint=told, **more)


def compiled(
    *tunnels: TunnelSpec, facts: Facts | None = None, further: Further = NOTHING_FURTHER
) -> HostState:
    specs = Specs({"tunnel": tunnels, "rotate": {tunnel.name: further for tunnel in tunnels}})
    return build(compile_tunnels(specs, facts or Facts(NOW)))


def facts_of(name: str = "phone", **more: Any) -> Facts:
    known = {("wg-home", key_of(name)): PeerFacts(**more)}
    return Facts(NOW, Observation(peers=known), {"vpn.example.org": "192.0.2.8"})


def endpoints(state: HostState) -> list[str]:
    return [endpoint.endpoint for endpoint in state.of(PeerEndpoint).values()]


def test_only_active_tunnels_and_enabled_peers() -> None:
    state = compiled(tunnel(peer("a"), peer("b", enabled=False)), tunnel(name="off", number=2, active=False))
    assert list(state.of(Link)) == ["wg-home"]
    assert [found.public_key for found in state.of(Peer).values()] == [key_of("a")]


@pytest.mark.parametrize(
    ("seen", "available", "engine"),
    [
        (None, "kernel", "kernel"),
        ("userspace", "kernel", "userspace"),
        ("", "kernel", "kernel"),
        (None, None, "none"),
    ],
)
def test_an_interface_keeps_its_engine(seen: str | None, available: str | None, engine: str) -> None:
    links = [Link("wg-home", "home", seen, 1420)] if seen is not None else []
    facts = Facts(NOW, Observation(state_of(links), engine=available))
    assert compiled(tunnel(), facts=facts).of(Link)["wg-home"].engine == engine


# Endpoints --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "handshake", "since", "wanted"),
    [
        ("192.0.2.9:1", NOW - 10, 0.0, ["198.51.100.7:2"]),  # a living session knows best
        ("192.0.2.9:1", NOW - SESSION_LIFETIME, 0.0, ["192.0.2.9:1"]),  # a dead one does not
        ("192.0.2.9:1", NOW - 10, NOW - 5, ["192.0.2.9:1"]),  # nor one from before we were told
        ("192.0.2.9:1", None, 0.0, ["192.0.2.9:1"]),
        ("2001:db8::9:1", None, 0.0, ["[2001:db8::9]:1"]),
        ("vpn.example.org:1", None, 0.0, ["192.0.2.8:1"]),
        ("unknown.example.org:1", None, 0.0, []),  # not resolved yet: nothing to say
        (None, NOW - 10, 0.0, []),  # never told: whatever the device learned is right
    ],
)
def test_where_a_peer_is(told: str | None, handshake: float | None, since: float, wanted: list[str]) -> None:
    spec = tunnel(peer(endpoint=told, endpoint_since=since))
    assert (
        endpoints(compiled(spec, facts=facts_of(endpoint="198.51.100.7:2", latest_handshake=handshake)))
        == wanted
    )


# MTU --------------------------------------------------------------------------------------------


def test_the_narrowest_path_decides() -> None:
    spec = tunnel(peer("a", endpoint="192.0.2.1:1"), peer("b", endpoint="192.0.2.2:1"))
    widths = {Path("192.0.2.1"): 1500, Path("192.0.2.2"): 1400}
    assert questions(Specs({"tunnel": (spec,)}), {}).paths == set(widths)
    facts = Facts(NOW, Observation(path_mtu=widths, default_mtu=9000))
    assert compiled(spec, facts=facts).of(Link)["wg-home"].mtu == 1320


@pytest.mark.parametrize(
    ("addresses", "given", "default", "mtu"),
    [
        (("10.0.0.1/24",), None, 1500, 1420),
        (("10.0.0.1/24",), None, 65_536, 65_455),
        (("10.0.0.1/24",), None, 1280, 1200),
        (("10.0.0.1/24", "fd00::1/64"), None, 1280, 1280),  # with less the kernel takes the IPv6 address away
        (("10.0.0.1/24",), 1300, 1500, 1300),
    ],
)
def test_mtu_without_paths(addresses: tuple[str, ...], given: int | None, default: int, mtu: int) -> None:
    facts = Facts(NOW, Observation(default_mtu=default))
    spec = tunnel(addresses=addresses, mtu=given)
    assert compiled(spec, facts=facts).of(Link)["wg-home"].mtu == mtu


def test_paths_are_few_and_numeric() -> None:
    many = [peer(f"p{n}", endpoint=f"192.0.2.{n}:1") for n in range(100)]
    spec = tunnel(peer("name", endpoint="vpn.example.org:1"), *many)
    paths = questions(Specs({"tunnel": (spec,)}), {}).paths
    assert len(paths) == PATHS_MOST
    assert "vpn.example.org" not in {path.address for path in paths}


def test_the_path_to_a_name_is_asked_once_it_is_resolved() -> None:
    spec = tunnel(peer("site", endpoint="vpn.example.org:1"))
    resolved = {"vpn.example.org": "192.0.2.1"}
    assert questions(Specs({"tunnel": (spec,)}), {}).paths == set()
    assert questions(Specs({"tunnel": (spec,)}), resolved).paths == {Path("192.0.2.1")}
    facts = Facts(NOW, Observation(path_mtu={Path("192.0.2.1"): 1380}), resolved)
    assert compiled(spec, facts=facts).of(Link)["wg-home"].mtu == 1300


# Routes and rules -------------------------------------------------------------------------------


def test_only_what_the_addresses_do_not_lead_to_is_routed() -> None:
    spec = tunnel(peer("site", "10.13.1.2/32", "fd00:0:0:1::2/128", "192.168.7.0/24", "10.13.0.0/16"))
    assert {route.prefix for route in compiled(spec).of(Route).values()} == {"192.168.7.0/24", "10.13.0.0/16"}


def test_a_default_route_goes_the_way_of_wg_quick() -> None:
    state = compiled(tunnel(peer("out", "0.0.0.0/0", "::/0"), number=7))
    mark = mark_of(7)
    assert state.of(Device)["wg-home"].fwmark == mark
    assert {(r.prefix, r.table) for r in state.of(Route).values()} == {("0.0.0.0/0", mark), ("::/0", mark)}
    for family in (4, 6):
        main, ours = sorted(
            (r for r in state.of(Rule).values() if r.family == family), key=lambda r: r.priority
        )
        assert (main.table, main.suppress_prefixlength) == (254, 0)
        assert (ours.table, ours.fwmark, ours.invert) == (mark, mark, True)
        assert RULE_PRIORITY_FIRST <= main.priority < ours.priority <= RULE_PRIORITY_LAST
    assert state.of(Sysctl)["net.ipv4.conf.all.src_valid_mark"].value == "1"


def test_without_a_default_route_nothing_is_marked() -> None:
    state = compiled(tunnel(peer("out", "0.0.0.0/0", enabled=False)))
    assert state.of(Device)["wg-home"].fwmark == 0
    assert not state.of(Rule)
    assert not state.of(Table)


def test_priorities_stay_in_our_range_for_any_number() -> None:
    for number in (*range(1, 120), 65_535):
        spec = msgspec.structs.replace(tunnel(peer("out", "::/0")), number=number)
        for rule in compiled(spec).of(Rule).values():
            assert RULE_PRIORITY_FIRST <= rule.priority <= RULE_PRIORITY_LAST


def test_two_ways_to_everywhere_are_refused() -> None:
    one, two = tunnel(peer("out", "::/0")), tunnel(peer("out", "::/0"), name="work", number=2)
    with pytest.raises(ConflictError, match="'home' and 'work' both have the default route ::/0"):
        compiled(one, two)
    compiled(one, msgspec.structs.replace(two, peers=(peer("out", "0.0.0.0/0"),)))
    compiled(one, msgspec.structs.replace(two, active=False))


# Firewall ---------------------------------------------------------------------------------------


def test_nft_lists_our_rules_word_for_word() -> None:
    """A text that nft would print in other words would be drift for ever."""
    state = compiled(
        tunnel(exit=True),
        tunnel(
            peer("out", "0.0.0.0/0", "::/0"),
            name="work",
            number=2,
            exit=True,
            addresses=("10.9.0.1/32", "fd09::1/128", "10.8.0.5/29"),
        ),
    )
    (table,) = state.of(Table).values()
    script, listed = listed_by_nft(table)
    assert listed == script


def listed_by_nft(table: Table) -> tuple[list[str], list[str]]:
    """A table as we write it, and as nft lists it then."""
    script = f"table {table.family} {NFT_TABLE} {{\n"
    for chain, rules in table.chains:
        lines = "".join(f"\t\t{line}\n" for line in (chain.hook, *rules))
        script += f"\tchain {chain.name} {{\n{lines}\t}}\n"
    argv = ["unshare", "-n", "sh", "-c", f"nft -f - && nft -s -y -p list table {table.family} {NFT_TABLE}"]
    done = subprocess.run(argv, input=script + "}\n", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (script + "}").splitlines(), [line for line in done.stdout.splitlines() if line]


def test_an_exit_masquerades_never_into_itself_and_forwards() -> None:
    state = compiled(tunnel(exit=True))
    assert {sysctl.name for sysctl in state.of(Sysctl).values()} == {
        "net.ipv4.ip_forward",
        "net.ipv6.conf.all.forwarding",
    }
    assert questions(Specs({"tunnel": (tunnel(exit=True),)}), {}).sysctls == set(state.of(Sysctl))
    rules = [rule for _, rules in state.of(Table)["inet"].chains for rule in rules if "masquerade" in rule]
    assert len(rules) == 2
    assert all('oifname != "wg-home"' in rule for rule in rules)


def test_an_exit_without_ipv6_does_not_turn_its_forwarding_on() -> None:
    state = compiled(tunnel(exit=True, addresses=("10.0.0.1/24",)))
    assert list(state.of(Sysctl)) == ["net.ipv4.ip_forward"]


def test_the_same_spec_is_compiled_once_and_a_new_one_anew() -> None:
    spec = tunnel(peer("a", "10.13.1.2/32"))
    first, again = (compiled(spec).of(Peer) for _ in range(2))
    assert all(first[key] is again[key] for key in first)
    changed = msgspec.structs.replace(spec, peers=())
    assert not compiled(changed).of(Peer)


@pytest.mark.parametrize("table", [None, NO_TABLE, 42])
def test_a_tunnel_in_a_network_namespace_touches_nothing_of_the_host(table: int | None) -> None:
    site = peer("site", "0.0.0.0/0", "::/0", "10.9.0.0/16", endpoint="192.0.2.1:51820")
    one, two = tunnel(site, exit=True, table=table), tunnel(site, name="other", number=2)
    work = NamespaceSpec(name="work", number=1, kind="netns", tunnel="home")
    specs = Specs({"tunnel": (one, two), "isolation": (work,)})
    state = build(compile_tunnels(specs, Facts(0.0)))  # two ways to everywhere, each in its own place
    inside = [route for route in state.of(Route).values() if route.interface == one.interface]
    assert {(route.prefix, route.table, route.netns) for route in inside} == {
        ("0.0.0.0/0", 254, "wg-work"), ("::/0", 254, "wg-work"), ("10.9.0.0/16", 254, "wg-work"),
    }  # fmt: skip
    assert state.of(Link)[one.interface].netns == "wg-work"
    assert state.of(Link)[two.interface].netns is None
    alone = build(compile_tunnels(Specs({"tunnel": (two,)}), Facts(0.0)))
    for kind in (Rule, Sysctl, Table):
        assert state.of(kind) == alone.of(kind)
    assert state.of(Device)[one.interface].fwmark == 0


def test_a_namespace_that_goes_leaves_its_tunnel_to_the_host() -> None:
    one = tunnel(peer("site", "10.9.0.0/16"))
    work = NamespaceSpec(name="work", number=1, kind="netns", tunnel="home")
    places = [
        build(compile_tunnels(Specs({"tunnel": (one,), "isolation": kept}), Facts(0.0))).of(Link)
        for kept in ((work,), (), (msgspec.structs.replace(work, kind="docker"),))
    ]
    assert [links[one.interface].netns for links in places] == ["wg-work", None, None]
