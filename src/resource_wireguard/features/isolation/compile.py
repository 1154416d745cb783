"""Namespaces of kind 'docker' as records of the host state. Pure.

What binds a network to its tunnel is there twice over, so that either half holds while the other is missing:
routing rules lead whatever comes from the network into a table that knows the tunnel and 'unreachable', and
our nft table drops what would leave, or reach, the bridge any other way. Both stand before the network is
made and stay while anything of it is left. A third lock is the gateway: see DockerNetwork.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from resource_wireguard.features.isolation.compile_netns import compile_netns
from resource_wireguard.host.facts import Facts, PeerFacts, Questions
from resource_wireguard.host.ownership import (
    BRIDGE_PREFIX,
    NAMESPACE_TABLE_BASE,
    RULE_PRIORITY_FIRST,
    RULE_PRIORITY_LAST,
)
from resource_wireguard.host.state import (
    Address,
    Attachment,
    Chain,
    DockerNetwork,
    NftRule,
    Piece,
    Record,
    Route,
    Rule,
    Sysctl,
)
from resource_wireguard.model.names import bridge_name
from resource_wireguard.model.net import host_prefix, is_v6
from resource_wireguard.model.specs import NamespaceSpec, Specs, TunnelSpec

DEFAULT_ROUTES = {4: "0.0.0.0/0", 6: "::/0"}

FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}

BRIDGED = {4: "net.bridge.bridge-nf-call-iptables", 6: "net.bridge.bridge-nf-call-ip6tables"}
"""With these, what one container sends another over the bridge passes the forward chains (br_netfilter)."""

RULES = (RULE_PRIORITY_LAST - RULE_PRIORITY_FIRST) // 2 - 1
"""Priorities there are for our rules: the lower half of the range but its first, before any tunnel's."""

MAIN_TABLE = 254

TUNNEL_METRIC, UNREACHABLE_METRIC = 1, 9999

LEFT_OVER = "(left over)"
"""The owner of what protects a network whose namespace is gone."""

CLAMP = Chain("isolation-clamp", "type filter hook forward priority -150; policy accept;")
FORWARD = Chain("isolation-forward", "type filter hook forward priority -10; policy accept;")
INPUT = Chain("isolation-input", "type filter hook input priority -10; policy accept;")
SOURCE_NAT = Chain("isolation-source-nat", "type nat hook postrouting priority 100; policy accept;")


class Way(msgspec.Struct, frozen=True):
    """A tunnel as the way out: its interfaces, the one that packets are sent to, and its addresses."""

    interfaces: tuple[str, ...]
    out: str
    addresses: tuple[str, ...]


def compile_namespaces(specs: Specs, facts: Facts) -> Sequence[Piece]:
    """A piece for each namespace, and one for bridges that nobody wants any more: they stay closed."""
    ways = {tunnel.name: _way(tunnel, specs, facts) for tunnel in specs.tunnels if tunnel.active}
    pieces = [_piece(spec, ways.get(spec.tunnel or ""), facts) for spec in _of_docker(specs)]
    left = _bridges(facts) - {bridge_of(spec) for spec in _of_docker(specs)}
    closed = [rule for bridge in sorted(left) for rule in _closed(bridge)]
    left_over = [Piece(LEFT_OVER, (), closed)] if closed else []
    return [*compile_netns(specs), *pieces, *left_over]


def remaining(specs: Specs, facts: Facts) -> Sequence[Piece]:
    """What stays while the service is stopped: networks that exist, with their protections and no way out."""
    seen = facts.observation.state.of(DockerNetwork)
    silent = facts.observation.docker.answered is False
    pieces: list[Piece] = []
    for spec in _of_docker(specs):
        if silent or spec.network in seen:
            kept = [seen[spec.network]] if spec.network in seen else []
            pieces.append(Piece(spec.owner, (*kept, *_routing(spec, None)), [*_closed(bridge_of(spec))]))
    return pieces


def questions(specs: Specs, _: Mapping[str, str]) -> Questions:
    """What Docker has of ours, and the sysctls we may have to set."""
    wanted = _of_docker(specs)
    versions = {version for spec in wanted for version in _versions(spec.prefixes)}
    return Questions(
        docker=bool(wanted),
        containers=frozenset(attached.container for spec in wanted for attached in spec.attached),
        sysctls=frozenset(table[version] for version in versions for table in (FORWARDING, BRIDGED)),
    )


def bridge_of(spec: NamespaceSpec) -> str:
    """The bridge that its Docker network is made on."""
    return bridge_name(BRIDGE_PREFIX, spec.name)


def gateway_of(prefix: str) -> str:
    """The address that containers send to: the last but one of their network."""
    return str(ipaddress.ip_network(prefix)[-2])


def _of_docker(specs: Specs) -> list[NamespaceSpec]:
    return [spec for spec in specs.namespaces if spec.kind == "docker"]


def _bridges(facts: Facts) -> frozenset[str]:
    """The bridges of our networks; while Docker does not answer, all that are named like one."""
    docker, networks = facts.observation.docker, facts.observation.state.of(DockerNetwork).values()
    named_so = frozenset[str]() if docker.answered else docker.bridges
    return named_so | {network.bridge for network in networks}


def _way(tunnel: TunnelSpec, specs: Specs, facts: Facts) -> Way:
    """Through the device on which a peer was met last, where the tunnel has several for a while."""
    devices = [interface for owner, interface, _ in specs.devices() if owner is tunnel]
    met = dict.fromkeys(devices, 0.0)
    if len(devices) > 1:
        for place in (place for peer in tunnel.peers for place in specs.places(tunnel, peer)):
            seen = facts.observation.peers.get(place, PeerFacts())
            met[place[0]] = max(met[place[0]], seen.latest_handshake or 0.0)
    return Way(tuple(devices), max(devices, key=lambda interface: met[interface]), tunnel.addresses)


def _piece(spec: NamespaceSpec, way: Way | None, facts: Facts) -> Piece:
    bridge = bridge_of(spec)
    exists = bridge in facts.observation.docker.bridges
    records = (
        *_sysctls(spec, way, exists),
        *_routing(spec, way),
        *(_opened(spec, bridge) if exists else ()),
        _network(spec, bridge),
        *_attachments(spec, facts),
    )
    return Piece(spec.owner, records, [*_rules(spec, bridge, way)])


def _network(spec: NamespaceSpec, bridge: str) -> DockerNetwork:
    return DockerNetwork(
        name=spec.network,
        namespace=spec.name,
        bridge=bridge,
        prefixes=spec.prefixes,
        gateways=tuple(map(gateway_of, spec.prefixes)),
        mtu=spec.mtu,
        intercontainer=spec.intercontainer,
    )


def _attachments(spec: NamespaceSpec, facts: Facts) -> Iterator[Attachment]:
    """Of containers there are: one that is gone for now is bound again when it comes back."""
    for attached in spec.attached:
        if attached.container in facts.observation.docker.containers:
            networks = attached.before if attached.leaving else (spec.network,)
            yield Attachment(attached.container, frozenset(networks))


# Routing ------------------------------------------------------------------------------------------


def _routing(spec: NamespaceSpec, way: Way | None) -> Iterator[Record]:
    """By source for what is the network's own, by interface for what claims to be another's.

    The rule by source names no interface, so that strict reverse path filters find the tunnel too.
    """
    table = NAMESPACE_TABLE_BASE + spec.number
    priority = RULE_PRIORITY_FIRST + 1 + spec.number % RULES
    for prefix in spec.prefixes:
        yield Rule(priority, 6 if is_v6(prefix) else 4, table, source=prefix)
    for version in sorted(_versions(spec.prefixes)):
        default = DEFAULT_ROUTES[version]
        yield Rule(priority, version, table, input_interface=bridge_of(spec))
        yield Route(default, None, table, UNREACHABLE_METRIC)
        if way and version in _versions(way.addresses):
            yield Route(default, way.out, table, TUNNEL_METRIC)
    if way and 6 in _versions(spec.prefixes):
        yield from _way_back(way.addresses, table, priority)


def _way_back(addresses: Iterable[str], table: int, priority: int) -> Iterator[Rule]:
    """What the tunnel's own IPv6 address sends to the world leaves by the tunnel.

    Answers come to that address, and firewalld's reverse path filter for IPv6 wants the route back to lead
    where they came from. IPv4's filter, the kernel's own, looks later: when they are the container's again.
    """
    for prefix in map(host_prefix, filter(is_v6, addresses)):
        yield Rule(RULE_PRIORITY_FIRST, 6, MAIN_TABLE, suppress_prefixlength=0, source=prefix)
        yield Rule(priority, 6, table, source=prefix)


def _opened(spec: NamespaceSpec, bridge: str) -> Iterator[Record]:
    """What needs the bridge: the way back to the host's own connections, and the gateway."""
    for prefix in spec.prefixes:
        yield Route(prefix, bridge, NAMESPACE_TABLE_BASE + spec.number)
        yield Address(bridge, f"{gateway_of(prefix)}/{128 if is_v6(prefix) else 32}")


def _sysctls(spec: NamespaceSpec, way: Way | None, exists: bool) -> Iterator[Sysctl]:
    for version in sorted(_versions(spec.prefixes)):
        if way and version in _versions(way.addresses):
            yield Sysctl(FORWARDING[version], "1")
        if exists and not spec.intercontainer:  # with the network Docker loads the module that has them
            yield Sysctl(BRIDGED[version], "1")


def _versions(texts: Iterable[str]) -> set[int]:
    return {6 if is_v6(text) else 4 for text in texts}


# Firewall -----------------------------------------------------------------------------------------


def _rules(spec: NamespaceSpec, bridge: str, way: Way | None) -> Iterator[NftRule]:
    if spec.intercontainer:
        yield NftRule(FORWARD, f'iifname "{bridge}" oifname "{bridge}" accept')
    if way:
        carried = _versions(way.addresses)
        prefixes = [prefix for prefix in spec.prefixes if _versions([prefix]) <= carried]
        for interface in way.interfaces:
            yield from _through(prefixes, bridge, interface)
    yield from _closed(bridge)


def _through(prefixes: Iterable[str], bridge: str, interface: str) -> Iterator[NftRule]:
    """Out with the network's own addresses, in with what answers; under the tunnel's address outside."""
    for way in ("iifname", "oifname"):
        yield NftRule(CLAMP, f'{way} "{bridge}" tcp flags syn tcp option maxseg size set rt mtu')
    for prefix in prefixes:
        source = f"{'ip6' if is_v6(prefix) else 'ip'} saddr {prefix}"
        yield NftRule(FORWARD, f'iifname "{bridge}" oifname "{interface}" {source} accept')
        yield NftRule(SOURCE_NAT, f'oifname "{interface}" {source} masquerade')
    answers = "ct state established,related ct direction reply accept"
    yield NftRule(FORWARD, f'iifname "{interface}" oifname "{bridge}" {answers}')


def _closed(bridge: str) -> Iterator[NftRule]:
    """Nothing passes the bridge, and the host only hears answers to what it asked itself.

    Neighbour discovery is to IPv6 what ARP, which no inet chain sees, is to IPv4.
    """
    yield NftRule(FORWARD, f'iifname "{bridge}" drop')
    yield NftRule(FORWARD, f'oifname "{bridge}" drop')
    yield NftRule(INPUT, f'iifname "{bridge}" ct state established,related ct direction reply accept')
    neighbours = "{ nd-neighbor-solicit, nd-neighbor-advert }"
    yield NftRule(INPUT, f'iifname "{bridge}" icmpv6 type {neighbours} accept')
    yield NftRule(INPUT, f'iifname "{bridge}" drop')
