"""The rotate.* commands of docs/bus.md."""

from collections.abc import Iterator

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.engine.views import iso_time
from resource_wireguard.errors import ConflictError, NotFound
from resource_wireguard.features.rotate import (
    going_back,
    keys,
    known_keys,
    offers,
    peers,
    preshared,
    tables,
    trials,
    wishes,
)
from resource_wireguard.features.rotate.keys import KEEP, running
from resource_wireguard.features.rotate.peers import GRACE
from resource_wireguard.features.rotate.progress import (
    Done,
    PeerProgress,
    RotationView,
    TunnelKeys,
    concerned,
    is_by_hand,
    next_steps,
    preshared_deadline,
    rotation_view,
    tunnel_keys,
    who_moved,
)
from resource_wireguard.features.rotate.schedule import OVERLAP
from resource_wireguard.features.rotate.tables import Rotation
from resource_wireguard.model.specs import TunnelSpec


class Keys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """New keys for a tunnel; overlap and keep in seconds. restore: the number of a rotation whose key to use.

    now: no overlap. While a rotation runs, it ends that one's at once.
    """

    tunnel: str
    overlap: float = OVERLAP
    now: bool = False
    port: int | None = None
    endpoint: str | None = None
    keep: float = KEEP
    restore: int | None = None


class Peer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new key for a peer; grace and keep in seconds. now: without waiting for it to be taken up."""

    tunnel: str
    peer: str
    public_key: str | None = None
    grace: float = GRACE
    now: bool = False
    keep: float = KEEP


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rotation of a peer's key, or of its preshared one, by its number."""

    tunnel: str
    number: int


class Preshared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new preshared key for a peer."""

    tunnel: str
    peer: str
    keep: float = KEEP


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tunnel, or all."""

    tunnel: str | None = None


class Past(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last rotations of one tunnel, or of all."""

    tunnel: str | None = None
    tail: int = 50


class Back(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rotation that runs: of a tunnel's keys, or of a peer's."""

    tunnel: str
    peer: str | None = None


def rotate_keys(engine: Engine, request: Keys) -> Done:
    """Begin a rotation of a tunnel's keys; with now, do it at once or end the one that runs."""
    tunnel = engine.specs().tunnel(request.tunnel)
    key = None if request.restore is None else keys.kept_key(engine, tunnel.name, request.restore)
    going_on = _going_on(engine, tunnel.name) if request.now and key is None else None
    with engine.change():
        if going_on is not None:
            keys.finish(engine, going_on, "ended at once")
            number = going_on.id
        elif request.now:
            number = keys.replace_now(engine, tunnel.name, keep=request.keep, private_key=key)
        else:
            number = keys.begin(
                engine,
                tunnel.name,
                request.overlap,
                port=request.port,
                endpoint=request.endpoint,
                keep=request.keep,
                private_key=key,
            )
    return _done(engine, tunnel.name, number)


def rotate_peer(engine: Engine, request: Peer) -> Done:
    """Begin a rotation of a peer's key; at once if so asked, or if the peer is not let in anyway.

    Where the peer may have an agent, that is asked to make the key.
    """
    tunnel = engine.specs().tunnel(request.tunnel)
    peer = tunnel.peer(request.peer)
    with engine.change():
        if request.now or not peer.enabled:
            number = peers.replace_now(engine, tunnel, peer, request.public_key, request.keep)
        elif request.public_key is None and wishes.may_be_asked(engine, tunnel, peer):
            number = wishes.begin(engine, tunnel, peer, request.grace, request.keep)
        else:
            number = peers.begin(engine, tunnel, peer, request.public_key, request.grace, request.keep)
    return _done(engine, tunnel.name, number)


def asked(engine: Engine, request: Asked) -> Done:
    """What has come of asking a peer's agent, or of telling all that a key goes; refused as ever where none
    has answered, and no key is ours."""
    tunnel = engine.specs().tunnel(request.tunnel)
    rotation = _ended(engine, tunnel.name, request.number)
    if rotation.peer is None:
        return _shown(engine, tunnel, rotation, (), tuple(_notes_of_going_back(engine, tunnel, rotation)))
    if rotation.outcome == wishes.UNANSWERED:
        raise peers.own_keys(rotation.peer or "")
    notes = _notes_of_preshared if rotation.what == peers.PRESHARED else _notes_of_wish
    found = concerned(engine.report(), tunnel, rotation)
    return _shown(engine, tunnel, rotation, found, tuple(notes(engine, tunnel, rotation)))


def _notes_of_wish(_: Engine, __: TunnelSpec, rotation: Rotation) -> Iterator[str]:
    if peers.is_wish(rotation) or rotation.outcome == peers.BY_AGENT:
        yield f"the agent of '{rotation.peer}' makes the key: nothing is left to do"
    elif rotation.ended_at is None:
        yield f"the agent of '{rotation.peer}' has not answered: the key was made here"


def _notes_of_going_back(engine: Engine, tunnel: TunnelSpec, rotation: Rotation) -> Iterator[str]:
    for name in sorted(going_back.unheard(engine, tunnel, rotation)) if rotation.ended_at else ():
        yield f"the agent of '{name}' has not answered: it is still told to go back"


def _notes_of_preshared(engine: Engine, tunnel: TunnelSpec, rotation: Rotation) -> Iterator[str]:
    if rotation.outcome in (preshared.BOTH, trials.COMPLETE):
        yield f"the agent of '{rotation.peer}' has the new key too: nothing is left to do"
    elif rotation.outcome == preshared.ALONE:
        yield f"the agent of '{rotation.peer}' has not answered; it is still told"
    if is_by_hand(rotation):
        ends = (
            preshared_deadline(engine.last, tunnel, tunnel.peer(rotation.peer or "")) if engine.last else None
        )
        until = f"by {iso_time(ends)}, when its session ends" if ends else "before it can connect again"
        yield f"'{rotation.peer}' needs the new key {until}"


def rotate_preshared(engine: Engine, request: Preshared) -> Done:
    """Change a preshared key, with the peer's agent where it may have one; else the note says until when the
    peer's old key is good enough."""
    tunnel = engine.specs().tunnel(request.tunnel)
    peer = tunnel.peer(request.peer)
    preshared.refuse_open(engine, tunnel, peer)
    with engine.change():
        if wishes.may_be_asked(engine, tunnel, peer):
            number = offers.begin(engine, tunnel, peer, request.keep)
        else:
            number = preshared.change_here(engine, tunnel, peer, request.keep)
    done = _done(engine, tunnel.name, number)
    rotation = _ended(engine, tunnel.name, number)
    notes = (*done.notes, *_notes_of_preshared(engine, tunnel, rotation))
    return msgspec.structs.replace(done, notes=notes)


def status(engine: Engine, request: Named) -> list[TunnelKeys]:
    """Generations, and how far each rotation that runs has come."""
    report = engine.report()
    specs = report.specs
    wanted = specs.tunnels if request.tunnel is None else (specs.tunnel(request.tunnel),)
    return [tunnel_keys(engine, tunnel, report) for tunnel in wanted]


def history(engine: Engine, request: Past) -> list[RotationView]:
    """The last rotations, the latest first."""
    if request.tunnel is not None:
        engine.specs().tunnel(request.tunnel)
    now = engine.resources.clock.now()
    found = tables.rotations(engine.resources.store, request.tunnel, last=request.tail)
    return [rotation_view(rotation, now) for rotation in found]


def rollback(engine: Engine, request: Back) -> Done:
    """Withdraw the new key; whoever uses it already and has no agent is named, and has to go back.

    A tunnel's goes as soon as the agents of its peers have gone back: rotate.asked tells when.
    """
    tunnel = engine.specs().tunnel(request.tunnel)
    rotation = running(engine, tunnel.name, request.peer)
    report = engine.report()
    if rotation.peer is None:
        _refuse_too_late(engine, tunnel, rotation)
    gone_over = [peer for peer in concerned(report, tunnel, rotation) if peer.moved]
    told: set[str] = set()
    with engine.change():
        if rotation.peer is None:
            told = going_back.begin(engine, tunnel, rotation)
        elif rotation.what == peers.PRESHARED:
            offers.withdraw(engine, rotation)
        else:
            peers.withdraw(engine, rotation)
    engine.settle(tunnel.name)
    back = tuple(msgspec.structs.replace(peer, moved=False) for peer in gone_over if peer.name not in told)
    notes = tuple(f"'{peer.name}' had moved to the new key and must go back" for peer in back)
    return _shown(engine, tunnel, _ended(engine, tunnel.name, rotation.id), back, notes)


def _refuse_too_late(engine: Engine, tunnel: TunnelSpec, rotation: Rotation) -> None:
    """ConflictError where a peer's agent knows no key but the new one: to take that away would cut it off."""
    names = ", ".join(
        f"'{name}'" for name in sorted(known_keys.beyond_return(engine, tunnel, rotation.new_key))
    )
    if names:
        raise ConflictError(
            f"the new key of tunnel '{tunnel.name}' is the only one for the agent of {names} already",
            f"when the rotation has ended, 'rotate keys {tunnel.name}' makes another key",
        )


COMMANDS = (
    Command("rotate.keys", Keys, rotate_keys),
    Command("rotate.peer", Peer, rotate_peer),
    Command("rotate.asked", Asked, asked),
    Command("rotate.psk", Preshared, rotate_preshared),
    Command("rotate.status", Named, status),
    Command("rotate.history", Past, history),
    Command("rotate.rollback", Back, rollback),
)


def _going_on(engine: Engine, tunnel: str) -> Rotation | None:
    """The rotation of a tunnel's keys whose overlap may be ended; ConflictError where no peer has moved."""
    found = [r for r in tables.rotations(engine.resources.store, tunnel, running=True) if r.peer is None]
    if not found:
        return None
    report = engine.report()
    moved = who_moved(report.specs, report.facts, report.specs.tunnel(tunnel), found[0])
    if moved and not any(moved.values()):
        raise ConflictError(
            f"tunnel '{tunnel}' is being rotated already, and no peer has moved to the new key yet",
            f"'rotate rollback {tunnel}' first: then '--now' makes a key that nobody has seen",
        )
    return found[0]


def _done(engine: Engine, name: str, number: int) -> Done:
    """A pass, and what is to be done then."""
    report: Report = engine.settle(name)
    tunnel = report.specs.tunnel(name)
    rotation = _ended(engine, name, number)
    found = concerned(report, tunnel, rotation)
    notes = [problem.message for problem in report.problems]
    successor = report.specs.further(name).successor
    if rotation.peer is None and successor:
        notes.append(
            f"peers reach the new key at UDP port {successor.listen_port}: let it in where you filter"
        )
    return _shown(engine, tunnel, rotation, found, tuple(notes))


def _shown(
    engine: Engine,
    tunnel: TunnelSpec,
    rotation: Rotation,
    found: tuple[PeerProgress, ...],
    notes: tuple[str, ...],
) -> Done:
    return Done(
        rotation=rotation_view(rotation, engine.resources.clock.now()),
        asking=_is_asking(engine, rotation),
        peers=found,
        next=tuple(next_steps(tunnel, rotation, found)),
        notes=notes,
    )


def _is_asking(engine: Engine, rotation: Rotation) -> bool:
    if rotation.peer is None:
        return rotation.outcome == tables.GOING_BACK
    if peers.is_wish(rotation):
        return rotation.outcome == wishes.ASKED
    return offers.is_asking(rotation, engine.resources.clock.now())


def _ended(engine: Engine, tunnel: str, number: int) -> Rotation:
    for rotation in tables.rotations(engine.resources.store, tunnel):
        if rotation.id == number:
            return rotation
    raise NotFound(f"tunnel '{tunnel}' has no rotation {number}", f"see 'rotate history {tunnel}'")
