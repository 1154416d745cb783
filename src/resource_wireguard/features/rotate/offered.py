"""New preshared keys that agents of peers offer us: held beside the present ones until they are in use."""

import logging

from msgspec.structs import replace

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import InvalidInput, ResourceError
from resource_wireguard.features.rotate import preshared_tables as own
from resource_wireguard.features.rotate import tables
from resource_wireguard.features.rotate.guest_tables import forget_oldest
from resource_wireguard.features.rotate.keys import close
from resource_wireguard.features.rotate.limits import HISTORY_MOST, Limits
from resource_wireguard.features.rotate.messages import VERSION, Answer, Heard, NotYet, Preshared
from resource_wireguard.features.rotate.peers import PEER, PRESHARED
from resource_wireguard.features.rotate.preshared import (
    BOTH,
    LEASE,
    OFFERED,
    Open,
    end,
    find,
    is_shown,
    present,
    put_key,
    see,
    written,
)
from resource_wireguard.model.keys import PresharedKey, fingerprint, parse_preshared_key
from resource_wireguard.model.specs import PeerSpec, TunnelSpec

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds in which a peer can offer one key."""


def hear(engine: Engine, speaker: tuple[TunnelSpec, PeerSpec], message: Preshared, limits: Limits) -> Answer:
    """Hold a key, or put it to use; what is so already, and shown by the kernel, is answered at once."""
    tunnel, peer = speaker
    try:
        why = _heard(engine, tunnel, peer, message, limits)
    except ResourceError as error:
        if limits.may_bring_key(tunnel.name, peer.name):
            log.warning(
                "'%s' of '%s' has a new preshared key, but: %s", peer.name, tunnel.name, error.message
            )
        why = "it cannot be done here now"
    if not why and not is_shown(engine, tunnel.name, peer.name):
        why = "it is not done yet"
    return NotYet(VERSION, message.id, why) if why else Heard(VERSION, message.id)


def _heard(engine: Engine, tunnel: TunnelSpec, peer: PeerSpec, message: Preshared, limits: Limits) -> str:
    """Why it is not so here; '' where it is."""
    found, current = find(engine, tunnel.name, peer.name), present(peer)
    now = engine.resources.clock.now()
    held = [current, found.other] if found and found.other else [current]
    if message.key in map(fingerprint, held):
        if not found or not found.standing.theirs or found.rotation.new_fingerprint != message.key:
            return ""
        own.put_spoken_of(engine.resources.store, found.rotation.id, now)
        if message.use and found.rotation.outcome == OFFERED:
            _use(engine, tunnel, peer, found, next(key for key in held if fingerprint(key) == message.key))
        return ""
    try:
        fresh = parse_preshared_key(message.fresh)
    except InvalidInput:
        return "this is no secret"
    old = next((key for key in held if fingerprint(key.renewed(fresh)) == message.key), None)
    if old is None:
        return "the preshared key here is another one than the one it is made of"
    why = _refusal(engine, tunnel, peer, found, message.use, old is current)
    if not why and not limits.may_bring_key(tunnel.name, peer.name):
        why = "these are too many new keys"
    if not why:
        _hold(engine, tunnel, peer, found, old, old.renewed(fresh))
        if message.use:
            return _heard(engine, tunnel, engine.specs().tunnel(tunnel.name).peer(peer.name), message, limits)
    return why


def _refusal(
    engine: Engine, tunnel: TunnelSpec, peer: PeerSpec, found: Open | None, use: bool, from_current: bool
) -> str:
    """Why a new key is not taken. Where both ends begin at once, that with the lesser public key goes first;
    and what has been decided before what has not."""
    every = tables.rotations(engine.resources.store, tunnel.name)
    if any((r.peer, r.what, r.ended_at) == (peer.name, PEER, None) for r in every):
        return "its keys are being rotated here"
    if found and not found.standing.theirs:
        first = tunnel.public_key < peer.public_key
        if found.undecided and first and not use:
            return "another one is offered here"
        if not found.undecided and (not use or (first and not from_current)):
            return "another one is in use here"
    past = engine.resources.clock.now() - EVERY
    lately = (r for r in every if (r.peer, r.what) == (peer.name, PRESHARED) and r.started_at > past)
    return "not more than one in a minute" if any(r.actor == _theirs(peer) for r in lately) else ""


def _hold(
    engine: Engine,
    tunnel: TunnelSpec,
    peer: PeerSpec,
    found: Open | None,
    old: PresharedKey,
    key: PresharedKey,
) -> None:
    """Keep a key beside the one that it is made of, which the peer must have; what was open ends."""
    resources = engine.resources
    with engine.change():
        if found:
            end(engine, found, "another one came from the other end")
        put_key(engine, tunnel, peer, old)
        number = written(engine, tunnel, replace(peer, preshared_key=old), key, 0.0, actor=_theirs(peer))
        own.put_other(resources, own.put(resources, number, peer.name, theirs=True), key)
        own.put_state(resources.store, number, OFFERED, None)
        forget_oldest(resources.store, tunnel.name, peer.name, HISTORY_MOST)
        close(engine, tunnel.name, f"peer '{peer.name}' offers preshared key {fingerprint(key)}")
    engine.settle("exchange")


def _theirs(peer: PeerSpec) -> str:
    return f"peer {peer.name}"


def _use(engine: Engine, tunnel: TunnelSpec, peer: PeerSpec, found: Open, key: PresharedKey) -> None:
    """The peer's agent has decided: the old key goes."""
    resources = engine.resources
    with engine.change():
        put_key(engine, tunnel, peer, key)
        own.forget(resources, found.standing)
        own.put(resources, found.rotation.id, peer.name, theirs=True)
        tables.retire(resources, found.rotation, BOTH, None)
        own.put_state(resources.store, found.rotation.id, BOTH, resources.clock.now() + LEASE)
        close(engine, tunnel.name, f"preshared key of peer '{peer.name}' changed: {BOTH}")
    engine.settle("exchange")
    see(engine, found.rotation)
