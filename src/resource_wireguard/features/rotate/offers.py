"""New preshared keys that we offer to agents of peers: what they are told, and when a key is for good."""

from collections.abc import Iterator

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import ConflictError
from resource_wireguard.features.rotate import preshared_tables as own
from resource_wireguard.features.rotate import tables
from resource_wireguard.features.rotate.keys import check_keep, close, refuse_running
from resource_wireguard.features.rotate.messages import VERSION, Preshared
from resource_wireguard.features.rotate.peers import PRESHARED
from resource_wireguard.features.rotate.preshared import (
    ALONE,
    BOTH,
    LEASE,
    TOLD,
    Open,
    end,
    find,
    present,
    put_key,
    see,
    written,
)
from resource_wireguard.features.rotate.tables import Rotation
from resource_wireguard.features.rotate.wishes import ANSWER_WITHIN, ASKED
from resource_wireguard.model.keys import NO_PRESHARED_KEY, PresharedKey, fingerprint
from resource_wireguard.model.specs import PeerSpec, TunnelSpec

AWAY = 60.0
"""Seconds after the time to answer: an agent that looks only then was away itself, and asks once more."""


class Offer(msgspec.Struct, frozen=True):
    """What is to be said of a new preshared key to a peer's agent."""

    tunnel: str
    peer: str
    fresh: PresharedKey
    key: str
    use: bool

    def message(self, identity: str) -> Preshared:
        """As it is said."""
        return Preshared(VERSION, identity, self.fresh.reveal(), self.key, self.use)


def begin(engine: Engine, tunnel: TunnelSpec, peer: PeerSpec, keep: float) -> int:
    """Offer a peer's agent a new key, in the change that is open; the rotation's number."""
    refuse_running(engine, tunnel.name, peer.name)
    resources, fresh = engine.resources, engine.resources.secrets.new_preshared_key()
    key = (peer.preshared_key or NO_PRESHARED_KEY).renewed(fresh)
    number = written(engine, tunnel, peer, key, check_keep(keep))
    own.put_fresh(resources, own.put(resources, number, peer.name, theirs=False), fresh)
    own.put_state(resources.store, number, ASKED, resources.clock.now() + ANSWER_WITHIN)
    close(engine, tunnel.name, f"the agent of peer '{peer.name}' is offered a new preshared key")
    return number


def is_asking(rotation: Rotation, now: float) -> bool:
    """Whether it is worth waiting for the word of the peer's agent."""
    if rotation.what != PRESHARED or rotation.ended_at is not None:
        return False
    answered = rotation.outcome == TOLD and now < (rotation.deadline or 0.0) - LEASE + ANSWER_WITHIN
    return rotation.outcome == ASKED or answered


def offers(engine: Engine) -> Iterator[Offer]:
    """What the agents of peers are to be told; that a key is in use, once our kernel was seen to have it."""
    for rotation in tables.rotations(engine.resources.store, running=True):
        if rotation.what != PRESHARED or rotation.outcome not in (ASKED, TOLD, ALONE):
            continue
        standing = own.find(engine.resources.store, rotation.id)
        fresh = own.fresh(engine.resources, standing) if standing else None
        use = rotation.outcome != ASKED
        if fresh and standing and not (use and standing.since is None):
            yield Offer(rotation.tunnel, rotation.peer or "", fresh, rotation.new_fingerprint, use)


def told(engine: Engine, offer: Offer) -> None:
    """A peer's agent has said that it is so there."""
    found = find(engine, offer.tunnel, offer.peer)
    if found is None or found.rotation.new_fingerprint != offer.key:
        return
    if not offer.use and found.undecided:
        _decide(engine, found, TOLD)
        engine.settle("exchange")
        see(engine, found.rotation)
    elif offer.use and found.rotation.outcome in (TOLD, ALONE):
        with engine.resources.store.transaction():
            own.put_state(engine.resources.store, found.rotation.id, BOTH, found.rotation.deadline)
            engine.journal(offer.tunnel, f"the agent of peer '{offer.peer}' has the new preshared key in use")


def withdraw(engine: Engine, rotation: Rotation) -> None:
    """Take an offer back, in the change that is open; ConflictError once the key may be in use."""
    found = find(engine, rotation.tunnel, rotation.peer or "")
    if found is None or not found.undecided:
        raise ConflictError(
            f"the new preshared key of peer '{rotation.peer}' may be in use already: {rotation.outcome}",
            f"when that is over, 'rotate psk {rotation.tunnel} {rotation.peer}' makes another one",
        )
    end(engine, found, "rolled back")


def _decide(engine: Engine, found: Open, state: str) -> None:
    """Take our own new key for good."""
    resources, rotation = engine.resources, found.rotation
    with engine.change():
        tunnel = engine.specs().tunnel(rotation.tunnel)
        peer = tunnel.peer(rotation.peer or "")
        fresh = own.fresh(resources, found.standing)
        old = present(peer)
        if fresh is None or fingerprint(old.renewed(fresh)) != rotation.new_fingerprint:
            end(engine, found, "the old one was changed otherwise")
            return
        put_key(engine, tunnel, peer, old.renewed(fresh))
        own.put_other(resources, found.standing, old)
        now = resources.clock.now()
        own.put_spoken_of(resources.store, rotation.id, now)
        tables.retire(resources, rotation, state, peer.preshared_key)
        own.put_state(resources.store, rotation.id, state, now + LEASE)
        close(engine, tunnel.name, f"preshared key of peer '{peer.name}' changed: {state}")


def unanswered(engine: Engine, found: Open) -> bool:
    """Do without an agent that does not answer in time."""
    late = engine.resources.clock.now() - (found.rotation.deadline or 0.0)
    if late < 0:
        return False
    if late > AWAY:
        until = engine.resources.clock.now() + ANSWER_WITHIN
        own.put_state(engine.resources.store, found.rotation.id, ASKED, until)
        return False
    _decide(engine, found, ALONE)
    return True
