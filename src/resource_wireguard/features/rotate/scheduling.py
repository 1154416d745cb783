"""Schedules that run: the rotate.schedule commands, and the source that starts what is due."""

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command, Nothing
from resource_wireguard.engine.ports import Clock
from resource_wireguard.engine.views import iso_time
from resource_wireguard.errors import InvalidInput, NotFound, ResourceError
from resource_wireguard.features.rotate.keys import begin
from resource_wireguard.features.rotate.schedule import (
    Count,
    Moment,
    Schedule,
    checked,
    misdated,
    seconds_left,
)
from resource_wireguard.features.rotate.schedule_tables import (
    delete_schedule,
    put_count,
    put_schedule,
    schedules,
)

log = logging.getLogger(__name__)

LOOK_EVERY = 30.0
"""Seconds at most between two looks at the clock: timers of a process stand still while the host sleeps."""

RETRY_AFTER = 60.0
"""Seconds until what was refused, as while a change waits to be confirmed, is tried again."""

T = TypeVar("T")


class Listener(Protocol):
    """What the source works with: the agent."""

    def ask(self, work: Callable[[Engine], T]) -> Awaitable[T]:
        """Work in the engine's thread, as a command does."""

    async def wait(self, seconds: float) -> None:
        """Until the next report, at most some seconds."""


class Set(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rotate a tunnel's keys every so often; in seconds. overlap None: seven days."""

    tunnel: str
    interval: float
    overlap: float | None = None
    jitter: float = 0.0


class Off(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rotate a tunnel's keys by hand only."""

    tunnel: str


class ScheduleView(msgspec.Struct, frozen=True):
    """A schedule as it is shown: seconds, and ISO 8601 times; runs counts the rotations it has started."""

    tunnel: str
    interval: float
    overlap: float
    jitter: float
    runs: int
    since: str | None
    next_at: str | None


def set_schedule(engine: Engine, request: Set) -> ScheduleView:
    """Keep a schedule; the first rotation comes an interval from now, or from the last scheduled one."""
    interval, overlap = checked(request.interval, request.overlap, request.jitter)
    tunnel = engine.specs().tunnel(request.tunnel).name
    wanted = Schedule(tunnel=tunnel, interval=interval, overlap=overlap, jitter=request.jitter)
    store = engine.resources.store
    with engine.change():
        put_schedule(store, wanted)
        if _find(engine, tunnel)[1] is None:
            put_count(store, tunnel, Count(moment(engine.resources.clock)))
        engine.journal(tunnel, f"keys rotate every {interval:g} s")
    return _view(engine, *_find(engine, tunnel))


def end_schedule(engine: Engine, request: Off) -> dict[str, str]:
    """Forget a schedule; what it has started goes on."""
    tunnel = engine.specs().tunnel(request.tunnel).name
    with engine.change():
        if not delete_schedule(engine.resources.store, tunnel):
            raise NotFound(f"tunnel '{tunnel}' has no schedule", "see 'resource-wireguard rotate schedule'")
        engine.journal(tunnel, "keys rotate by hand only")
    return {"tunnel": tunnel}


def listing(engine: Engine, _: Nothing) -> list[ScheduleView]:
    """All schedules by tunnel."""
    return [_view(engine, *entry) for entry in schedules(engine.resources.store)]


COMMANDS = (
    Command("rotate.schedule", Set, set_schedule),
    Command("rotate.schedule-off", Off, end_schedule),
    Command("rotate.schedules", Nothing, listing),
)


def moment(clock: Clock) -> Moment:
    """Now, on both clocks."""
    return Moment(clock.now(), *clock.boot())


class Scheduler:
    """Starts what is due. It remembers only what was refused, and when to try that again."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[float, str]] = {}

    def run_due(self, engine: Engine) -> float:
        """Start each rotation that is due; seconds until the next look."""
        now = moment(engine.resources.clock)
        active = {tunnel.name for tunnel in engine.last_specs.tunnels if tunnel.active}
        waits = [LOOK_EVERY]
        for schedule, count in schedules(engine.resources.store):
            if count is None or misdated(count, now):
                put_count(engine.resources.store, schedule.tunnel, Count(now, count.runs if count else 0))
                continue
            left = seconds_left(schedule, count, now)
            if left <= 0 and schedule.tunnel in active:
                left = self._run(engine, schedule, Count(now, count.runs + 1))
            waits.append(left if left > 0 else LOOK_EVERY)
        return min(waits)

    def _run(self, engine: Engine, schedule: Schedule, count: Count) -> float:
        """Rotate, and count it in the same transaction: both are so, or neither; seconds until the next."""
        again_at, said = self._refused.get(schedule.tunnel, (0.0, ""))
        if count.since.uptime < again_at:
            return again_at - count.since.uptime
        try:
            with engine.change():
                begin(engine, schedule.tunnel, schedule.overlap)
                put_count(engine.resources.store, schedule.tunnel, count)
        except ResourceError as error:
            if error.message != said:
                log.warning("'%s' is due for new keys, but: %s", schedule.tunnel, error.message)
            pause = min(RETRY_AFTER, schedule.interval / 4)
            self._refused[schedule.tunnel] = count.since.uptime + pause, error.message
            return pause
        self._refused.pop(schedule.tunnel, None)
        engine.settle("schedule")
        return seconds_left(schedule, count, count.since)


async def run_schedules(agent: Listener) -> None:
    """Look at the clock, for ever."""
    scheduler = Scheduler()
    while True:
        try:
            left = await agent.ask(scheduler.run_due)
        except ResourceError as error:
            log.error("the schedules could not be read: %s", error.message)  # noqa: TRY400 - one clear line
            left = RETRY_AFTER
        await agent.wait(left)


def _find(engine: Engine, tunnel: str) -> tuple[Schedule, Count | None]:
    for schedule, count in schedules(engine.resources.store):
        if schedule.tunnel == tunnel:
            return schedule, count
    raise InvalidInput(f"tunnel '{tunnel}' has no schedule")


def _view(engine: Engine, schedule: Schedule, count: Count | None) -> ScheduleView:
    now = moment(engine.resources.clock)
    left = seconds_left(schedule, count, now) if count else schedule.interval
    return ScheduleView(
        tunnel=schedule.tunnel,
        interval=schedule.interval,
        overlap=schedule.overlap,
        jitter=schedule.jitter,
        runs=count.runs if count else 0,
        since=iso_time(count.since.wall) if count else None,
        next_at=iso_time(now.wall + max(0.0, left)),
    )
