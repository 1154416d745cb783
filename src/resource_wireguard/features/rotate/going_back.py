"""A tunnel's new key is withdrawn: its device goes when the agents that may send to it have heard of that.

What we send goes by the old key from the first moment on. Peers without an agent cannot be told.
"""

from resource_wireguard.engine.engine import Engine
from resource_wireguard.features.rotate import guest_tables, keys, wishes
from resource_wireguard.features.rotate.keys import BACK_WITHIN, went_back_at
from resource_wireguard.features.rotate.known_keys import doubt
from resource_wireguard.features.rotate.tables import GOING_BACK, Rotation, rotations
from resource_wireguard.model.specs import TunnelSpec

ON_THE_WAY = 0.5
"""Seconds for which the device stays after the last agent's word: what was sent before it may come later."""

ANSWERING = 60.0
"""Seconds after the beginning in which an agent may know the new key, and its answer has not come."""


def begin(engine: Engine, tunnel: TunnelSpec, rotation: Rotation) -> set[str]:
    """Go back, in the change that is open; the peers whose agents are to hear of it before it is over."""
    if rotation.outcome != GOING_BACK:
        keys.go_back(engine, rotation)
    (rotation,) = rotations(engine.resources.store, tunnel.name, own=True, last=1)
    told = unheard(engine, tunnel, rotation)
    if not told:
        keys.withdraw(engine, rotation)
    return told


def unheard(engine: Engine, tunnel: TunnelSpec, rotation: Rotation) -> set[str]:
    """The peers whose agents may know the new key, and have not heard that it goes."""
    is_doubtful, heard = doubt(engine, tunnel), guest_tables.heard(engine.resources.store)
    fresh = went_back_at(rotation) - rotation.started_at < ANSWERING
    found = set()
    for peer in tunnel.peers:
        entry = heard.get((tunnel.name, peer.name))
        knows = entry is not None and rotation.new_key in entry.keys
        if (knows or fresh) and is_doubtful(entry) and wishes.may_be_there(engine, tunnel, peer):
            found.add(peer.name)
    return found


def advanced(engine: Engine, rotation: Rotation) -> bool:
    """Take the new device away when all have heard, or have had their time; whether that was due."""
    left = (rotation.deadline or 0.0) - engine.resources.clock.now()
    tunnel = engine.specs().tunnel(rotation.tunnel)
    if 0 < left <= BACK_WITHIN and (unheard(engine, tunnel, rotation) or _on_the_way(engine, tunnel)):
        return False
    with engine.change():
        keys.withdraw(engine, rotation)
    return True


def _on_the_way(engine: Engine, tunnel: TunnelSpec) -> bool:
    entries = guest_tables.heard(engine.resources.store).values()
    latest = max((entry.at for entry in entries if entry.tunnel == tunnel.name), default=0.0)
    return engine.resources.clock.now() < latest + ON_THE_WAY
