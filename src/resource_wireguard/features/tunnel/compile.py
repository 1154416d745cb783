"""Active tunnels as records of the host state. Pure: what the time is and what answered are facts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice

import msgspec
from msgspec.structs import replace

from resource_wireguard.errors import ConflictError
from resource_wireguard.host.facts import SESSION_LIFETIME, Facts, Path, Questions
from resource_wireguard.host.ownership import RULE_PRIORITY_FIRST, RULE_PRIORITY_LAST, mark_of
from resource_wireguard.host.state import (
    Address,
    Chain,
    Device,
    Link,
    NftRule,
    Peer,
    PeerEndpoint,
    Piece,
    Record,
    Route,
    Rule,
    Sysctl,
)
from resource_wireguard.model.net import (
    MTU_MAX,
    MTU_MIN,
    MTU_MIN_IPV6,
    WIREGUARD_OVERHEAD,
    Endpoint,
    covers,
    is_address,
    is_v6,
    network_of,
)
from resource_wireguard.model.specs import NO_TABLE, PeerSpec, Specs, TunnelSpec

DEFAULT_ROUTES = {4: "0.0.0.0/0", 6: "::/0"}

PATHS_MOST = 16
"""Paths whose MTU is asked for each tunnel: a hub of thousands dials few peers, and most share one path."""

SPECS_REMEMBERED = 16
"""Tunnels whose unchanging records are kept: passes follow each other with the same specs."""

MAIN_TABLE = 254

MAIN_FIRST = (RULE_PRIORITY_FIRST + RULE_PRIORITY_LAST) // 2
"""Priority of the rule that lets all but the default routes of the main table go before ours. The lower
half of our range stays free for rules that must come first, such as those that bind a network to a tunnel."""

CLAMP = Chain("clamp", "type filter hook forward priority -150; policy accept;")
FORWARD = Chain("forward", "type filter hook forward priority 0; policy accept;")
MASQUERADE = Chain("source-nat", "type nat hook postrouting priority 100; policy accept;")
SPOOFED = Chain("spoofed", "type filter hook prerouting priority -300; policy accept;")
MARK_IN = Chain("mark-in", "type filter hook prerouting priority -150; policy accept;")
MARK_OUT = Chain("mark-out", "type filter hook postrouting priority -150; policy accept;")


class _Lasting(msgspec.Struct, frozen=True):
    """What a spec says whatever the facts are; families are the IP versions whose default route it has."""

    families: tuple[int, ...]
    fwmark: int
    dialled: tuple[PeerSpec, ...]
    sysctls: tuple[Sysctl, ...]
    records: tuple[Record, ...]
    rules: tuple[NftRule, ...]
    netns: str | None


class _Same:
    """A spec that is equal only to itself: comparing ten thousand peers would cost what the memory spares.

    netns is the network namespace that its interface lies in.
    """

    __slots__ = ("netns", "tunnel")

    def __init__(self, tunnel: TunnelSpec, netns: str | None) -> None:
        self.tunnel = tunnel
        self.netns = netns

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.tunnel is self.tunnel and other.netns == self.netns

    def __hash__(self) -> int:
        return id(self.tunnel)


def compile_tunnels(specs: Specs, facts: Facts) -> Sequence[Piece]:
    """One piece for each active tunnel; ConflictError where two want to be the way to everywhere."""
    active = _active(specs)
    _refuse_two_defaults(active)
    return [_piece(tunnel, lasting, facts) for tunnel, lasting in active]


def questions(specs: Specs, resolved: Mapping[str, str]) -> Questions:
    """The MTU of the paths to the peers we dial, and the sysctls we may have to set."""
    active = _active(specs)
    unsized = [lasting for tunnel, lasting in active if tunnel.mtu is None]
    return Questions(
        paths=frozenset(path for lasting in unsized for path in _paths(lasting, resolved)),
        sysctls=frozenset(sysctl.name for _, lasting in active for sysctl in lasting.sysctls),
    )


def _active(specs: Specs) -> list[tuple[TunnelSpec, _Lasting]]:
    return [
        (tunnel, _lasting(_Same(tunnel, specs.netns_of(tunnel.name))))
        for tunnel in specs.tunnels
        if tunnel.active
    ]


def _piece(tunnel: TunnelSpec, lasting: _Lasting, facts: Facts) -> Piece:
    endpoints = (*_endpoints(tunnel, lasting.dialled, facts), *_lost_endpoints(tunnel, facts))
    link = _link(tunnel, _paths(lasting, facts.resolved), facts)
    changing = (replace(link, netns=lasting.netns), *endpoints)
    return Piece(tunnel.name, (*changing, *lasting.records), lasting.rules)


@lru_cache(maxsize=SPECS_REMEMBERED)
def _lasting(same: _Same) -> _Lasting:
    tunnel = _inside(same.tunnel) if same.netns else same.tunnel
    enabled = tuple(peer for peer in tunnel.peers if peer.enabled)
    families = _default_families(enabled) if tunnel.table is None else ()
    # Where there is a default route, a mark keeps the engine's packets out of its own tunnel.
    fwmark = tunnel.fwmark or (mark_of(tunnel.number) if families else 0)
    dialled = tuple(peer for peer in enabled if peer.endpoint)
    sysctls = tuple(_sysctls(tunnel, families))
    records = (
        Device(tunnel.interface, tunnel.private_key, tunnel.listen_port, fwmark),
        *(_peer(tunnel, peer) for peer in enabled),
        *(Address(tunnel.interface, address) for address in tunnel.addresses),
        *(replace(route, netns=same.netns) for route in _routes(tunnel, enabled)),
        *_rules(tunnel, families, fwmark),
        *sysctls,
    )
    rules = (*_exit_rules(tunnel), *_default_route_rules(tunnel, families, fwmark))
    return _Lasting(families, fwmark, dialled, sysctls, records, rules, same.netns)


def _inside(tunnel: TunnelSpec) -> TunnelSpec:
    """A tunnel in a network namespace is the only way there: all its routes lie in the main table of that
    namespace, where no packet of the engine can meet them, and it changes nothing of the host's."""
    return replace(tunnel, table=MAIN_TABLE, exit=False)


# Link and device ----------------------------------------------------------------------------------


def _link(tunnel: TunnelSpec, paths: Iterable[Path], facts: Facts) -> Link:
    """An interface that exists keeps its engine: a change of engine waits for the next activation."""
    seen = facts.observation.state.of(Link).get(tunnel.interface)
    kept = seen.engine if seen and seen.engine in ("kernel", "userspace") else None
    engine = kept or facts.observation.engine or "none"
    return Link(tunnel.interface, tunnel.name, engine, tunnel.mtu or _mtu(tunnel, paths, facts))


def _mtu(tunnel: TunnelSpec, paths: Iterable[Path], facts: Facts) -> int:
    """What the narrowest path to a peer leaves for a packet inside the tunnel, in bytes."""
    seen = facts.observation
    widths = [seen.path_mtu[path] for path in paths if path in seen.path_mtu]
    least = MTU_MIN_IPV6 if any(map(is_v6, tunnel.addresses)) else MTU_MIN
    return max(least, min(min(widths, default=seen.default_mtu), MTU_MAX) - WIREGUARD_OVERHEAD)


def _paths(lasting: _Lasting, resolved: Mapping[str, str]) -> Iterator[Path]:
    hosts = (peer.endpoint.host for peer in lasting.dialled if peer.endpoint)
    known = (resolved.get(host, host) for host in hosts if host in resolved or is_address(host))
    return (Path(address, lasting.fwmark) for address in islice(known, PATHS_MOST))


# Peers --------------------------------------------------------------------------------------------


def _peer(tunnel: TunnelSpec, peer: PeerSpec) -> Peer:
    return Peer(tunnel.interface, peer.public_key, peer.preshared_key, peer.keepalive, peer.allowed_ips)


def _endpoints(tunnel: TunnelSpec, peers: Iterable[PeerSpec], facts: Facts) -> Iterator[PeerEndpoint]:
    for peer in peers:
        if peer.endpoint is None:
            continue
        where = _live_endpoint(tunnel, peer, facts) or _told_endpoint(peer.endpoint, facts)
        if where:
            yield PeerEndpoint(tunnel.interface, peer.public_key, where)


def _live_endpoint(tunnel: TunnelSpec, peer: PeerSpec, facts: Facts) -> str | None:
    """Where a living session goes: it knows better than we do, unless we were told another place since."""
    seen = facts.observation.peers.get((tunnel.interface, peer.public_key))
    if seen is None or seen.latest_handshake is None:
        return None
    fresh = facts.now - seen.latest_handshake < SESSION_LIFETIME
    return seen.endpoint if fresh and seen.latest_handshake >= peer.endpoint_since else None


def _lost_endpoints(tunnel: TunnelSpec, facts: Facts) -> Iterator[PeerEndpoint]:
    """Where peers last called from, if their engine has died since: a new one can call them back at once."""
    heard = facts.heard.get(tunnel.interface, {})
    if tunnel.interface in facts.observation.state.of(Device):
        return
    for peer in tunnel.peers:
        lost = heard.get((tunnel.interface, peer.public_key))
        if not peer.enabled or peer.endpoint or lost is None or lost.endpoint is None:
            continue
        if lost.latest_handshake and facts.now - lost.latest_handshake < SESSION_LIFETIME:
            yield PeerEndpoint(tunnel.interface, peer.public_key, lost.endpoint)


def _told_endpoint(endpoint: Endpoint, facts: Facts) -> str | None:
    """The endpoint as address and port; None for a name that is not resolved yet."""
    address = facts.resolved.get(endpoint.host)
    if address:
        return str(Endpoint(address, endpoint.port))
    return None if endpoint.is_name else str(endpoint)


# Routes and rules ---------------------------------------------------------------------------------


def _routes(tunnel: TunnelSpec, peers: Iterable[PeerSpec]) -> Iterator[Route]:
    """As wg-quick(8), Table: the main table has the networks of the addresses already, another has not."""
    if tunnel.table == NO_TABLE:
        return
    elsewhere = tunnel.table not in (None, MAIN_TABLE)
    networks = () if elsewhere else tuple(map(network_of, tunnel.addresses))
    for peer in peers:
        for prefix in _beyond(peer.allowed_ips, networks):
            yield Route(prefix, tunnel.interface, tunnel.table or _table_for(tunnel, prefix))


def _table_for(tunnel: TunnelSpec, prefix: str) -> int:
    return mark_of(tunnel.number) if prefix.endswith("/0") else MAIN_TABLE


@lru_cache(maxsize=1 << 16)
def _beyond(allowed_ips: frozenset[str], networks: tuple[str, ...]) -> tuple[str, ...]:
    """The allowed IPs that the addresses' own networks do not lead to already."""
    return tuple(
        sorted(prefix for prefix in allowed_ips if not any(covers(network, prefix) for network in networks))
    )


def _default_families(peers: Sequence[PeerSpec]) -> tuple[int, ...]:
    return tuple(
        family
        for family, default in DEFAULT_ROUTES.items()
        if any(default in peer.allowed_ips for peer in peers)
    )


def _rules(tunnel: TunnelSpec, families: Iterable[int], fwmark: int) -> Iterator[Rule]:
    """What wg-quick(8) does for default routes: all but the engine's own packets look into our table."""
    table = mark_of(tunnel.number)
    ours = MAIN_FIRST + 1 + tunnel.number % (RULE_PRIORITY_LAST - MAIN_FIRST)
    for family in families:
        yield Rule(MAIN_FIRST, family, MAIN_TABLE, suppress_prefixlength=0)
        yield Rule(ours, family, table, fwmark=fwmark, invert=True)


def _refuse_two_defaults(tunnels: Iterable[tuple[TunnelSpec, _Lasting]]) -> None:
    """Each would carry the other's packets, and those the first one's again."""
    holders: dict[int, str] = {}
    for tunnel, lasting in tunnels:
        for family in lasting.families:
            held = holders.setdefault(family, tunnel.name)
            if held != tunnel.name:
                raise ConflictError(
                    f"tunnels '{held}' and '{tunnel.name}' both have the default route "
                    f"{DEFAULT_ROUTES[family]}",
                    "deactivate one of them, or give its peer narrower routes",
                )


# Forwarding and firewall --------------------------------------------------------------------------


def _sysctls(tunnel: TunnelSpec, families: Iterable[int]) -> Iterator[Sysctl]:
    if tunnel.exit:
        yield Sysctl("net.ipv4.ip_forward", "1")
        if any(map(is_v6, tunnel.addresses)):
            yield Sysctl("net.ipv6.conf.all.forwarding", "1")
    if 4 in families:
        yield Sysctl("net.ipv4.conf.all.src_valid_mark", "1")


def _exit_rules(tunnel: TunnelSpec) -> Iterator[NftRule]:
    """An exit forwards for its peers, under its own address outside, in segments that fit both ways."""
    if not tunnel.exit:
        return
    device = f'"{tunnel.interface}"'
    for way in ("iifname", "oifname"):
        yield NftRule(CLAMP, f"{way} {device} tcp flags syn tcp option maxseg size set rt mtu")
        yield NftRule(FORWARD, f"{way} {device} accept")
    for network in map(network_of, tunnel.addresses):
        yield NftRule(
            MASQUERADE,
            f"{_protocol(network)} saddr {_without_host_length(network)} oifname != {device} masquerade",
        )


def _default_route_rules(tunnel: TunnelSpec, families: Sequence[int], fwmark: int) -> Iterator[NftRule]:
    """The rest of wg-quick's way: replies to the engine keep its mark (so that strict reverse path
    filters let them in), and nobody beside the tunnel may speak to our address in it."""
    if not families:
        return
    mark = f"0x{fwmark:08x}"
    yield NftRule(MARK_IN, f"meta l4proto 17 ct mark {mark} meta mark set ct mark")
    yield NftRule(MARK_OUT, f"meta l4proto 17 meta mark {mark} ct mark set meta mark")
    for address in tunnel.addresses:
        if (6 if is_v6(address) else 4) in families:
            ip = address.partition("/")[0]
            yield NftRule(
                SPOOFED,
                f'iifname != "{tunnel.interface}" {_protocol(ip)} daddr {ip} fib saddr type != local drop',
            )


def _protocol(text: str) -> str:
    return "ip6" if is_v6(text) else "ip"


def _without_host_length(network: str) -> str:
    """nft(8) lists '10.0.0.1/32' as '10.0.0.1'."""
    return network.removesuffix("/128" if is_v6(network) else "/32")
