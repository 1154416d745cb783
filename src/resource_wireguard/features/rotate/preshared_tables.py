"""What two agents have come to about a preshared key, in the store, where a rotation of one is open."""

import msgspec

from resource_wireguard.engine.feature import Resources
from resource_wireguard.engine.ports import Store
from resource_wireguard.model.keys import NO_PRESHARED_KEY, PresharedKey

MIGRATION = """
DROP INDEX rotations_one_at_a_time;
CREATE UNIQUE INDEX rotations_one_at_a_time ON rotations (tunnel, coalesce(peer, ''), what = 'preshared key')
    WHERE ended_at IS NULL;
CREATE TABLE rotation_preshared (
    rotation INTEGER PRIMARY KEY REFERENCES rotations ON DELETE CASCADE,
    peer INTEGER NOT NULL REFERENCES peers ON DELETE CASCADE,
    theirs INTEGER NOT NULL,
    since REAL,
    spoken_of REAL NOT NULL
) STRICT;
"""
"""The preshared key of a peer can be open beside its public one: the other end may change both."""


class Standing(msgspec.Struct, frozen=True):
    """How a rotation stands; times are Unix seconds. theirs: the peer's agent has begun it, and decides.

    since: the kernel has the key of the spec, seen after it was put there; None: not seen yet. spoken_of: the
    peer's agent has last said something of it, or ours has decided. folder: of its secrets, which go when the
    peer goes.
    """

    rotation: int
    theirs: bool
    since: float | None
    spoken_of: float
    folder: str


def put(resources: Resources, rotation: int, peer: str, *, theirs: bool) -> Standing:
    """A rotation of a peer's preshared key concerns two agents."""
    store = resources.store
    store.execute(
        "INSERT INTO rotation_preshared (rotation, peer, theirs, spoken_of) "
        "SELECT r.id, p.id, ?, ? FROM rotations r JOIN peers p ON p.tunnel = r.tunnel "
        "WHERE r.id = ? AND p.name = ?",
        *(theirs, resources.clock.now(), rotation, peer),
    )
    standing = find(store, rotation)
    assert standing is not None, "the peer is there"
    return standing


def find(store: Store, rotation: int) -> Standing | None:
    """How a rotation stands; None where it concerns nobody else, or its peer is gone."""
    rows = store.query(
        "SELECT theirs, since, spoken_of, p.tunnel, p.id FROM rotation_preshared "
        "JOIN peers p ON p.id = peer WHERE rotation = ?",
        rotation,
    )
    for theirs, since, spoken_of, tunnel, peer in rows:
        folder = f"tunnel/{tunnel}/peer-private/{peer}/preshared/{rotation}/"
        return Standing(rotation, bool(theirs), since, spoken_of, folder)
    return None


def put_since(store: Store, rotation: int, since: float | None) -> None:
    """Since when the kernel has the key of the spec; None while that is not seen."""
    store.execute("UPDATE rotation_preshared SET since = ? WHERE rotation = ?", since, rotation)


def put_spoken_of(store: Store, rotation: int, now: float) -> None:
    """The peer's agent has said something of it, or ours has decided."""
    store.execute("UPDATE rotation_preshared SET spoken_of = ? WHERE rotation = ?", now, rotation)


def put_state(store: Store, rotation: int, state: str, deadline: float | None) -> None:
    """What an open rotation has come to; one that has retired the old key goes on all the same."""
    store.execute(
        "UPDATE rotations SET outcome = ?, deadline = ?, ended_at = NULL WHERE id = ?",
        *(state, deadline, rotation),
    )


def forget(resources: Resources, standing: Standing) -> None:
    """It is over: its secrets go."""
    resources.secrets.delete(standing.folder)
    resources.store.execute("DELETE FROM rotation_preshared WHERE rotation = ?", standing.rotation)


def put_fresh(resources: Resources, standing: Standing, fresh: PresharedKey) -> None:
    """What the peer's agent is to be told."""
    resources.secrets.put(f"{standing.folder}fresh", fresh)


def fresh(resources: Resources, standing: Standing) -> PresharedKey | None:
    """What the peer's agent is to be told; None where that is done."""
    secret = resources.secrets.get(f"{standing.folder}fresh")
    return PresharedKey(secret) if secret is not None else None


def put_other(resources: Resources, standing: Standing, key: PresharedKey | None) -> None:
    """The key that the peer may use instead of the one in the spec; None: it may use none."""
    resources.secrets.put(f"{standing.folder}other", key or NO_PRESHARED_KEY)


def other(resources: Resources, standing: Standing) -> PresharedKey | None:
    """The key that the peer may use instead, zeros for none at all; None where there is but one."""
    secret = resources.secrets.get(f"{standing.folder}other")
    return PresharedKey(secret) if secret is not None else None
