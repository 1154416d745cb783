"""When a tunnel's keys are due. Pure: what the clocks say comes in as a Moment.

The time since the last rotation is what counts, and within one boot it is taken from CLOCK_BOOTTIME, which
nobody can set and which goes on while the host sleeps. Over a boot only the wall clock can tell. So a clock
that is set neither starts a rotation nor puts one off, and times that were missed are caught up by one run.
"""

import hashlib

import msgspec

from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.spans import typed

INTERVAL_MOST = 10 * 365 * 86400
"""Seconds: who wants a longer one wants none."""

OVERLAP = 7 * 86400.0
"""Seconds: people open their laptops once a week."""

PLAUSIBLE_SINCE = 1_735_689_600.0
"""Unix time: a wall clock that shows less than 2025 was never set, as on hosts without a battery."""


class Moment(msgspec.Struct, frozen=True):
    """A point in time on both clocks: Unix seconds, and seconds since a boot, sleep counted."""

    wall: float
    boot: str
    uptime: float


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Rotate the keys of a tunnel again and again; all times in seconds. seed spreads many hosts' jitter."""

    tunnel: str
    interval: float
    overlap: float
    jitter: float = 0.0
    seed: int = 0


class Count(msgspec.Struct, frozen=True):
    """Since when the interval runs, and how many rotations there were before."""

    since: Moment
    runs: int = 0


def checked(interval: float, overlap: float | None, jitter: float) -> tuple[float, float]:
    """Interval and overlap; InvalidInput for what makes no schedule."""
    if not interval > 0:
        raise InvalidInput(f"an interval of {typed(interval)} is none", "give one such as --interval 30d")
    if not interval <= INTERVAL_MOST:
        raise InvalidInput("an interval over 10 years is none", "give one such as --interval 30d")
    overlap = OVERLAP if overlap is None else overlap
    if not 0 < overlap <= interval:
        raise InvalidInput(
            f"an interval of {typed(interval)} and an overlap of {typed(overlap)} do not go together",
            "the old key must have gone before the next comes: give a shorter --overlap",
        )
    if not 0 <= jitter < interval:
        raise InvalidInput(
            f"a jitter of {typed(jitter)} does not fit in an interval of {typed(interval)}",
            "give a part of the interval, such as --jitter 10%",
        )
    return interval, overlap


def seconds_left(schedule: Schedule, count: Count, now: Moment) -> float:
    """Until the next rotation is due; 0 or less when it is."""
    return schedule.interval + _delay(schedule, count.runs) - _elapsed(count.since, now)


def misdated(count: Count, now: Moment) -> bool:
    """Whether the count began, in an earlier boot, at a time yet to come: the clock was wrong then."""
    return count.since.boot != now.boot and PLAUSIBLE_SINCE <= now.wall < count.since.wall


def _elapsed(since: Moment, now: Moment) -> float:
    if since.boot == now.boot:
        return now.uptime - since.uptime
    if min(since.wall, now.wall) < PLAUSIBLE_SINCE:
        return now.uptime
    return max(now.wall - since.wall, now.uptime)


def _delay(schedule: Schedule, run: int) -> float:
    """The jitter of one run: the same whenever it is asked for, so that a restart does not draw again."""
    drawn = hashlib.blake2b(f"{schedule.seed} {run}".encode(), digest_size=8).digest()
    return schedule.jitter * int.from_bytes(drawn) / 2**64
