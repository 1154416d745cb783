"""What agents of other hosts have said: their new keys, each on a side device, and what they heard of ours.

All of it is what was learned, not what the user said: undo and back-ups leave it alone, and if it is lost,
the other side says it again.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from resource_wireguard.engine.ports import Store
from resource_wireguard.model.keys import PublicKey
from resource_wireguard.model.net import Endpoint, parse_endpoint
from resource_wireguard.model.specs import DeviceSpec, Seat

MIGRATION = """
CREATE TABLE rotation_sides (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    interface TEXT NOT NULL UNIQUE,
    tunnel INTEGER NOT NULL REFERENCES tunnels ON DELETE CASCADE,
    listen_port INTEGER NOT NULL UNIQUE
) STRICT;
CREATE TABLE rotation_guests (
    peer INTEGER NOT NULL REFERENCES peers ON DELETE CASCADE,
    public_key BLOB NOT NULL CHECK (length(public_key) = 32),
    side TEXT NOT NULL REFERENCES rotation_sides (interface) ON DELETE CASCADE,
    endpoint TEXT,
    since REAL NOT NULL,
    spoken_of REAL NOT NULL,
    PRIMARY KEY (peer, public_key),
    UNIQUE (peer, side)
) STRICT;
CREATE TABLE rotation_heard (
    peer INTEGER PRIMARY KEY REFERENCES peers ON DELETE CASCADE,
    keys BLOB NOT NULL,
    endpoint TEXT
) STRICT;
"""

KEEPALIVE_NEW = 1
"""Seconds: a new key is called until it is known to work."""

MIGRATION_SETTLED = """
ALTER TABLE rotation_sides ADD COLUMN public_key BLOB;
ALTER TABLE rotation_heard ADD COLUMN hurried INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rotation_heard ADD COLUMN at REAL NOT NULL DEFAULT 0;
"""
"""Two ends whose keys change at the same time. public_key: of a successor, where a side has its key."""

LEARNED = ("rotation_sides", "rotation_guests", "rotation_heard")
"""The tables, all of them of what was learned."""


class Side(msgspec.Struct, frozen=True):
    """A further device of a tunnel, with the tunnel's own key at another port, for guests alone.

    successor: it has the key that is to be the tunnel's own, for peers that know no other any more.
    """

    tunnel: str
    interface: str
    listen_port: int
    successor: bool = False


class Guest(msgspec.Struct, frozen=True):
    """A key that a peer has said is its new one; times in Unix seconds."""

    tunnel: str
    peer: str
    public_key: PublicKey
    side: Side
    endpoint: Endpoint | None
    since: float
    spoken_of: float


class HeardOf(msgspec.Struct, frozen=True):
    """Which of our keys (the new one last) a peer's agent has said it knows, and where it awaits that.

    hurried: it waits for our new key to be the only one, as it has one of its own to tell. at: Unix seconds.
    """

    tunnel: str
    peer: str
    keys: tuple[PublicKey, ...]
    endpoint: Endpoint | None
    hurried: bool = False
    at: float = 0.0


_SUCCESSOR = (
    "coalesce(rotation_sides.public_key IN "
    "(SELECT public_key FROM rotation_devices WHERE rotation IS NOT NULL), 0)"
)
_OF_PEER = (
    "(SELECT peers.id FROM peers JOIN tunnels ON tunnels.id = peers.tunnel "
    "WHERE tunnels.name = ? AND peers.name = ?)"
)


def sides(store: Store) -> list[Side]:
    """All side devices, the oldest first."""
    rows = store.query(
        "SELECT tunnels.name, rotation_sides.interface, rotation_sides.listen_port, "  # noqa: S608
        f"{_SUCCESSOR} FROM rotation_sides JOIN tunnels ON tunnels.id = rotation_sides.tunnel "
        "ORDER BY rotation_sides.id"
    )
    return [Side(tunnel, interface, port, bool(new)) for tunnel, interface, port, new in rows]


def guests(store: Store) -> Iterator[Guest]:
    """All guests, those that were taken in first before the others."""
    rows = store.query(
        "SELECT tunnels.name, peers.name, rotation_guests.public_key, side, rotation_sides.listen_port, "  # noqa: S608
        f"{_SUCCESSOR}, rotation_guests.endpoint, since, spoken_of FROM rotation_guests "
        "JOIN rotation_sides ON rotation_sides.interface = side "
        "JOIN peers ON peers.id = peer JOIN tunnels ON tunnels.id = peers.tunnel ORDER BY since"
    )
    for tunnel, peer, key, side, port, successor, endpoint, *times in rows:
        where = parse_endpoint(endpoint) if endpoint else None
        yield Guest(tunnel, peer, PublicKey(key), Side(tunnel, side, port, bool(successor)), where, *times)


def put_guest(store: Store, guest: Guest) -> None:
    """Take a key in, on a side that is made if it is not there."""
    store.execute(
        "INSERT OR IGNORE INTO rotation_sides (interface, tunnel, listen_port, public_key) "
        "SELECT ?1, id, ?2, CASE WHEN ?3 THEN (SELECT public_key FROM rotation_devices "
        "WHERE tunnel = tunnels.id AND rotation IS NOT NULL) END FROM tunnels WHERE name = ?4",
        *(guest.side.interface, guest.side.listen_port, guest.side.successor, guest.tunnel),
    )
    store.execute(
        "INSERT OR REPLACE INTO rotation_guests (peer, public_key, side, endpoint, since, spoken_of) "  # noqa: S608
        f"VALUES ({_OF_PEER}, ?, ?, ?, ?, ?)",
        *(guest.tunnel, guest.peer, bytes(guest.public_key), guest.side.interface),
        *(str(guest.endpoint) if guest.endpoint else None, guest.since, guest.spoken_of),
    )


def touch_guests(store: Store, tunnel: str, peer: str, now: float) -> None:
    """A peer's guests were spoken of."""
    store.execute(f"UPDATE rotation_guests SET spoken_of = ? WHERE peer = {_OF_PEER}", now, tunnel, peer)  # noqa: S608


def delete_guest(store: Store, tunnel: str, peer: str, key: PublicKey) -> None:
    """Send a guest away; a side that has none left goes too."""
    store.execute(
        f"DELETE FROM rotation_guests WHERE peer = {_OF_PEER} AND public_key = ?",  # noqa: S608
        *(tunnel, peer, bytes(key)),
    )
    store.execute("DELETE FROM rotation_sides WHERE interface NOT IN (SELECT side FROM rotation_guests)")


def forget_oldest(store: Store, tunnel: str, peer: str, most: int) -> None:
    """Keep no more than so many ended rotations of a peer's key that have left no key."""
    store.execute(
        "DELETE FROM rotations WHERE id IN (SELECT r.id FROM rotations r JOIN tunnels t ON t.id = r.tunnel "
        "WHERE t.name = ? AND r.peer = ? AND ended_at IS NOT NULL AND kept_until IS NULL "
        "ORDER BY r.id DESC LIMIT -1 OFFSET ?)",
        *(tunnel, peer, most),
    )


def delete_settled(store: Store, tunnel: str) -> None:
    """Send the guests away, from devices with the key that goes, whose key is the peer's own by now: they
    have another place to be met at."""
    settled = [g for g in guests(store) if g.tunnel == tunnel and not g.side.successor]
    own = {(name, peer): key for name, peer, key, _ in _known_keys(store)}
    for guest in settled:
        if own[tunnel, guest.peer] == guest.public_key:
            delete_guest(store, tunnel, guest.peer, guest.public_key)


def heard(store: Store) -> Mapping[tuple[str, str], HeardOf]:
    """What the agents of peers have heard of our keys, by tunnel and peer."""
    rows = store.query(
        "SELECT tunnels.name, peers.name, keys, rotation_heard.endpoint, hurried, at FROM rotation_heard "
        "JOIN peers ON peers.id = peer JOIN tunnels ON tunnels.id = peers.tunnel"
    )
    return {
        (tunnel, peer): HeardOf(
            tunnel, peer, _split(keys), parse_endpoint(where) if where else None, bool(hurried), at
        )
        for tunnel, peer, keys, where, hurried, at in rows
    }


def hurry(store: Store, tunnel: str, peer: str) -> None:
    """A peer waits for our new key to be the only one."""
    store.execute(
        f"UPDATE rotation_heard SET hurried = 1 WHERE NOT hurried AND peer = {_OF_PEER}",  # noqa: S608
        *(tunnel, peer),
    )


def put_heard(store: Store, entry: HeardOf) -> None:
    """A peer's agent has said which of our keys it knows now."""
    store.execute(
        f"INSERT OR REPLACE INTO rotation_heard (peer, keys, endpoint, at) VALUES ({_OF_PEER}, ?, ?, ?)",  # noqa: S608
        *(entry.tunnel, entry.peer, b"".join(entry.keys)),
        *(str(entry.endpoint) if entry.endpoint else None, entry.at),
    )


def side_devices(store: Store) -> list[tuple[str, float, DeviceSpec]]:
    """The side devices with the guests on them, each with its tunnel and since when it is there."""
    known = {(tunnel, peer): rest for tunnel, peer, *rest in _known_keys(store)}
    seats: dict[str, list[Seat]] = {}
    for guest in guests(store):
        official, keepalive = known[guest.tunnel, guest.peer]
        seat = Seat(
            peer=guest.peer,
            public_key=guest.public_key,
            shares_preshared_key=True,
            endpoint=guest.endpoint,
            endpoint_since=guest.since,
            keepalive=keepalive if guest.public_key == official else KEEPALIVE_NEW,
        )
        seats.setdefault(guest.side.interface, []).append(seat)
    keys = {
        (name, is_new): key
        for name, own, new in store.query(
            "SELECT name, t.public_key, d.public_key FROM tunnels t "
            "LEFT JOIN rotation_devices d ON d.tunnel = t.id AND d.rotation IS NOT NULL"
        )
        for is_new, key in ((False, own), (True, new))
    }
    return [
        (side.tunnel, seats[side.interface][0].endpoint_since, _device(side, keys, seats[side.interface]))
        for side in sides(store)
    ]


def _device(side: Side, keys: Mapping[tuple[str, bool], bytes], seats: Sequence[Seat]) -> DeviceSpec:
    return DeviceSpec(
        interface=side.interface,
        private_key=None,
        public_key=PublicKey(keys[side.tunnel, side.successor]),
        listen_port=side.listen_port,
        seats=tuple(seats),
    )


def awaited(
    heard: Mapping[tuple[str, str], HeardOf], tunnel: str, key: PublicKey
) -> tuple[tuple[str, Endpoint], ...]:
    """The peers that await the device with our new key, and where."""
    entries = [entry for entry in heard.values() if entry.tunnel == tunnel and key in entry.keys]
    return tuple((entry.peer, entry.endpoint) for entry in entries if entry.endpoint)


def _known_keys(store: Store) -> list[tuple[Any, ...]]:
    return store.query(
        "SELECT tunnels.name, peers.name, peers.public_key, peers.keepalive FROM peers "
        "JOIN tunnels ON tunnels.id = peers.tunnel WHERE peers.id IN (SELECT peer FROM rotation_guests)"
    )


def _split(keys: bytes) -> tuple[PublicKey, ...]:
    return tuple(PublicKey(keys[at : at + 32]) for at in range(0, len(keys), 32))
