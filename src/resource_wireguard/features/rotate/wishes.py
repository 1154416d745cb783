"""A peer's agent is asked to make the peer's new key itself: a rotation whose new key is not known yet.

It is in the store until the key comes, the agent takes it back, or none has answered by the deadline: then
the key is made here, as for a peer without an agent.
"""

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.ports import Store
from resource_wireguard.errors import NotFound
from resource_wireguard.features.rotate import guest_tables, peers, tables, wish_tables
from resource_wireguard.features.rotate.keys import check_span, close, refuse_running
from resource_wireguard.features.rotate.peers import GRACE_MOST, PEER, is_wish
from resource_wireguard.features.rotate.schedule import OVERLAP
from resource_wireguard.features.rotate.tables import Rotation
from resource_wireguard.host.facts import SESSION_LIFETIME
from resource_wireguard.model.specs import PeerSpec, TunnelSpec

ASKED, GRANTED = "its agent is asked", "its agent makes the new key"
"""What a wish has come to, while it is open."""

UNANSWERED = "no agent has answered"

ANSWER_WITHIN = 6.0
"""Seconds: a lost handshake is tried again after 5 (REKEY_TIMEOUT, section 6.1 of the WireGuard paper)."""

LATE = 600.0
"""Seconds after the overlap that was wished for, in which the new key may still come."""


def may_be_asked(engine: Engine, tunnel: TunnelSpec, peer: PeerSpec) -> bool:
    """Whether an agent may be there, and may change the peer's keys now."""
    return not _rotates(engine, tunnel) and may_be_there(engine, tunnel, peer)


def may_be_there(engine: Engine, tunnel: TunnelSpec, peer: PeerSpec) -> bool:
    """Whether an agent may be: one has spoken before, or a peer is there that makes its own keys."""
    if not (tunnel.active and peer.enabled and peer.addresses):
        return False
    store, place = engine.resources.store, (tunnel.name, peer.name)
    guests = {(guest.tunnel, guest.peer) for guest in guest_tables.guests(store)}
    if place in guests or place in guest_tables.heard(store):
        return True
    return not peer.has_private_key and _is_there(engine, tunnel, peer)


def _rotates(engine: Engine, tunnel: TunnelSpec) -> bool:
    """While our own keys change, the peer's are left alone."""
    return any(r.peer is None for r in tables.rotations(engine.resources.store, tunnel.name, running=True))


def _is_there(engine: Engine, tunnel: TunnelSpec, peer: PeerSpec) -> bool:
    places = engine.last_specs.places(tunnel, peer)
    live = engine.resources.host.handshakes({interface for interface, _ in places})
    return max(live.get(place, 0.0) for place in places) > engine.resources.clock.now() - SESSION_LIFETIME


def begin(engine: Engine, tunnel: TunnelSpec, peer: PeerSpec, grace: float, keep: float) -> int:
    """Ask a peer's agent, in the change that is open; the rotation's number."""
    check_span("a grace", grace, GRACE_MOST, "'--now' does without")
    refuse_running(engine, tunnel.name, peer.name)
    number = peers.entered(engine, tunnel, peer, None, grace, keep)
    wish_tables.put_state(engine.resources.store, number, ASKED, engine.resources.clock.now() + ANSWER_WITHIN)
    close(engine, tunnel.name, f"the agent of peer '{peer.name}' is asked for a new key")
    return number


def asked(store: Store) -> list[Rotation]:
    """The wishes to which no agent has said anything yet."""
    return [r for r in tables.rotations(store, running=True) if is_wish(r) and r.outcome == ASKED]


def grant(engine: Engine, tunnel: str, peer: str) -> None:
    """A peer's agent has said that it does so, or has done it."""
    store = engine.resources.store
    for rotation in asked(store):
        if (rotation.tunnel, rotation.peer) == (tunnel, peer):
            until = engine.resources.clock.now() + OVERLAP + LATE
            wish_tables.put_state(store, rotation.id, GRANTED, until)
            engine.journal(tunnel, f"the agent of peer '{peer}' makes a new key")


def take_back(engine: Engine, tunnel: str, peer: str) -> None:
    """A peer's agent has withdrawn its new key, in the change that is open."""
    for rotation in _running(engine, tunnel, peer):
        if is_wish(rotation):
            _end(engine, rotation, "taken back by its agent")


def make_way(engine: Engine, tunnel: str, peer: str) -> Rotation | None:
    """A peer's agent has changed its key: the wish that this fulfils; a key that was made here goes."""
    for rotation in _running(engine, tunnel, peer):
        if is_wish(rotation):
            return rotation
        peers.withdraw(engine, rotation, "its agent has made a key itself")
    return None


def advanced(engine: Engine, rotation: Rotation) -> bool:
    """Do without an agent that does not answer in time; whether that was due."""
    if rotation.deadline is None or engine.resources.clock.now() < rotation.deadline:
        return False
    with engine.change():
        try:
            tunnel = engine.specs().tunnel(rotation.tunnel)
            peer = tunnel.peer(rotation.peer or "")
        except NotFound:
            _end(engine, rotation, "its peer is gone")
            return True
        if rotation.outcome == ASKED and peer.has_private_key:
            peers.begin(engine, tunnel, peer, None, rotation.grace, rotation.keep, wish=rotation)
        else:
            _end(
                engine, rotation, UNANSWERED if rotation.outcome == ASKED else "its agent brought no new key"
            )
    return True


def _running(engine: Engine, tunnel: str, peer: str) -> list[Rotation]:
    every = tables.rotations(engine.resources.store, tunnel, running=True)
    return [rotation for rotation in every if (rotation.peer, rotation.what) == (peer, PEER)]


def _end(engine: Engine, rotation: Rotation, outcome: str) -> None:
    tables.end(engine.resources, rotation, outcome)
    close(engine, rotation.tunnel, f"no new key for peer '{rotation.peer}': {outcome}")
