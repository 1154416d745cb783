"""What the agent of each peer knows of our keys and is to be told, where both ends may change theirs at once.

Between two ends one key changes at a time: each drops the key on which the other still sends otherwise.
"""

from collections.abc import Callable

from resource_wireguard.engine.engine import Engine
from resource_wireguard.features.rotate import guest_tables
from resource_wireguard.features.rotate.guest_tables import HeardOf
from resource_wireguard.features.rotate.keys import ROLLED_BACK
from resource_wireguard.features.rotate.progress import who_moved
from resource_wireguard.features.rotate.tables import Rotation, rotations
from resource_wireguard.host.facts import SESSION_LIFETIME
from resource_wireguard.model.keys import PublicKey
from resource_wireguard.model.specs import PeerSpec, TunnelSpec

LEASE = 600.0
"""Seconds after which a guest that neither has a living session nor is spoken of any more is sent away."""

Keys = tuple[tuple[PublicKey, int], ...]
"""Keys and their UDP ports; the one that will stay comes last."""


def keys_now(engine: Engine, tunnel: TunnelSpec) -> Keys:
    """A tunnel's keys and ports: while it has a successor both, and that one alone once it is to end."""
    own = (tunnel.public_key, tunnel.listen_port)
    successor = engine.last_specs.further(tunnel.name).successor
    if successor is None:
        return (own,)
    new = (successor.public_key, successor.listen_port)
    return (new,) if is_ending(engine, tunnel) else (own, new)


def is_ending(engine: Engine, tunnel: TunnelSpec) -> bool:
    """Whether the old key of a tunnel has no use any more: all have moved, and what we send to them too, as
    a pass has left it; or the overlap is over."""
    rotation = _rotation(engine, tunnel)
    if rotation is None or engine.last is None:
        return False
    over = rotation.deadline is not None and engine.resources.clock.now() >= rotation.deadline
    moved = who_moved(engine.last_specs, engine.last.facts, tunnel, rotation)
    left = {name for name, has in moved.items() if not has} - knowing(engine, tunnel.name, rotation.new_key)
    return over or (not left and not engine.last.drift_of(tunnel.name))


def _rotation(engine: Engine, tunnel: TunnelSpec) -> Rotation | None:
    """The one of a tunnel's own keys that runs."""
    return next(iter(rotations(engine.resources.store, tunnel.name, running=True, own=True)), None)


def crossed(engine: Engine, tunnel: TunnelSpec) -> dict[str, Keys]:
    """What is said to peers whose own new keys cross ours. Where we have taken theirs in, that there is a new
    one, but that the old one stays for now; where they have ours and wait, that it is the only one."""
    successor = engine.last_specs.further(tunnel.name).successor
    if successor is None:
        return {}
    own, new = (tunnel.public_key, tunnel.listen_port), (successor.public_key, successor.listen_port)
    settled = knowing(engine, tunnel.name, successor.public_key) | _hurried(engine, tunnel, new[0])
    waiting = _before_us(engine, tunnel, successor.public_key)
    return {**dict.fromkeys(waiting, (new, own)), **dict.fromkeys(settled, (new,))}


def _hurried(engine: Engine, tunnel: TunnelSpec, key: PublicKey) -> set[str]:
    """The peers that wait for a new key of ours to be the only one, and are ready for that."""
    entries = guest_tables.heard(engine.resources.store).values()
    names = {e.peer for e in entries if e.hurried and e.tunnel == tunnel.name and key in e.keys}
    rotation = _rotation(engine, tunnel)
    if not names or rotation is None or engine.last is None or engine.last.drift_of(tunnel.name):
        return set()
    moved = who_moved(engine.last_specs, engine.last.facts, tunnel, rotation)
    return {name for name in names if moved.get(name)}


def _before_us(engine: Engine, tunnel: TunnelSpec, key: PublicKey | None) -> set[str]:
    """The peers that cannot be told of a new key of ours until the one that they have told of is settled."""
    own = {peer.name: peer.public_key for peer in tunnel.peers}
    entries = guest_tables.heard(engine.resources.store)
    heard = {e.peer for e in entries.values() if e.tunnel == tunnel.name and key in e.keys}
    guests = (guest for guest in guest_tables.guests(engine.resources.store) if guest.tunnel == tunnel.name)
    return {guest.peer for guest in guests if guest.public_key != own[guest.peer]} - heard


def comes_first(engine: Engine, tunnel: TunnelSpec, peer: PeerSpec) -> bool:
    """Whether our new key has to be settled with a peer before its own: between two ends one changes at a
    time. Where neither has taken the other's in, the end goes first whose key is the lesser number."""
    successor = engine.last_specs.further(tunnel.name).successor
    if successor is None:
        return False
    entry = guest_tables.heard(engine.resources.store).get((tunnel.name, peer.name))
    if entry is None or successor.public_key not in entry.keys:
        return tunnel.public_key < peer.public_key
    return entry.keys != (successor.public_key,)


def doubt(engine: Engine, tunnel: TunnelSpec) -> Callable[[HeardOf | None], bool]:
    """Whether a peer may have taken in a key of ours whose rotation has ended, and its answer was lost: it is
    told what the keys are for as long as it would keep a guest."""
    (last,) = rotations(engine.resources.store, tunnel.name, own=True, last=1) or (None,)
    ended = last.ended_at if last and last.ended_at else 0.0
    if last is None or engine.resources.clock.now() - ended > LEASE + SESSION_LIFETIME:
        return lambda _: False
    return lambda entry: entry is None or (last.outcome == ROLLED_BACK and entry.at < ended)


def waiting_for(engine: Engine, tunnel: str, key: PublicKey | None) -> set[str]:
    """The peers whose agents know a new key of ours, and not yet that it is the only one; and those that have
    to settle their own first."""
    entries = [e for e in guest_tables.heard(engine.resources.store).values() if e.tunnel == tunnel]
    knowing_both = {entry.peer for entry in entries if key in entry.keys and entry.keys != (key,)}
    return knowing_both | _before_us(engine, engine.last_specs.tunnel(tunnel), key)


def beyond_return(engine: Engine, tunnel: TunnelSpec, key: PublicKey | None) -> set[str]:
    """The peers whose agents have dropped our old key for a new one, or are just being told to."""
    told = waiting_for(engine, tunnel.name, key) if is_ending(engine, tunnel) else set()
    hurried = _hurried(engine, tunnel, key) if key else set()
    return told | hurried | knowing(engine, tunnel.name, key)


def knowing(engine: Engine, tunnel: str, key: PublicKey | None) -> set[str]:
    """The peers whose agents know that a new key of ours is the only one: they use no other."""
    entries = [e for e in guest_tables.heard(engine.resources.store).values() if e.tunnel == tunnel]
    return {entry.peer for entry in entries if entry.keys == (key,)}
