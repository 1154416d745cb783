"""How far a rotation has come, and what a person has to do for it: what the bus shows."""

from collections.abc import Iterator, Sequence

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.engine.views import iso_time
from resource_wireguard.features.rotate import preshared, tables
from resource_wireguard.features.rotate.keys import TUNNEL
from resource_wireguard.features.rotate.peers import PRESHARED, is_wish
from resource_wireguard.features.rotate.tables import Rotation
from resource_wireguard.host.facts import SESSION_LIFETIME, Facts
from resource_wireguard.model.keys import PublicKey, fingerprint
from resource_wireguard.model.specs import PeerSpec, Specs, TunnelSpec

PROGRAM = "resource-wireguard"


class RotationView(msgspec.Struct, frozen=True, kw_only=True):
    """One rotation; times are ISO 8601. deadline: the end of the overlap, or of the grace of an old key.

    kept_until: how long the retired key is kept, sealed; null where it is not.
    """

    id: int
    tunnel: str
    peer: str | None
    what: str
    actor: str
    started_at: str | None
    deadline: str | None
    seconds_left: int | None
    ended_at: str | None
    outcome: str
    old_fingerprint: str
    new_fingerprint: str
    kept_until: str | None


class PeerProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A peer in a rotation: whether it shook hands last with the new key; its latest handshake at all."""

    name: str
    enabled: bool
    moved: bool
    latest_handshake: str | None
    config_held: bool


class Running(RotationView, frozen=True, kw_only=True):
    """A rotation that runs: where the new generation listens, who has moved, and what is to be done next."""

    interface: str | None
    listen_port: int | None
    new_public_key: str | None
    peers: tuple[PeerProgress, ...]
    next: tuple[str, ...]


class TunnelKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a tunnel, and what changes them now."""

    tunnel: str
    generation: int
    fingerprint: str
    public_key: str
    running: tuple[Running, ...]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What a command did: the rotation, who has to be told, and how. asking: a peer's agent, and it has not
    answered yet; rotate.asked tells what comes of it."""

    rotation: RotationView
    asking: bool = False
    peers: tuple[PeerProgress, ...] = ()
    next: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def tunnel_keys(engine: Engine, tunnel: TunnelSpec, report: Report) -> TunnelKeys:
    """One tunnel's keys as they are now."""
    store = engine.resources.store
    going_on = tables.rotations(store, tunnel.name, running=True)
    return TunnelKeys(
        tunnel=tunnel.name,
        generation=tables.generation(store, tunnel.name),
        fingerprint=fingerprint(tunnel.public_key),
        public_key=str(tunnel.public_key),
        running=tuple(running_view(report, tunnel, rotation) for rotation in reversed(going_on)),
    )


def rotation_view(rotation: Rotation, now: float) -> RotationView:
    """As history shows it."""
    left = None
    if rotation.deadline is not None and rotation.ended_at is None:
        left = max(0, round(rotation.deadline - now))
    return RotationView(
        id=rotation.id,
        tunnel=rotation.tunnel,
        peer=rotation.peer,
        what=rotation.what,
        actor=rotation.actor,
        started_at=iso_time(rotation.started_at),
        deadline=iso_time(rotation.deadline),
        seconds_left=left,
        ended_at=iso_time(rotation.ended_at),
        outcome=rotation.outcome,
        old_fingerprint=rotation.old_fingerprint,
        new_fingerprint=rotation.new_fingerprint,
        kept_until=iso_time(rotation.kept_until),
    )


def running_view(report: Report, tunnel: TunnelSpec, rotation: Rotation) -> Running:
    """As status shows it."""
    successor = report.specs.further(tunnel.name).successor if rotation.what == TUNNEL else None
    peers = concerned(report, tunnel, rotation)
    return Running(
        **msgspec.structs.asdict(rotation_view(rotation, report.facts.now)),
        interface=successor.interface if successor else None,
        listen_port=successor.listen_port if successor else None,
        new_public_key=str(rotation.new_key) if rotation.new_key else None,
        peers=peers,
        next=() if rotation.outcome == tables.GOING_BACK else tuple(next_steps(tunnel, rotation, peers)),
    )


def concerned(report: Report, tunnel: TunnelSpec, rotation: Rotation) -> tuple[PeerProgress, ...]:
    """The peers that a rotation asks something of."""
    moved = who_moved(report.specs, report.facts, tunnel, rotation)
    return tuple(
        _progress(report, tunnel, peer, moved.get(peer.name, False))
        for peer in tunnel.peers
        if rotation.peer in (None, peer.name)
    )


def who_moved(specs: Specs, facts: Facts, tunnel: TunnelSpec, rotation: Rotation) -> dict[str, bool]:
    """The enabled peers in a rotation, and whether each shook hands last with the new key."""
    further, found = specs.further(tunnel.name), {}
    new_key = further.successor.public_key if further.successor else None
    new_devices = {device.interface for device in further.devices if device.public_key == new_key}
    for peer in tunnel.peers:
        if not peer.enabled or rotation.peer not in (None, peer.name):
            continue
        where, key = latest_place(specs, facts, tunnel, peer)
        found[peer.name] = key == rotation.new_key if rotation.peer else where in new_devices
    return found


def latest_place(specs: Specs, facts: Facts, tunnel: TunnelSpec, peer: PeerSpec) -> tuple[str, PublicKey]:
    """Where a peer shook hands last: an interface, and one of its keys."""
    places = specs.places(tunnel, peer)
    return places[facts.latest(places)]


def _progress(report: Report, tunnel: TunnelSpec, peer: PeerSpec, moved: bool) -> PeerProgress:
    shook = report.facts.latest_handshake(latest_place(report.specs, report.facts, tunnel, peer))
    return PeerProgress(
        name=peer.name,
        enabled=peer.enabled,
        moved=moved,
        latest_handshake=iso_time(shook or None),
        config_held=peer.has_private_key,
    )


def next_steps(tunnel: TunnelSpec, rotation: Rotation, peers: Sequence[PeerProgress]) -> Iterator[str]:
    """What is left for a person to do, one command or sentence each."""
    waiting = [peer for peer in peers if peer.enabled and not peer.moved]
    for peer in waiting if is_by_hand(rotation) else ():
        yield _tell(tunnel, rotation, peer)
    if waiting and rotation.ended_at is None:
        yield f"{PROGRAM} rotate status {tunnel.name}"


def is_by_hand(rotation: Rotation) -> bool:
    """Whether a person has to bring the new key to the peer: no agent does."""
    if rotation.what == PRESHARED:
        return rotation.outcome in (preshared.HERE, preshared.ALONE)
    return not is_wish(rotation)


def _tell(tunnel: TunnelSpec, rotation: Rotation, peer: PeerProgress) -> str:
    command = f"{PROGRAM} peer config {tunnel.name} {peer.name}"
    if rotation.peer and rotation.what != PRESHARED and not peer.config_held:
        return f"use the new private key on '{peer.name}'"
    return f"{command} --qr" if peer.config_held else f"{command}  # its private key is kept there"


def preshared_deadline(report: Report, tunnel: TunnelSpec, peer: PeerSpec) -> float | None:
    """Until when a session made with the old preshared key can live (Unix seconds); None where none does."""
    shook = report.facts.latest_handshake(latest_place(report.specs, report.facts, tunnel, peer))
    ends = shook + SESSION_LIFETIME
    return ends if ends > report.facts.now else None
