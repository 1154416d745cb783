"""The devices of a tunnel, which keys sit on them, and where each peer is now. Pure."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from resource_wireguard.host.facts import Facts
from resource_wireguard.model.keys import PublicKey
from resource_wireguard.model.net import Endpoint
from resource_wireguard.model.specs import DeviceSpec, Further, PeerSpec, Seat, TunnelSpec

Key = PeerSpec | Seat
"""A peer under one of its keys: both kinds say key, endpoint and keepalive alike."""

Place = tuple[str, PublicKey]
"""Where a peer can be met: an interface and one of the peer's keys."""


class Whereabouts(msgspec.Struct, frozen=True):
    """Which peers are not at their first place; hashable, so that what is made of it can be remembered.

    routed: peers by name, with the interface of another device that leads to them. holding: keys that have
    the allowed IPs though another of the peer's comes first on that device. left: places they have gone from.
    """

    routed: frozenset[tuple[str, str]] = frozenset()
    holding: frozenset[Place] = frozenset()
    left: frozenset[Place] = frozenset()


FIRST_GUESS = -1.0
"""As endpoint_since: a new session may come from another port than the old one, and that is then right."""

AT_HOME = Whereabouts()


def devices_of(tunnel: TunnelSpec, further: Further) -> tuple[DeviceSpec, ...]:
    """All devices of a tunnel, its own first."""
    own = DeviceSpec(
        interface=tunnel.interface,
        private_key=tunnel.private_key,
        public_key=tunnel.public_key,
        listen_port=tunnel.listen_port,
    )
    return (own, *further.devices)


def enabled_peers(tunnel: TunnelSpec) -> tuple[PeerSpec, ...]:
    """Those that are let in."""
    return tuple(peer for peer in tunnel.peers if peer.enabled)


def sitting(
    device: DeviceSpec, peers: Sequence[PeerSpec], further: Further
) -> Iterator[tuple[PeerSpec, tuple[Key, ...]]]:
    """The peers on a device, each with the keys under which it is known there."""
    if device.seats is None:
        staged, awaited = _by_peer(further.seats), dict(device.awaited)
        for peer in peers:
            here = _called(peer, awaited.get(peer.name)) if device.successor or device.leaving else peer
            yield peer, (here, *(_told(peer, seat) for seat in staged.get(peer.name, ())))
        return
    seats = _by_peer(device.seats)
    for peer in peers:
        if peer.name in seats:
            yield peer, tuple(_sharing(peer, seat) for seat in seats[peer.name])


def _called(peer: PeerSpec, endpoint: Endpoint | None) -> PeerSpec:
    """A peer that awaits the device is called at once, and until it is there; of others we can only guess."""
    if endpoint:
        return replace(peer, endpoint=endpoint, endpoint_since=0.0, keepalive=1)
    return replace(peer, endpoint_since=FIRST_GUESS) if peer.endpoint else peer


def _told(peer: PeerSpec, seat: Seat) -> Seat:
    """A key at the endpoint that its peer was given since: what was said last counts for all keys."""
    if peer.endpoint_since <= seat.endpoint_since:
        return seat
    return replace(seat, endpoint=peer.endpoint, endpoint_since=peer.endpoint_since)


def _sharing(peer: PeerSpec, seat: Seat) -> Seat:
    return replace(seat, preshared_key=peer.preshared_key) if seat.shares_preshared_key else seat


def _by_peer(seats: Iterable[Seat]) -> dict[str, list[Seat]]:
    found: dict[str, list[Seat]] = {}
    for seat in seats:
        found.setdefault(seat.peer, []).append(seat)
    return found


def whereabouts(tunnel: TunnelSpec, further: Further, facts: Facts) -> Whereabouts:
    """Each peer is where it shook hands last, at the earlier place where it never did; nobody on what leaves.

    So one that has taken up a new key or device is not sent back by the old session's end, and one that goes
    back itself is followed.
    """
    if not further.devices and not further.seats:
        return AT_HOME
    routed: set[tuple[str, str]] = set()
    holding: set[Place] = set()
    left: set[Place] = set()
    places: dict[str, list[Place]] = {}
    for device in devices_of(tunnel, further):
        for peer, keys in sitting(device, _concerned(tunnel, further), further):
            for key in keys:
                place = device.interface, key.public_key
                if device.leaving or (isinstance(key, Seat) and key.leaving):
                    left.add(place)
                else:
                    places.setdefault(peer.name, []).append(place)
            holder = _holder(device.interface, keys, facts)
            if holder is not keys[0]:
                holding.add((device.interface, holder.public_key))
    for name, known in places.items():
        latest = facts.latest(known)
        left.update(known[:latest])
        if known[latest][0] != tunnel.interface:
            routed.add((name, known[latest][0]))
    return Whereabouts(frozenset(routed), frozenset(holding), frozenset(left))


def _concerned(tunnel: TunnelSpec, further: Further) -> tuple[PeerSpec, ...]:
    """The peers that have more than one place."""
    peers = enabled_peers(tunnel)
    if any(device.seats is None for device in further.devices):
        return peers
    named = {seat.peer for seat in further.seats}
    named.update(seat.peer for device in further.devices for seat in device.seats or ())
    return tuple(peer for peer in peers if peer.name in named)


def _holder(interface: str, keys: Sequence[Key], facts: Facts) -> Key:
    """The key that has the allowed IPs on a device: the one told to, else the one of the last handshake."""
    told = next((key for key in keys if isinstance(key, Seat) and key.holds), None)
    if told:
        return told
    free = [key for key in keys if not isinstance(key, Seat) or key.holds is None] or keys
    return free[facts.latest([(interface, key.public_key) for key in free])]
