"""A new preshared key between two agents: one end decides, the other holds both keys until it knows.

Nothing but the next handshake needs the key, so a session lives on while the ends differ. Whoever begins it
says of which secret the key is made, and takes it for good when the other end has said that it holds it. If
the word that it is in use does not get through, the other end tries its two keys by turns once handshakes
fail; the one with which there is one is the right one, for the first end never goes back.
"""

import msgspec
from msgspec.structs import replace

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import ConflictError
from resource_wireguard.features.rotate import preshared_tables, tables
from resource_wireguard.features.rotate.keys import check_keep, close, refuse_running, running
from resource_wireguard.features.rotate.peers import PRESHARED
from resource_wireguard.features.rotate.preshared_tables import Standing
from resource_wireguard.features.rotate.tables import Rotation
from resource_wireguard.features.rotate.wishes import ASKED
from resource_wireguard.host.state import Peer
from resource_wireguard.model.keys import NO_PRESHARED_KEY, PresharedKey, fingerprint
from resource_wireguard.model.specs import PeerSpec, TunnelSpec

TOLD = "in use here; its agent has it, and is told to use it"
ALONE = "in use here; its agent has not answered"
OFFERED = "its agent may use it at any time"
BOTH = "both have it, in use with the next handshake"
"""What an open one has come to, after ASKED; OFFERED is the other end's, and BOTH either's."""

HERE = "in use here"
"""How one ends that the other end learns of by hand."""

LEASE = 600.0
"""Seconds: so long the other end is told that a key is in use, and may count on an offer."""


class Open(msgspec.Struct, frozen=True):
    """An open rotation of a preshared key, and the key that the peer may use instead of the spec's."""

    rotation: Rotation
    standing: Standing
    other: PresharedKey | None

    @property
    def undecided(self) -> bool:
        """Whether it is ours, and can be taken back."""
        return self.rotation.outcome == ASKED


def find(engine: Engine, tunnel: str, peer: str) -> Open | None:
    """The open rotation of a peer's preshared key that concerns two agents."""
    for rotation in tables.rotations(engine.resources.store, tunnel, running=True):
        if (rotation.peer, rotation.what) == (peer, PRESHARED):
            standing = preshared_tables.find(engine.resources.store, rotation.id)
            if standing:
                return Open(rotation, standing, preshared_tables.other(engine.resources, standing))
    return None


def refuse_open(engine: Engine, tunnel: TunnelSpec, peer: PeerSpec) -> None:
    """ConflictError while a preshared key of this peer is new at one end or the other."""
    found = find(engine, tunnel.name, peer.name)
    if found:
        raise ConflictError(
            f"peer '{peer.name}' of tunnel '{tunnel.name}' has a new preshared key already, "
            f"{found.rotation.new_fingerprint}: {found.rotation.outcome}",
            f"it is over with the next handshake: see 'rotate status {tunnel.name}'",
        )


def is_shown(engine: Engine, tunnel: str, peer: str) -> bool:
    """Whether the last look has found the key of the spec at each place of a peer."""
    if engine.last is None:
        return False
    owner = engine.last_specs.tunnel(tunnel)
    spec, seen = owner.peer(peer), engine.last.observation.state.of(Peer)
    there = [seen.get(place) for place in engine.last_specs.places(owner, spec)]
    return all(one is not None and one.preshared_key == spec.preshared_key for one in there)


def see(engine: Engine, rotation: Rotation) -> bool:
    """Look whether the kernel has the key of the spec: earlier handshakes say nothing of it."""
    engine.report()
    if not is_shown(engine, rotation.tunnel, rotation.peer or ""):
        return False
    preshared_tables.put_since(engine.resources.store, rotation.id, engine.resources.clock.now())
    return True


# Keys and their rows: inside engine.change() --------------------------------------------------------


def present(peer: PeerSpec) -> PresharedKey:
    """A peer's key, zeros for none; KeysUnavailable where it cannot be had."""
    key = peer.preshared_key or NO_PRESHARED_KEY
    key.need()
    return key


def put_key(engine: Engine, tunnel: TunnelSpec, peer: PeerSpec, key: PresharedKey) -> None:
    """Make a key the peer's, zeros for none; when the kernel has it is to be seen anew."""
    wanted = None if key == NO_PRESHARED_KEY else key
    if wanted != peer.preshared_key:
        engine.tunnels.put_peer(engine.resources, tunnel.name, replace(peer, preshared_key=wanted))
    found = find(engine, tunnel.name, peer.name)
    if found:
        preshared_tables.put_since(engine.resources.store, found.rotation.id, None)


def written(
    engine: Engine, tunnel: TunnelSpec, peer: PeerSpec, key: PresharedKey, keep: float, actor: str = ""
) -> int:
    """Write down that a peer's preshared key changes to another one; the rotation's number."""
    old = present(peer)
    return tables.begin(
        engine.resources,
        tunnel.name,
        peer.name,
        PRESHARED,
        actor=actor or engine.actor,
        fingerprints=("none" if old == NO_PRESHARED_KEY else fingerprint(old), fingerprint(key)),
        keep=keep,
    )


def change_here(engine: Engine, tunnel: TunnelSpec, peer: PeerSpec, keep: float) -> int:
    """Change a key in place, whatever the other end has: a live session is not touched."""
    refuse_running(engine, tunnel.name, peer.name)
    key = engine.resources.secrets.new_preshared_key()
    number = written(engine, tunnel, peer, key, check_keep(keep))
    put_key(engine, tunnel, peer, key)
    tables.retire(engine.resources, running(engine, tunnel.name, peer.name), HERE, peer.preshared_key)
    close(engine, tunnel.name, f"preshared key of peer '{peer.name}' changed")
    return number


def end(engine: Engine, found: Open, outcome: str) -> None:
    """End a rotation, and forget what was held for it."""
    rotation = found.rotation
    preshared_tables.forget(engine.resources, found.standing)
    tables.end(engine.resources, rotation, outcome)
    close(engine, rotation.tunnel, f"new preshared key of peer '{rotation.peer}': {outcome}")
