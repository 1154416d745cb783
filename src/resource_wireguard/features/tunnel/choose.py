"""What a new tunnel or peer may have: the next free one, or the wanted one unless it is somebody's."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from resource_wireguard.errors import AlreadyExists, ConflictError, InvalidInput
from resource_wireguard.host.facts import Survey
from resource_wireguard.host.ipam import PRIVATE_BLOCKS, allocate_address, allocate_prefix
from resource_wireguard.host.vacancy import free_port
from resource_wireguard.model.keys import PublicKey
from resource_wireguard.model.names import check_interface, interface_name
from resource_wireguard.model.net import (
    Network,
    host_prefix,
    is_v6,
    network_of,
    overlaps,
    parse_interface_address,
    parse_prefix,
    range_of,
)
from resource_wireguard.model.specs import Further, PeerSpec, Specs, TunnelSpec


class Pools(msgspec.Struct, frozen=True):
    """Where a tunnel's networks come from: the network tried first, and the unique local one beside it."""

    first: str
    local: str


def refuse_taken_name(specs: Specs, name: str) -> None:
    """AlreadyExists where a tunnel has the name."""
    if any(tunnel.name == name for tunnel in specs.tunnels):
        raise AlreadyExists(
            f"tunnel '{name}' exists already",
            f"see 'resource-wireguard interface config {name}', or choose another name",
        )


def number(tunnels: Iterable[TunnelSpec]) -> int:
    """The lowest free one, from 1."""
    taken = {tunnel.number for tunnel in tunnels}
    return next(n for n in range(1, len(taken) + 2) if n not in taken)


def interface(name: str, wanted: str | None, tunnels: Iterable[TunnelSpec], foreign: Iterable[str]) -> str:
    """The wanted interface name, or the one made from the tunnel's; ConflictError names who has it."""
    chosen = check_interface(wanted) if wanted is not None else interface_name(name)
    for tunnel in tunnels:
        if tunnel.interface == chosen:
            raise ConflictError(
                f"interface {chosen} is that of tunnel '{tunnel.name}'", "choose one with --interface"
            )
    if chosen in foreign:
        raise ConflictError(
            f"interface {chosen} exists on this host and is not ours",
            "choose another with --interface; 'interface adopt' takes over one that runs WireGuard",
        )
    return chosen


# Listen ports -------------------------------------------------------------------------------------


def port(wanted: int | None, first: int, tunnels: Iterable[TunnelSpec], survey: Survey) -> int:
    """The wanted UDP port, or the first free one from first on; ConflictError names who has it."""
    held = {tunnel.listen_port: f"tunnel '{tunnel.name}'" for tunnel in tunnels}
    return free_port(wanted, first, held, survey)


# A tunnel's addresses -----------------------------------------------------------------------------


def addresses(
    wanted: Sequence[str] | None,
    network: str | None,
    pools: Pools,
    tunnels: Sequence[TunnelSpec],
    survey: Survey,
) -> tuple[str, ...]:
    """The addresses a user gave; or the first one of the network given, else of the next free one of the
    pool, and of a unique local IPv6 network beside it."""
    if wanted is not None and network is not None:
        raise InvalidInput("a network and addresses were both given", "the addresses say the network")
    if wanted is not None:
        return _given_addresses(wanted, tunnels, survey)
    used = [*survey.prefixes, *prefixes_of(tunnels)]
    networks = [_given_network(network, tunnels, survey) if network else _next_network(pools.first, used)]
    if survey.ipv6 and not is_v6(networks[0]):
        networks.append(allocate_prefix(pools.local, used))
    return tuple(allocate_address(free, ()) for free in networks)


def _given_addresses(wanted: Sequence[str], tunnels: Sequence[TunnelSpec], survey: Survey) -> tuple[str, ...]:
    if not wanted:
        raise InvalidInput("a tunnel needs an address", "give one, or leave them out to have them chosen")
    chosen = tuple(dict.fromkeys(parse_interface_address(text) for text in wanted))
    for address in chosen:
        _refuse_taken_network(network_of(address), tunnels, survey)
    return chosen


def _given_network(text: str, tunnels: Sequence[TunnelSpec], survey: Survey) -> str:
    network = parse_prefix(text, "network")
    _refuse_taken_network(network, tunnels, survey)
    return network


def _next_network(first: str, used: Sequence[str]) -> str:
    """first or what follows it; else of another private block (this one may be routed as a whole)."""
    length = first.partition("/")[2]
    others = (f"{block.network_address}/{length}" for block in PRIVATE_BLOCKS if _can_hold(block, first))
    for start in (first, *others):
        try:
            return allocate_prefix(start, used)
        except ConflictError:
            continue
    raise ConflictError(f"no private network of size /{length} is free", "name one with --network")


def _can_hold(block: Network, first: str) -> bool:
    return is_v6(str(block)) == is_v6(first) and block.prefixlen <= int(first.partition("/")[2])


def _refuse_taken_network(network: str, tunnels: Sequence[TunnelSpec], survey: Survey) -> None:
    for tunnel in tunnels:
        found = overlaps(network, prefixes_of([tunnel]))
        if found:
            raise ConflictError(
                f"network {network} overlaps {found} of tunnel '{tunnel.name}'", "choose another network"
            )
    ours = set(prefixes_of(tunnels))
    found = overlaps(network, [prefix for prefix in sorted(survey.prefixes) if prefix not in ours])
    if found:
        raise ConflictError(
            f"network {network} overlaps {found}, which this host uses already", "choose another network"
        )


def prefixes_of(tunnels: Iterable[TunnelSpec]) -> Iterator[str]:
    """All that tunnels, active or not, lead to; default routes aside."""
    for tunnel in tunnels:
        yield from map(network_of, tunnel.addresses)
        for peer in tunnel.peers:
            yield from (prefix for prefix in peer.allowed_ips if not prefix.endswith("/0"))


# Peers --------------------------------------------------------------------------------------------


def peer_addresses(tunnel: TunnelSpec) -> tuple[str, ...]:
    """The lowest free address in each of the tunnel's networks, as host prefixes."""
    routes = _all_routes(tunnel.peers)
    taken = {*tunnel.addresses, *(address for peer in tunnel.peers for address in peer.addresses), *routes}
    networks = dict.fromkeys(map(network_of, tunnel.addresses))
    return tuple(_free_address(network, taken, routes) for network in networks if _is_wide(network))


def _free_address(network: str, taken: set[str], routes: Mapping[str, str]) -> str:
    """Skips what lies in a network behind another peer, such as the half of a network behind a site."""
    while True:
        address = host_prefix(allocate_address(network, taken))
        if not overlaps(address, routes):
            return address
        taken.add(address)


def _all_routes(peers: Iterable[PeerSpec]) -> dict[str, str]:
    """The networks behind all peers, with the peer's name; most have none, which costs no set."""
    return {
        prefix: peer.name
        for peer in peers
        if len(peer.allowed_ips) > len(peer.addresses)
        for prefix in peer.allowed_ips.difference(peer.addresses)
    }


def _is_wide(prefix: str) -> bool:
    return not prefix.endswith("/128" if is_v6(prefix) else "/32")


def refuse_taken_key(tunnel: TunnelSpec, name: str, key: PublicKey) -> None:
    """ConflictError where the key is the tunnel's own or another peer's."""
    if key == tunnel.public_key:
        raise ConflictError(
            f"public key {key} is that of tunnel '{tunnel.name}' itself; peer '{name}' cannot have it",
            "give the key of the other side",
        )
    for peer in tunnel.peers:
        if peer.public_key == key and peer.name != name:
            raise ConflictError(
                f"public key {key} is that of peer '{peer.name}'; peer '{name}' cannot have it too",
                "each peer needs a key of its own",
            )


def refuse_other_key(further: Further, name: str, key: PublicKey) -> None:
    """ConflictError where a rotation has taken a key out of use, or holds it for another device or peer."""
    if key in further.retired:
        raise ConflictError(
            f"public key {key} was taken out of use by a rotation; peer '{name}' cannot have it",
            "give its present key; a network file from before the rotation: 'export' writes a new one",
        )
    held = {device.public_key for device in further.devices} | {seat.public_key for seat in further.seats}
    if key in held:
        raise ConflictError(
            f"public key {key} is held for a rotation that runs; peer '{name}' cannot have it",
            "see 'resource-wireguard rotate status'",
        )


def refuse_taken_prefixes(tunnel: TunnelSpec, name: str, prefixes: Iterable[str]) -> None:
    """ConflictError where a prefix is the tunnel's own address, or overlaps another peer's."""
    own = set(map(host_prefix, tunnel.addresses))
    others = [peer for peer in tunnel.peers if peer.name != name]
    held = {prefix: peer.name for peer in others for prefix in peer.allowed_ips}
    routes = _all_routes(others)
    for prefix in sorted(prefixes):
        if prefix in own:
            raise ConflictError(
                f"{prefix} is the address of tunnel '{tunnel.name}' itself; peer '{name}' cannot have it",
                "leave the address out to get the next free one",
            )
        # One address lies in another's only if it is that one, or in a network: no need to compare with all.
        found = prefix if prefix in held else overlaps(prefix, held if _is_wide(prefix) else routes)
        if found:
            raise ConflictError(
                f"{prefix} of peer '{name}' overlaps {found} of peer '{held[found]}'",
                "an address belongs to one peer: change one of them",
            )


def clashes(tunnel: TunnelSpec, most: int | None) -> Iterator[tuple[str, ConflictError]]:
    """Whatever two peers of a tunnel both have, with the name of the one it is told of.

    The same questions as those of the refuse_ functions, for all peers in one go: ten thousand prefixes are
    sorted once, not each compared with all others.
    """
    yield from _key_clashes(tunnel)
    yield from _prefix_clashes(tunnel)
    if most is not None and len(tunnel.peers) > most:
        yield (
            "",
            ConflictError(
                f"tunnel '{tunnel.name}' gets {len(tunnel.peers)} peers, and WIREGUARD_PEERS_MAX is {most}",
                "remove some, or raise the setting",
            ),
        )


def _key_clashes(tunnel: TunnelSpec) -> Iterator[tuple[str, ConflictError]]:
    holders: dict[PublicKey, PeerSpec] = {}
    for peer in tunnel.peers:
        holder = holders.setdefault(peer.public_key, peer)
        if holder is not peer or peer.public_key == tunnel.public_key:
            others = tunnel.peers if peer.public_key == tunnel.public_key else (holder,)
            try:
                refuse_taken_key(msgspec.structs.replace(tunnel, peers=others), peer.name, peer.public_key)
            except ConflictError as error:
                yield peer.name, error


def _prefix_clashes(tunnel: TunnelSpec) -> Iterator[tuple[str, ConflictError]]:
    """In the order of their first addresses, each prefix can only overlap the one that reaches furthest."""
    held = sorted(
        ((*range_of(prefix), prefix, peer) for peer in tunnel.peers for prefix in peer.allowed_ips),
        key=lambda entry: entry[:2],
    )
    own = set(map(host_prefix, tunnel.addresses))
    furthest: dict[bool, tuple[int, int, str, PeerSpec]] = {}  # default routes overlap only each other
    for version, _, high, prefix, peer in held:
        default = prefix.endswith("/0")
        last = furthest.get(default)
        overlapping = last is not None and last[0] == version and range_of(prefix)[1] <= last[1]
        other = last[3] if last and overlapping and last[3] is not peer else None
        if other or prefix in own:
            try:
                others = () if other is None else (other,)
                refuse_taken_prefixes(msgspec.structs.replace(tunnel, peers=others), peer.name, [prefix])
            except ConflictError as error:
                yield peer.name, error
        if last is None or not overlapping or high > last[1]:
            furthest[default] = (version, high, prefix, peer)


def refuse_too_many(tunnel: TunnelSpec, most: int | None) -> None:
    """ConflictError at the number of peers set by WIREGUARD_PEERS_MAX."""
    if most is not None and len(tunnel.peers) >= most:
        raise ConflictError(
            f"tunnel '{tunnel.name}' has {len(tunnel.peers)} peers, and WIREGUARD_PEERS_MAX is {most}",
            "remove a peer, or raise the setting",
        )


def allowed_ips(peer_addresses: Iterable[str], routes: Iterable[str]) -> frozenset[str]:
    """What this host sends to a peer: its addresses and the networks behind it."""
    return frozenset((*map(host_prefix, peer_addresses), *routes))
