"""Active tunnels as records of the host state. Pure: what the time is and what answered are facts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice

import msgspec
from msgspec.structs import replace

from resource_wireguard.errors import ConflictError
from resource_wireguard.features.tunnel.devices import (
    FIRST_GUESS,
    Key,
    Whereabouts,
    devices_of,
    enabled_peers,
    sitting,
    whereabouts,
)
from resource_wireguard.features.tunnel.firewall import default_route_rules, exit_rules, sysctls
from resource_wireguard.host.facts import SESSION_LIFETIME, Facts, Path, Questions
from resource_wireguard.host.ownership import RULE_PRIORITY_FIRST, RULE_PRIORITY_LAST, mark_of
from resource_wireguard.host.state import (
    Address,
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
from resource_wireguard.model.specs import NO_TABLE, DeviceSpec, Further, PeerSpec, Specs, TunnelSpec

DEFAULT_ROUTES = {4: "0.0.0.0/0", 6: "::/0"}

PATHS_MOST = 16
"""Paths whose MTU is asked for each tunnel: a hub of thousands dials few peers, and most share one path."""

SPECS_REMEMBERED = 16
"""Tunnels whose unchanging records are kept: passes follow each other with the same specs."""

MAIN_TABLE = 254

PREFIX_ROUTE_METRIC = 256
"""Of the routes that IPv6 addresses bring along (IP6_RT_PRIO_ADDRCONF)."""

LOOSE = "2"
"""rp_filter: the source must be reachable, by whatever interface (RFC 3704, section 2.4)."""

MAIN_FIRST = (RULE_PRIORITY_FIRST + RULE_PRIORITY_LAST) // 2
"""Priority of the rule that lets all but the default routes of the main table go before ours. The lower
half of our range stays free for rules that must come first, such as those that bind a network to a tunnel."""


class _Lasting(msgspec.Struct, frozen=True):
    """What a spec says whatever the facts are; families are the IP versions whose default route it has."""

    devices: tuple[DeviceSpec, ...]
    families: tuple[int, ...]
    fwmark: int
    dialled: tuple[tuple[str, Key], ...]
    sysctls: tuple[Sysctl, ...]
    records: tuple[Record, ...]
    rules: tuple[NftRule, ...]


class _Same:
    """A spec that is equal only to itself: comparing ten thousand peers would cost what the memory spares."""

    __slots__ = ("further", "netns", "tunnel")

    def __init__(self, tunnel: TunnelSpec, further: Further, netns: str | None) -> None:
        self.tunnel = tunnel
        self.further = further
        self.netns = netns

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Same) or other.netns != self.netns:
            return False
        return other.tunnel is self.tunnel and other.further is self.further

    def __hash__(self) -> int:
        return id(self.tunnel)


def compile_tunnels(specs: Specs, facts: Facts) -> Sequence[Piece]:
    """One piece for each active tunnel; ConflictError where two want to be the way to everywhere."""
    active = [(same, _lasting(same)) for same in _active(specs)]
    _refuse_two_defaults(active)
    return [_piece(same, lasting, facts) for same, lasting in active]


def questions(specs: Specs, resolved: Mapping[str, str]) -> Questions:
    """The MTU of the paths to the peers we dial, and the sysctls we may have to set."""
    active = [(same.tunnel, _lasting(same)) for same in _active(specs)]
    unsized = [lasting for tunnel, lasting in active if tunnel.mtu is None]
    named = frozenset(sysctl.name for _, lasting in active for sysctl in lasting.sysctls)
    return Questions(
        paths=frozenset(path for lasting in unsized for path in _paths(lasting, resolved)),
        sysctls=named.union(name for _, lasting in active for name in _reverse_path_filters(lasting)),
    )


def _active(specs: Specs) -> list[_Same]:
    active = []
    for tunnel in specs.tunnels:
        if tunnel.active:
            same = _Same(tunnel, specs.further(tunnel.name), specs.netns_of(tunnel.name))
            active.append(_inside(same) if same.netns else same)
    return active


@lru_cache(maxsize=SPECS_REMEMBERED)
def _inside(same: _Same) -> _Same:
    """A tunnel in a network namespace is the only way there: all its routes lie in the main table of that
    namespace, where no packet of the engine can meet them, and it changes nothing of the host's."""
    return _Same(replace(same.tunnel, table=MAIN_TABLE, exit=False), same.further, same.netns)


def _piece(same: _Same, lasting: _Lasting, facts: Facts) -> Piece:
    tunnel = same.tunnel
    mtu = tunnel.mtu or _mtu(tunnel, _paths(lasting, facts.resolved), facts)
    changing = (
        *(_link(tunnel, device.interface, mtu, facts) for device in lasting.devices),
        *_endpoints(lasting.dialled, facts),
        *_lost_endpoints(same, lasting, facts),
        *(address for device in lasting.devices for address in _addresses(tunnel, device, facts)),
        *_loosened(lasting, facts),
        *_placed(same, whereabouts(tunnel, same.further, facts)),
    )
    records = (*changing, *lasting.records)
    return Piece(tunnel.name, _there(records, same.netns) if same.netns else records, lasting.rules)


def _there(records: Iterable[Record], netns: str) -> tuple[Record, ...]:
    """The same in a network namespace; the settings of the host are not those of its interfaces."""
    kept = (record for record in records if not isinstance(record, Sysctl))
    return tuple(replace(r, netns=netns) if isinstance(r, Link | Route) else r for r in kept)


@lru_cache(maxsize=SPECS_REMEMBERED)
def _lasting(same: _Same) -> _Lasting:
    tunnel, devices, enabled = same.tunnel, devices_of(same.tunnel, same.further), enabled_peers(same.tunnel)
    families = _default_families(enabled) if tunnel.table is None else ()
    # Where there is a default route, a mark keeps the engine's packets out of its own tunnel.
    fwmark = tunnel.fwmark or (mark_of(tunnel.number) if families else 0)
    interfaces = [device.interface for device in devices]
    settings = tuple(sysctls(tunnel, families))
    records = (
        *(Device(device.interface, device.key_of(tunnel), device.listen_port, fwmark) for device in devices),
        *_network_routes(tunnel),
        *_rules(tunnel, families, fwmark),
        *settings,
    )
    rules = (
        *exit_rules(tunnel, interfaces),
        *default_route_rules(tunnel, interfaces, families, fwmark),
    )
    dialled = tuple(
        (device.interface, key)
        for device in devices
        for _, keys in sitting(device, enabled, same.further)
        for key in keys
        if key.endpoint
    )
    return _Lasting(devices, families, fwmark, dialled, settings, records, rules)


@lru_cache(maxsize=SPECS_REMEMBERED)
def _placed(same: _Same, where: Whereabouts) -> tuple[Record, ...]:
    """The peers on their devices and the routes to them."""
    enabled = enabled_peers(same.tunnel)
    peers = (
        record
        for device in devices_of(same.tunnel, same.further)
        for peer, keys in sitting(device, enabled, same.further)
        for record in _peers(device.interface, peer, keys, where)
    )
    return (*peers, *_routes(same.tunnel, enabled, dict(where.routed)))


# Link and device ----------------------------------------------------------------------------------


def _link(tunnel: TunnelSpec, interface: str, mtu: int, facts: Facts) -> Link:
    """An interface that exists keeps its engine: a change of engine waits for the next activation."""
    seen = facts.observation.state.of(Link).get(interface)
    kept = seen.engine if seen and seen.engine in ("kernel", "userspace") else None
    engine = kept or facts.observation.engine or "none"
    return Link(interface, tunnel.name, engine, mtu)


def _addresses(tunnel: TunnelSpec, device: DeviceSpec, facts: Facts) -> Iterator[Address]:
    """The first device's addresses bring the routes to their networks along, unless it came later.

    What an address that exists brought along is settled: the kernel decides it once.
    """
    bare = tunnel.generation > 0 or device.interface != tunnel.interface
    there = facts.observation.state.of(Address)
    for address in tunnel.addresses:
        seen = there.get((device.interface, address))
        yield seen or Address(device.interface, address, bare)


def _mtu(tunnel: TunnelSpec, paths: Iterable[Path], facts: Facts) -> int:
    """What the narrowest path to a peer leaves for a packet inside the tunnel, in bytes."""
    seen = facts.observation
    widths = [seen.path_mtu[path] for path in paths if path in seen.path_mtu]
    least = MTU_MIN_IPV6 if any(map(is_v6, tunnel.addresses)) else MTU_MIN
    return max(least, min(min(widths, default=seen.default_mtu), MTU_MAX) - WIREGUARD_OVERHEAD)


def _paths(lasting: _Lasting, resolved: Mapping[str, str]) -> Iterator[Path]:
    hosts = dict.fromkeys(key.endpoint.host for _, key in lasting.dialled if key.endpoint)
    known = (resolved.get(host, host) for host in hosts if host in resolved or is_address(host))
    return (Path(address, lasting.fwmark) for address in islice(known, PATHS_MOST))


# Peers --------------------------------------------------------------------------------------------


def _peers(interface: str, peer: PeerSpec, keys: Sequence[Key], where: Whereabouts) -> Iterator[Peer]:
    """One peer under each of its keys: one of them has the allowed IPs, and those it has left are quiet."""
    holder = next((key for key in keys if (interface, key.public_key) in where.holding), keys[0])
    for key in keys:
        keepalive = 0 if (interface, key.public_key) in where.left else key.keepalive
        allowed = peer.allowed_ips if key is holder else frozenset()
        yield Peer(interface, key.public_key, key.preshared_key, keepalive, allowed)


def _endpoints(dialled: Iterable[tuple[str, Key]], facts: Facts) -> Iterator[PeerEndpoint]:
    for interface, key in dialled:
        if key.endpoint is None:
            continue
        where = _live_endpoint(interface, key, facts) or _told_endpoint(key.endpoint, facts)
        if where:
            yield PeerEndpoint(interface, key.public_key, where)


def _live_endpoint(interface: str, key: Key, facts: Facts) -> str | None:
    """Where a living session goes: it knows better than we do, unless we were told another place since."""
    seen = facts.observation.peers.get((interface, key.public_key))
    if seen is not None and seen.endpoint and key.endpoint_since == FIRST_GUESS:
        return seen.endpoint
    if seen is None or seen.latest_handshake is None:
        return None
    fresh = facts.now - seen.latest_handshake < SESSION_LIFETIME
    return seen.endpoint if fresh and seen.latest_handshake >= key.endpoint_since else None


def _lost_endpoints(same: _Same, lasting: _Lasting, facts: Facts) -> Iterator[PeerEndpoint]:
    """Where peers last called from, if their engine has died since: a new one can call them back at once."""
    for device in lasting.devices:
        heard = facts.heard.get(device.interface, {})
        if not heard or device.interface in facts.observation.state.of(Device):
            continue
        for _, keys in sitting(device, enabled_peers(same.tunnel), same.further):
            for key in keys:
                lost = heard.get((device.interface, key.public_key))
                if key.endpoint or lost is None or lost.endpoint is None:
                    continue
                if lost.latest_handshake and facts.now - lost.latest_handshake < SESSION_LIFETIME:
                    yield PeerEndpoint(device.interface, key.public_key, lost.endpoint)


def _told_endpoint(endpoint: Endpoint, facts: Facts) -> str | None:
    """The endpoint as address and port; None for a name that is not resolved yet."""
    address = facts.resolved.get(endpoint.host)
    if address:
        return str(Endpoint(address, endpoint.port))
    return None if endpoint.is_name else str(endpoint)


# Routes and rules ---------------------------------------------------------------------------------


def _routes(tunnel: TunnelSpec, peers: Iterable[PeerSpec], routed: Mapping[str, str]) -> Iterator[Route]:
    """As wg-quick(8), Table: the main table has the networks of the addresses already, another has not.

    They lead to the first device: whoever is on another one has routes for all its prefixes.
    """
    if tunnel.table == NO_TABLE:
        return
    elsewhere = tunnel.table not in (None, MAIN_TABLE)
    networks = () if elsewhere else tuple(map(network_of, tunnel.addresses))
    for peer in peers:
        interface = routed.get(peer.name, tunnel.interface)
        for prefix in _beyond(peer.allowed_ips, networks if interface == tunnel.interface else ()):
            source = None if elsewhere or interface == tunnel.interface else _source(tunnel, prefix)
            yield Route(prefix, interface, tunnel.table or _table_for(tunnel, prefix), source=source)


def _network_routes(tunnel: TunnelSpec) -> Iterator[Route]:
    """What the kernel makes for an address, for addresses that are bare: the same metric and source."""
    for address in tunnel.addresses if tunnel.generation else ():
        network = network_of(address)
        if is_v6(network):
            if not network.endswith("/128"):
                yield Route(network, tunnel.interface, MAIN_TABLE, PREFIX_ROUTE_METRIC)
        elif not network.endswith("/32"):
            yield Route(network, tunnel.interface, MAIN_TABLE, source=address.partition("/")[0])


def _source(tunnel: TunnelSpec, prefix: str) -> str | None:
    """Our address in the network that an IPv4 prefix lies in, as the kernel's own route would have it."""
    covering = (a for a in tunnel.addresses if not is_v6(a) and covers(network_of(a), prefix))
    return next((address.partition("/")[0] for address in covering), None)


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


def _refuse_two_defaults(tunnels: Iterable[tuple[_Same, _Lasting]]) -> None:
    """Each would carry the other's packets, and those the first one's again."""
    holders: dict[int, str] = {}
    for same, lasting in tunnels:
        for family in lasting.families:
            held = holders.setdefault(family, same.tunnel.name)
            if held != same.tunnel.name:
                raise ConflictError(
                    f"tunnels '{held}' and '{same.tunnel.name}' both have the default route "
                    f"{DEFAULT_ROUTES[family]}",
                    "deactivate one of them, or give its peer narrower routes",
                )


def _reverse_path_filters(lasting: _Lasting) -> tuple[str, ...]:
    """The settings that could drop what comes in on the one device while the route leads to the other."""
    if len(lasting.devices) == 1:
        return ()
    names = ("all", "default", *(device.interface for device in lasting.devices))
    return tuple(f"net/ipv4/conf/{name}/rp_filter" for name in names)


def _loosened(lasting: _Lasting, facts: Facts) -> Iterator[Sysctl]:
    """Where a filter is strict, loose ones on each device: the kernel goes by the higher of all's and its."""
    names = _reverse_path_filters(lasting)
    seen = [facts.observation.state.of(Sysctl).get(name) for name in names]
    values = [sysctl.value for sysctl in seen if sysctl]
    if "1" in values and not (seen[0] and seen[0].value == LOOSE):
        yield from (Sysctl(name, LOOSE) for name in names[2:])
