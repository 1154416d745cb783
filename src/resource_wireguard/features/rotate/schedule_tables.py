"""Schedules in the store: what the user said, and apart from it since when each is counted.

An undo takes back what was said, and never what has been: a rotation that was undone is not due again.
"""

from resource_wireguard.engine.ports import Store
from resource_wireguard.features.rotate.schedule import Count, Moment, Schedule

MIGRATION = """
CREATE TABLE rotation_schedules (
    tunnel INTEGER PRIMARY KEY REFERENCES tunnels ON DELETE CASCADE,
    interval REAL NOT NULL CHECK (interval > 0),
    overlap REAL NOT NULL,
    jitter REAL NOT NULL,
    seed INTEGER NOT NULL
) STRICT;
CREATE TABLE rotation_counts (
    tunnel INTEGER PRIMARY KEY REFERENCES tunnels ON DELETE CASCADE,
    wall REAL NOT NULL,
    boot TEXT NOT NULL,
    uptime REAL NOT NULL,
    runs INTEGER NOT NULL
) STRICT;
"""

COUNTS = "rotation_counts"
"""The table of what has been."""


def schedules(store: Store) -> list[tuple[Schedule, Count | None]]:
    """All schedules by tunnel, each with its count where one has begun."""
    rows = store.query(
        "SELECT name, interval, overlap, jitter, seed, wall, boot, uptime, runs FROM rotation_schedules "
        "JOIN tunnels ON tunnels.id = rotation_schedules.tunnel "
        "LEFT JOIN rotation_counts ON rotation_counts.tunnel = tunnels.id ORDER BY name"
    )
    return [(_schedule(row[:5]), Count(Moment(*row[5:8]), row[8]) if row[6] else None) for row in rows]


def put_schedule(store: Store, schedule: Schedule) -> None:
    """Keep a tunnel's schedule, in place of another; its seed is drawn once."""
    store.execute(
        "INSERT INTO rotation_schedules (tunnel, interval, overlap, jitter, seed) "
        "SELECT id, ?, ?, ?, random() FROM tunnels WHERE name = ? ON CONFLICT (tunnel) DO UPDATE "
        "SET interval = excluded.interval, overlap = excluded.overlap, jitter = excluded.jitter",
        *(schedule.interval, schedule.overlap, schedule.jitter, schedule.tunnel),
    )


def delete_schedule(store: Store, tunnel: str) -> int:
    """Forget a tunnel's schedule and its count; how many there were."""
    for table in (COUNTS, "rotation_schedules"):
        gone = store.execute(
            f"DELETE FROM {table} WHERE tunnel = (SELECT id FROM tunnels WHERE name = ?)",  # noqa: S608
            tunnel,
        )
    return gone


def put_count(store: Store, tunnel: str, count: Count) -> None:
    """Count a tunnel's interval from a moment on."""
    since = count.since
    store.execute(
        "INSERT OR REPLACE INTO rotation_counts (tunnel, wall, boot, uptime, runs) "
        "SELECT id, ?, ?, ?, ? FROM tunnels WHERE name = ?",
        *(since.wall, since.boot, since.uptime, count.runs, tunnel),
    )


def _schedule(row: tuple[str, float, float, float, int]) -> Schedule:
    tunnel, interval, overlap, jitter, seed = row
    return Schedule(tunnel=tunnel, interval=interval, overlap=overlap, jitter=jitter, seed=seed)
