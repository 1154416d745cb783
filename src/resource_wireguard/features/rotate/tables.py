"""Rotations in the store: those that run, with their devices and keys, and those that were.

Keys belong to a tunnel or a peer, and their secrets lie below its: they go when it goes.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from resource_wireguard.engine.feature import Resources
from resource_wireguard.engine.ports import Store
from resource_wireguard.features.rotate import guest_tables
from resource_wireguard.features.rotate.opened import Known, Opened
from resource_wireguard.model.keys import PresharedKey, PrivateKey, PublicKey
from resource_wireguard.model.net import parse_endpoint
from resource_wireguard.model.specs import DeviceSpec, Further, Seat

MIGRATIONS = (
    """
CREATE TABLE rotations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tunnel INTEGER NOT NULL REFERENCES tunnels ON DELETE CASCADE,
    peer TEXT,
    what TEXT NOT NULL CHECK (what IN ('tunnel', 'peer', 'preshared key')),
    actor TEXT NOT NULL,
    started_at REAL NOT NULL,
    deadline REAL,
    grace REAL NOT NULL,
    ended_at REAL,
    outcome TEXT NOT NULL DEFAULT '',
    retired INTEGER NOT NULL DEFAULT 0,
    old_key BLOB,
    new_key BLOB,
    old_fingerprint TEXT NOT NULL,
    new_fingerprint TEXT NOT NULL,
    keep REAL NOT NULL,
    kept_until REAL
) STRICT;
CREATE UNIQUE INDEX rotations_one_at_a_time ON rotations (tunnel, coalesce(peer, '')) WHERE ended_at IS NULL;
CREATE TABLE rotation_devices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tunnel INTEGER NOT NULL REFERENCES tunnels ON DELETE CASCADE,
    rotation INTEGER REFERENCES rotations ON DELETE CASCADE,
    interface TEXT NOT NULL UNIQUE,
    public_key BLOB NOT NULL,
    listen_port INTEGER NOT NULL UNIQUE,
    endpoint TEXT,
    own_seats INTEGER NOT NULL
) STRICT;
CREATE TABLE rotation_seats (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    peer INTEGER NOT NULL REFERENCES peers ON DELETE CASCADE,
    device INTEGER REFERENCES rotation_devices ON DELETE CASCADE,
    rotation INTEGER REFERENCES rotations ON DELETE CASCADE,
    public_key BLOB NOT NULL,
    has_private_key INTEGER NOT NULL,
    has_preshared_key INTEGER NOT NULL,
    endpoint TEXT,
    endpoint_since REAL NOT NULL,
    keepalive INTEGER NOT NULL,
    holds INTEGER
) STRICT;
""",
)
"""A device belongs to a rotation of the tunnel's own keys, or to none: it stands in for the tunnel's device
beside a rotation of somebody else. A seat without a device is on the tunnel's first one."""

_DEVICES = """
SELECT d.id, t.id, t.name, d.interface, d.public_key, d.listen_port, d.endpoint, d.own_seats, d.rotation,
    r.started_at
FROM rotation_devices d JOIN tunnels t ON t.id = d.tunnel LEFT JOIN rotations r ON r.id = d.rotation
ORDER BY d.id"""
_SEATS = """
SELECT s.id, t.id, t.name, s.device, p.id, p.name, s.public_key, s.has_private_key, s.has_preshared_key,
    s.endpoint, s.endpoint_since, s.keepalive, s.holds
FROM rotation_seats s JOIN peers p ON p.id = s.peer JOIN tunnels t ON t.id = p.tunnel ORDER BY s.id"""
_RETIRED = """
SELECT t.name, r.old_key FROM rotations r JOIN tunnels t ON t.id = r.tunnel
WHERE r.retired AND r.old_key IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM rotations n WHERE n.tunnel = r.tunnel AND n.new_key = r.old_key AND n.id > r.id)"""

_ROTATION = (
    "r.id, t.name, r.peer, r.what, r.actor, r.started_at, r.deadline, r.grace, r.ended_at, r.outcome, "
    "r.old_key, r.new_key, r.old_fingerprint, r.new_fingerprint, r.keep, r.kept_until"
)


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """One rotation, running while ended_at is None; times are Unix seconds, spans seconds.

    peer None: of the tunnel's own keys. deadline: the end of the overlap, or of the grace of a peer's old
    key, which begins when the new one is taken up. kept_until: how long the retired key is kept, sealed.
    """

    id: int
    tunnel: str
    peer: str | None
    what: str
    actor: str
    started_at: float
    deadline: float | None
    grace: float
    ended_at: float | None
    outcome: str
    old_key: PublicKey | None
    new_key: PublicKey | None
    old_fingerprint: str
    new_fingerprint: str
    keep: float
    kept_until: float | None


class FurtherCache:
    """What tunnels have beside their devices; the same objects as long as nothing changed.

    A key that cannot be had is absent, and says why; what is held already stays as it is.
    """

    def __init__(self) -> None:
        self._rows: tuple[Any, ...] = ()
        self._loaded: Mapping[str, Further] = {}
        self._keys: Known = {}

    def load(self, resources: Resources) -> Mapping[str, Further]:
        """By the tunnels' names; most have none."""
        store = resources.store
        rows = (
            *(tuple(store.query(sql)) for sql in (_DEVICES, _SEATS, _RETIRED)),
            guest_tables.side_devices(store),
            guest_tables.heard(store),
        )
        lacking = any(key.why for key in self._keys.values())
        if rows != self._rows or (lacking and resources.secrets.unavailable() is None):
            opened = Opened(resources.secrets, self._keys)
            self._loaded, self._rows = _further(opened, *rows), rows
            self._keys = opened.keys
        return self._loaded


def _further(
    opened: Opened, devices: Any, seats: Any, retired: Any, sides: Any, heard: Any
) -> dict[str, Further]:
    on_device: dict[int | None, list[Seat]] = {}
    on_first: dict[str, list[Seat]] = {}
    for row in seats:
        where = on_first.setdefault(row[2], []) if row[3] is None else on_device.setdefault(row[3], [])
        where.append(_seat(opened, row))
    found: dict[str, list[tuple[float, DeviceSpec]]] = {}
    for row in devices:
        device = _device(opened, row, tuple(on_device.get(row[0], ())))
        awaited = guest_tables.awaited(heard, row[2], device.public_key) if device.successor else ()
        found.setdefault(row[2], []).append((row[9] or 0.0, replace(device, awaited=awaited)))
    for name, since, side in sides:
        same = (d.private_key for _, d in found.get(name, ()) if d.public_key == side.public_key)
        found.setdefault(name, []).append((since, replace(side, private_key=next(same, None))))
    gone: dict[str, set[PublicKey]] = {}
    for name, key in retired:
        gone.setdefault(name, set()).add(PublicKey(key))
    return {
        name: Further(
            tuple(device for _, device in sorted(found.get(name, ()), key=_age)),
            tuple(on_first.get(name, ())),
            frozenset(gone.get(name, ())),
        )
        for name in {*found, *on_first, *gone}
    }


def _age(entry: tuple[float, DeviceSpec]) -> float:
    """Devices are places in the order in which they came: a peer has left those before its latest one."""
    return entry[0]


def _device(opened: Opened, row: tuple[Any, ...], seats: tuple[Seat, ...]) -> DeviceSpec:
    number, tunnel, _, interface, public_key, port, endpoint, own_seats, rotation, _ = row
    return DeviceSpec(
        interface=interface,
        private_key=opened.private(_device_secret(tunnel, number), PublicKey(public_key)),
        public_key=PublicKey(public_key),
        listen_port=port,
        seats=seats if own_seats else None,
        successor=rotation is not None,
        endpoint=parse_endpoint(endpoint) if endpoint else None,
    )


def _seat(opened: Opened, row: tuple[Any, ...]) -> Seat:
    number, tunnel, _, _, peer, name, public_key, private, preshared, endpoint, since, keepalive, holds = row
    folder = _seat_secrets(tunnel, peer, number)
    return Seat(
        peer=name,
        public_key=PublicKey(public_key),
        private_key=opened.private(f"{folder}private", PublicKey(public_key)) if private else None,
        preshared_key=opened.preshared(f"{folder}preshared", PublicKey(public_key)) if preshared else None,
        endpoint=parse_endpoint(endpoint) if endpoint else None,
        endpoint_since=since,
        keepalive=keepalive,
        holds=None if holds is None else bool(holds),
    )


def _device_secret(tunnel: int, device: int) -> str:
    return f"tunnel/{tunnel}/device/{device}/private"


def _seat_secrets(tunnel: int, peer: int, seat: int) -> str:
    return f"tunnel/{tunnel}/peer-private/{peer}/seat/{seat}/"


def _retired_secret(tunnel: int, rotation: int) -> str:
    return f"tunnel/{tunnel}/retired/{rotation}/key"


# Devices and seats: inside engine.change() ------------------------------------------------------------


def put_device(resources: Resources, tunnel: str, device: DeviceSpec, rotation: int | None) -> int:
    """Keep a new further device; its number. Seats of its own are put one by one."""
    store, owner = resources.store, _tunnel_row(resources.store, tunnel)
    assert device.private_key is not None, "a device without a key of its own is a side, and kept with guests"
    store.execute(
        "INSERT INTO rotation_devices (tunnel, rotation, interface, public_key, listen_port, endpoint, "
        "own_seats) VALUES (?, ?, ?, ?, ?, ?, ?)",
        *(owner, rotation, device.interface, bytes(device.public_key), device.listen_port),
        *(str(device.endpoint) if device.endpoint else None, device.seats is not None),
    )
    number = _last_row(store)
    resources.secrets.put(_device_secret(owner, number), device.private_key)
    return number


def delete_device(resources: Resources, interface: str) -> None:
    """Forget a further device, its seats and their keys."""
    store = resources.store
    rows = store.query("SELECT id, tunnel FROM rotation_devices WHERE interface = ?", interface)
    for number, tunnel in rows:
        for (seat,) in store.query("SELECT id FROM rotation_seats WHERE device = ?", number):
            delete_seat(resources, seat)
        resources.secrets.delete(_device_secret(tunnel, number))
        store.execute("DELETE FROM rotation_devices WHERE id = ?", number)


def put_seat(
    resources: Resources, tunnel: str, seat: Seat, device: int | None = None, rotation: int | None = None
) -> int:
    """Keep a further key of a peer, on a further device or on the tunnel's first; its number."""
    store, owner = resources.store, _tunnel_row(resources.store, tunnel)
    peer = store.query("SELECT id FROM peers WHERE tunnel = ? AND name = ?", owner, seat.peer)[0][0]
    store.execute(
        "INSERT INTO rotation_seats (peer, device, rotation, public_key, has_private_key, has_preshared_key, "
        "endpoint, endpoint_since, keepalive, holds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(peer, device, rotation, bytes(seat.public_key)),
        *(seat.private_key is not None, seat.preshared_key is not None),
        *(str(seat.endpoint) if seat.endpoint else None, seat.endpoint_since, seat.keepalive, seat.holds),
    )
    number = _last_row(store)
    folder = _seat_secrets(owner, peer, number)
    if seat.private_key is not None:
        resources.secrets.put(f"{folder}private", seat.private_key)
    if seat.preshared_key is not None:
        resources.secrets.put(f"{folder}preshared", seat.preshared_key)
    return number


def delete_seat(resources: Resources, number: int) -> None:
    """Forget a further key of a peer."""
    rows = resources.store.query(
        "SELECT p.tunnel, p.id FROM rotation_seats s JOIN peers p ON p.id = s.peer WHERE s.id = ?", number
    )
    for tunnel, peer in rows:
        resources.secrets.delete(_seat_secrets(tunnel, peer, number))
    resources.store.execute("DELETE FROM rotation_seats WHERE id = ?", number)


# Rotations --------------------------------------------------------------------------------------------


def begin(
    resources: Resources,
    tunnel: str,
    peer: str | None,
    what: str,
    *,
    actor: str,
    fingerprints: tuple[str, str],
    keys: tuple[PublicKey | None, PublicKey | None] = (None, None),
    deadline: float | None = None,
    grace: float = 0.0,
    keep: float,
) -> int:
    """Write down that a rotation has begun; its number."""
    store = resources.store
    old, new = (None if key is None else bytes(key) for key in keys)
    store.execute(
        "INSERT INTO rotations (tunnel, peer, what, actor, started_at, deadline, grace, old_key, new_key, "
        "old_fingerprint, new_fingerprint, keep) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(_tunnel_row(store, tunnel), peer, what, actor, resources.clock.now(), deadline, grace, old, new),
        *(*fingerprints, keep),
    )
    return _last_row(store)


def end(resources: Resources, rotation: Rotation, outcome: str) -> None:
    """Write down how a rotation ended that has retired no key."""
    resources.store.execute(
        "UPDATE rotations SET ended_at = ?, outcome = ? WHERE id = ?",
        *(resources.clock.now(), outcome, rotation.id),
    )


def retire(
    resources: Resources, rotation: Rotation, outcome: str, key: PrivateKey | PresharedKey | None
) -> None:
    """Write down that the new key has taken the old one's place, and keep that for a while if we had it."""
    if key is not None:
        key.need()
    end(resources, rotation, outcome)
    keep = rotation.keep if key is not None else 0
    if key is not None and keep:
        name = _retired_secret(_tunnel_row(resources.store, rotation.tunnel), rotation.id)
        resources.secrets.put(name, key)
    resources.store.execute(
        "UPDATE rotations SET retired = 1, kept_until = ? WHERE id = ?",
        *(resources.clock.now() + keep if keep else None, rotation.id),
    )


def set_deadline(store: Store, rotation: int, deadline: float) -> None:
    """When a rotation ends; no change of what the user said."""
    store.execute("UPDATE rotations SET deadline = ? WHERE id = ?", deadline, rotation)


def rotations(
    store: Store, tunnel: str | None = None, *, running: bool = False, own: bool = False, last: int = -1
) -> list[Rotation]:
    """Of one tunnel or of all, the latest first; own: those of a tunnel's own keys alone."""
    rows = store.query(
        f"SELECT {_ROTATION} FROM rotations r JOIN tunnels t ON t.id = r.tunnel "  # noqa: S608
        "WHERE (?1 IS NULL OR t.name = ?1) AND (NOT ?2 OR r.ended_at IS NULL) "
        "AND (NOT ?3 OR r.peer IS NULL) ORDER BY r.id DESC LIMIT ?4",
        *(tunnel, running, own, last),
    )
    return [_rotation(row) for row in rows]


def generation(store: Store, tunnel: str) -> int:
    """How many keys a tunnel has had, the present one included."""
    rows = store.query(
        "SELECT count(*) FROM rotations r JOIN tunnels t ON t.id = r.tunnel "
        "WHERE t.name = ? AND what = 'tunnel' AND retired",
        tunnel,
    )
    return 1 + int(rows[0][0])


def seat_of(store: Store, rotation: int) -> int | None:
    """The number of the seat that a rotation of a peer has made; None where the peer is gone."""
    rows = store.query("SELECT id FROM rotation_seats WHERE rotation = ?", rotation)
    return rows[0][0] if rows else None


# Retired keys -----------------------------------------------------------------------------------------


def retired_key(resources: Resources, rotation: Rotation) -> bytes | None:
    """The key that a rotation has retired, while it is kept."""
    return resources.secrets.get(_retired_secret(_tunnel_row(resources.store, rotation.tunnel), rotation.id))


def aged(store: Store, now: float) -> list[tuple[int, int]]:
    """Rotations and their tunnels' rows whose retired key has been kept long enough."""
    return [
        (rotation, tunnel)
        for rotation, tunnel in store.query("SELECT id, tunnel FROM rotations WHERE kept_until <= ?", now)
    ]


def forget_retired(resources: Resources, rotation: int, tunnel: int) -> None:
    """Remove a retired key for good."""
    resources.secrets.delete(_retired_secret(tunnel, rotation))
    resources.store.execute("UPDATE rotations SET kept_until = NULL WHERE id = ?", rotation)


def _rotation(row: tuple[Any, ...]) -> Rotation:
    values = dict(zip(Rotation.__struct_fields__, row, strict=True))
    for name in ("old_key", "new_key"):
        values[name] = PublicKey(values[name]) if values[name] is not None else None
    return Rotation(**values)


def _tunnel_row(store: Store, tunnel: str) -> int:
    return int(store.query("SELECT id FROM tunnels WHERE name = ?", tunnel)[0][0])


def _last_row(store: Store) -> int:
    return int(store.query("SELECT last_insert_rowid()")[0][0])
