"""New keys for a peer, beside the old one until they are taken up."""

from msgspec.structs import replace

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import ConflictError, InvalidInput
from resource_wireguard.features.rotate import tables, wish_tables
from resource_wireguard.features.rotate.keys import (
    DAY,
    check_keep,
    check_span,
    close,
    refuse_running,
    running,
)
from resource_wireguard.features.rotate.tables import Rotation
from resource_wireguard.model.keys import PrivateKey, PublicKey, fingerprint, parse_public_key
from resource_wireguard.model.specs import PeerSpec, Seat, Specs, TunnelSpec

GRACE, GRACE_MOST = 600.0, 30 * DAY
"""Seconds for which a peer's old key is known after the new one was taken up."""

PEER, PRESHARED = "peer", "preshared key"

BY_AGENT = "made by its agent"
"""How a rotation ends whose key the peer's agent was asked for."""


def begin(
    engine: Engine,
    tunnel: TunnelSpec,
    peer: PeerSpec,
    public_key: str | None,
    grace: float,
    keep: float,
    *,
    wish: Rotation | None = None,
) -> int:
    """Let a peer in under a new key too, in the change that is open: the first handshake with it decides."""
    check_span("a grace", grace, GRACE_MOST, "'--now' does without")
    if wish is None:
        refuse_running(engine, tunnel.name, peer.name)
    number, public, private = _begun(engine, tunnel, peer, public_key, grace, keep, wish)
    seat = Seat(
        peer=peer.name,
        public_key=public,
        private_key=private,
        preshared_key=peer.preshared_key,
        endpoint=peer.endpoint,
        endpoint_since=peer.endpoint_since,
        keepalive=peer.keepalive,
    )
    tables.put_seat(engine.resources, tunnel.name, seat, rotation=number)
    close(engine, tunnel.name, f"peer '{peer.name}' may take up key {fingerprint(public)}")
    return number


def replace_now(
    engine: Engine,
    tunnel: TunnelSpec,
    peer: PeerSpec,
    public_key: str | None,
    keep: float,
    *,
    wish: Rotation | None = None,
) -> int:
    """Change a peer's key at once, in the change that is open: the old one opens nothing any more."""
    number, public, private = _begun(engine, tunnel, peer, public_key, 0.0, keep, wish)
    outcome = BY_AGENT if wish else "at once"
    _take_up(engine, tunnel, peer, public, private, running(engine, tunnel.name, peer.name, PEER), outcome)
    close(engine, tunnel.name, f"key of peer '{peer.name}' replaced, {outcome}: now {fingerprint(public)}")
    return number


def finish(engine: Engine, rotation: Rotation) -> None:
    """Forget a peer's old key, in the change that is open."""
    specs = engine.specs()
    tunnel = specs.tunnel(rotation.tunnel)
    peer, seat = tunnel.peer(rotation.peer or ""), seat_of(specs, rotation)
    if seat is None:
        tables.end(engine.resources, rotation, "its key is gone")
        return
    if seat.private_key is not None:
        seat.private_key.need()
    _forget_seat(engine, rotation)
    _take_up(engine, tunnel, peer, seat.public_key, seat.private_key, rotation, "complete")
    close(engine, tunnel.name, f"peer '{peer.name}' has taken up key {rotation.new_fingerprint}")


def withdraw(engine: Engine, rotation: Rotation, outcome: str = "rolled back") -> None:
    """Forget a peer's new key, in the change that is open."""
    _forget_seat(engine, rotation)
    tables.end(engine.resources, rotation, outcome)
    close(engine, rotation.tunnel, f"new key of peer '{rotation.peer}' withdrawn: {outcome}")


def seat_of(specs: Specs, rotation: Rotation) -> Seat | None:
    """The new key of a peer that a rotation has brought; None where the peer or the key is gone."""
    seats = specs.further(rotation.tunnel).seats
    return next(
        (seat for seat in seats if (seat.peer, seat.public_key) == (rotation.peer, rotation.new_key)), None
    )


def is_wish(rotation: Rotation) -> bool:
    """Whether a rotation waits for a key that a peer's agent is asked to make."""
    return rotation.what == PEER and rotation.new_key is None and rotation.ended_at is None


def entered(
    engine: Engine, tunnel: TunnelSpec, peer: PeerSpec, key: PublicKey | None, grace: float, keep: float
) -> int:
    """Enter that a peer's key changes, to one that may not be known yet; the rotation's number."""
    return tables.begin(
        engine.resources,
        tunnel.name,
        peer.name,
        PEER,
        actor=engine.actor,
        fingerprints=(fingerprint(peer.public_key), fingerprint(key) if key else "not known yet"),
        keys=(peer.public_key, key),
        grace=grace,
        keep=check_keep(keep),
    )


def _begun(
    engine: Engine,
    tunnel: TunnelSpec,
    peer: PeerSpec,
    public_key: str | None,
    grace: float,
    keep: float,
    wish: Rotation | None,
) -> tuple[int, PublicKey, PrivateKey | None]:
    """The rotation's number, that of a wish which it fulfils; and the new key pair as far as it is ours."""
    if wish is None:
        refuse_running(engine, tunnel.name, peer.name, PEER)
    public, private = _new_key(engine, peer, public_key)
    _refuse_used_key(engine.specs(), tunnel, peer, public)
    if wish is not None:
        wish_tables.put_key(engine.resources.store, wish.id, public)
        return wish.id, public, private
    return entered(engine, tunnel, peer, public, grace, keep), public, private


def _new_key(engine: Engine, peer: PeerSpec, given: str | None) -> tuple[PublicKey, PrivateKey | None]:
    if given is not None:
        return parse_public_key(given), None
    if not peer.has_private_key:
        raise own_keys(peer.name)
    private = engine.resources.secrets.new_private_key()
    return private.public(), private


def own_keys(peer: str) -> InvalidInput:
    """Why a peer's new key is not made here."""
    return InvalidInput(
        f"peer '{peer}' made its own keys, so its new one is not made here",
        "make a pair on the peer ('wg genkey'), and give its public key: --public-key KEY",
    )


def _refuse_used_key(specs: Specs, tunnel: TunnelSpec, peer: PeerSpec, key: PublicKey) -> None:
    """ConflictError where a key is somebody's in this tunnel, or was retired."""
    further = specs.further(tunnel.name)
    holders = {tunnel.public_key: f"tunnel '{tunnel.name}' itself"}
    holders.update((device.public_key, f"tunnel '{tunnel.name}' itself") for device in further.devices)
    holders.update((seat.public_key, f"peer '{seat.peer}'") for seat in further.seats)
    holders.update((other.public_key, f"peer '{other.name}'") for other in tunnel.peers)
    if key in holders:
        raise ConflictError(
            f"public key {key} is that of {holders[key]} already", f"make a new pair for '{peer.name}'"
        )
    if key in further.retired:
        raise ConflictError(
            f"public key {key} was taken out of use by a rotation", f"make a new pair for '{peer.name}'"
        )


def _take_up(
    engine: Engine,
    tunnel: TunnelSpec,
    peer: PeerSpec,
    public: PublicKey,
    private: PrivateKey | None,
    rotation: Rotation,
    outcome: str,
) -> None:
    """Make a key the peer's own, and retire the one it had."""
    resources = engine.resources
    old = engine.tunnels.peer_private_key(resources, tunnel.name, peer.name) if peer.has_private_key else None
    after = replace(peer, public_key=public, has_private_key=private is not None)
    engine.tunnels.put_peer(resources, tunnel.name, after, private)
    if private is None:
        engine.tunnels.forget_private_key(resources, tunnel.name, peer.name)
    tables.retire(resources, rotation, outcome, old)


def _forget_seat(engine: Engine, rotation: Rotation) -> None:
    number = tables.seat_of(engine.resources.store, rotation.id)
    if number is not None:
        tables.delete_seat(engine.resources, number)
