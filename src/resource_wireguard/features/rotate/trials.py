"""What handshakes and time make of a new preshared key."""

import logging

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import NotFound
from resource_wireguard.features.rotate import preshared_tables as own
from resource_wireguard.features.rotate import tables
from resource_wireguard.features.rotate.offers import unanswered
from resource_wireguard.features.rotate.preshared import (
    LEASE,
    OFFERED,
    Open,
    end,
    find,
    present,
    put_key,
    see,
)
from resource_wireguard.features.rotate.tables import Rotation
from resource_wireguard.model.keys import NO_PRESHARED_KEY, fingerprint
from resource_wireguard.model.specs import PeerSpec, TunnelSpec

log = logging.getLogger(__name__)

COMPLETE, NO_HANDSHAKE = "complete", "in use here, no handshake with it yet"

SETTLED = 5.0
"""Seconds after a change of keys in which a handshake may still be one with the key before: the answer to it
was on its way (REKEY_TIMEOUT, section 6.1 of the WireGuard paper)."""

FAILING = 135.0
"""Seconds: a session that carries anything is renewed after 120 (REKEY_AFTER_TIME), and lives for 180: in
between, other keys can be tried and nothing is lost."""

TRY_FIRST, TRY_MOST, TRY_SHARE = 15.0, 300.0, 20
"""Seconds for which one of two keys is tried: three tries of a handshake, and later that part of the time."""


def advanced(engine: Engine, rotation: Rotation) -> bool:
    """Bring one as far as it can go now; whether that changed a spec."""
    try:
        tunnel = engine.specs().tunnel(rotation.tunnel)
        peer = tunnel.peer(rotation.peer or "")
    except NotFound:
        tables.end(engine.resources, rotation, "its peer is gone")
        return False
    found = find(engine, tunnel.name, peer.name)
    if found is None:
        tables.end(engine.resources, rotation, "its peer is gone")
        return False
    if found.undecided:
        return unanswered(engine, found)
    if peer.preshared_key and peer.preshared_key.why:
        return False
    since = found.standing.since
    if since is None or since > engine.resources.clock.now():  # the clock was set back
        see(engine, rotation)
        return False
    places = engine.last_specs.places(tunnel, peer)
    live = engine.resources.host.handshakes({interface for interface, _ in places})
    shook = max(live.get(place, 0.0) for place in places)
    return _ended(engine, peer, found, shook) or _tried(engine, tunnel, peer, found, shook)


def _ended(engine: Engine, peer: PeerSpec, found: Open, shook: float) -> bool:
    """End what a handshake has settled, or time."""
    rotation, standing, now = found.rotation, found.standing, engine.resources.clock.now()
    settled = (standing.since or now) + SETTLED < shook <= now
    shown = fingerprint(present(peer))
    if shown == rotation.new_fingerprint:
        over = rotation.deadline is not None and now >= rotation.deadline
        outcome = COMPLETE if settled else NO_HANDSHAKE if over else ""
    elif found.other is None or rotation.new_fingerprint != fingerprint(found.other):
        outcome = "it was changed otherwise"
    else:
        outcome = "not taken up" if settled and shook > standing.spoken_of + LEASE else ""
    if outcome:
        with engine.change():
            end(engine, found, outcome)
    return bool(outcome)


def _tried(engine: Engine, tunnel: TunnelSpec, peer: PeerSpec, found: Open, shook: float) -> bool:
    """Put the other of two keys in place, where the one that is there brings no handshake."""
    standing, now = found.standing, engine.resources.clock.now()
    pause = min(TRY_MOST, max(TRY_FIRST, (now - standing.spoken_of) / TRY_SHARE))
    held = found.rotation.outcome == OFFERED and found.other is not None
    if not held or now - shook < FAILING or now - (standing.since or now) < pause:
        return False
    with engine.change():
        put_key(engine, tunnel, peer, found.other or NO_PRESHARED_KEY)
        own.put_other(engine.resources, standing, peer.preshared_key)
        engine.history.close_book(f"'{tunnel.name}: preshared keys of peer '{peer.name}' tried by turns'")
    log.info("'%s' of '%s': the other preshared key is tried", peer.name, tunnel.name)
    return True
