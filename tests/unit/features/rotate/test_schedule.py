"""Schedules over random lives of a host: clocks that are set, sleep, restarts, hours without power."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resource_wireguard.errors import InvalidInput
from resource_wireguard.features.rotate.schedule import (
    PLAUSIBLE_SINCE,
    Count,
    Moment,
    Schedule,
    checked,
    misdated,
    seconds_left,
)

DAY = 86400.0
START = PLAUSIBLE_SINCE + 300 * DAY


class Machine:
    """A host with a wall clock that may be wrong, a boot clock that is not, and an agent that looks."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.true = START
        self.wrong = 0.0
        self.boots = 0
        self.booted_at = START - 100
        self.count = Count(self.moment)
        self.ran: list[float] = []

    @property
    def moment(self) -> Moment:
        return Moment(self.true + self.wrong, f"boot {self.boots}", self.true - self.booted_at)

    def look(self) -> None:
        """What the source does: at most one rotation a look."""
        now = self.moment
        if misdated(self.count, now):
            self.count = Count(now, self.count.runs)
        elif seconds_left(self.schedule, self.count, now) <= 0:
            self.count = Count(now, self.count.runs + 1)
            self.ran.append(self.true)

    def pass_time(self, seconds: float) -> None:
        """Awake: the agent looks every hour."""
        while seconds > 0:
            self.true += min(3600.0, seconds)
            seconds -= 3600
            self.look()

    def reboot(self, after: float) -> None:
        self.true += after
        self.boots += 1
        self.booted_at = self.true - 10
        self.look()


def schedule(jitter: float = 0.0) -> Schedule:
    return Schedule(tunnel="home", interval=30 * DAY, overlap=7 * DAY, jitter=jitter, seed=7)


spans = st.floats(0, 100 * DAY)
quiet_lives = st.lists(
    st.tuples(st.sampled_from(["awake", "asleep", "off", "agent off"]), spans), max_size=12
)
jumps = st.tuples(st.just("set"), st.floats(-4000 * DAY, 4000 * DAY))
one_boot = st.lists(st.one_of(st.tuples(st.sampled_from(["awake", "asleep"]), spans), jumps), max_size=12)


any_lives = st.lists(
    st.one_of(st.tuples(st.sampled_from(["awake", "asleep", "off"]), spans), jumps), max_size=15
)


def live(machine: Machine, life: list[tuple[str, float]]) -> None:
    for what, much in life:
        if what == "awake":
            machine.pass_time(much)
        elif what == "off":
            machine.reboot(much)
        elif what == "set":
            machine.wrong = much
            machine.look()
        else:  # the host sleeps, or the agent is not there: time goes by unseen
            machine.true += much
            machine.look()


def due_once_each(machine: Machine) -> None:
    """No two rotations closer than an interval; none is owed; and what was missed was caught up by one."""
    least = machine.schedule.interval
    most = least + machine.schedule.jitter
    moments = [START, *machine.ran]
    assert all(b - a >= least - 0.001 for a, b in itertools.pairwise(moments))
    assert machine.true - moments[-1] <= most + 3600
    machine.look()
    assert len(machine.ran) == len(moments) - 1


@given(quiet_lives, st.floats(0, 10 * DAY))
def test_each_due_time_is_run_once_over_sleep_restarts_and_hours_without_power(
    life: list[tuple[str, float]], jitter: float
) -> None:
    machine = Machine(schedule(jitter))
    live(machine, life)
    due_once_each(machine)


@given(one_boot)
def test_a_clock_that_is_set_starts_nothing_and_puts_nothing_off(life: list[tuple[str, float]]) -> None:
    machine = Machine(schedule())
    live(machine, life)
    due_once_each(machine)


@settings(max_examples=200)
@given(any_lives)
def test_whatever_the_clock_showed_a_right_one_ends_in_a_rotation_within_two_intervals(
    life: list[tuple[str, float]],
) -> None:
    machine = Machine(schedule(jitter=3 * DAY))
    live(machine, life)
    machine.wrong = 0.0
    machine.look()
    before = len(machine.ran)
    machine.pass_time(2 * 33 * DAY)
    assert 1 <= len(machine.ran) - before <= 3


@given(quiet_lives)
def test_times_that_were_missed_are_caught_up_by_one_run(life: list[tuple[str, float]]) -> None:
    machine = Machine(schedule())
    live(machine, life)
    before = len(machine.ran)
    machine.reboot(400 * DAY)
    machine.pass_time(DAY)
    assert len(machine.ran) == before + 1


def test_a_host_without_a_battery_is_not_rotated_at_each_boot() -> None:
    machine = Machine(schedule())
    for _ in range(20):
        machine.wrong = -machine.true - 10  # the clock begins at 1970 until the network is there
        machine.reboot(after=60)
        machine.wrong = 0.0
        machine.pass_time(DAY)
    assert machine.ran == []
    machine.pass_time(30 * DAY)
    assert len(machine.ran) == 1


def test_the_delay_of_a_run_is_the_same_whenever_it_is_asked_for_and_another_for_the_next() -> None:
    now = Moment(START, "boot", 0.0)
    left = [seconds_left(schedule(5 * DAY), Count(now, run), now) for run in (0, 0, 1, 2)]
    assert left[0] == left[1]
    assert len(set(left)) == 3
    assert all(30 * DAY <= seconds <= 35 * DAY for seconds in left)


@pytest.mark.parametrize(
    ("interval", "overlap", "jitter", "says"),
    [
        (0, None, 0, "an interval of 0s"),
        (-3600, None, 0, "an interval of -1h"),
        (float("nan"), None, 0, "an interval of nans"),
        (float("inf"), None, 0, "over 10 years"),
        (11 * 365 * DAY, None, 0, "over 10 years"),
        (DAY, 2 * DAY, 0, "do not go together"),
        (DAY, None, 0, "do not go together"),
        (DAY, 0, 0, "do not go together"),
        (DAY, 3600, DAY, "jitter of 1d"),
        (DAY, 3600, -1, "jitter of -1s"),
    ],
)
def test_what_makes_no_schedule_is_refused(
    interval: float, overlap: float | None, jitter: float, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        checked(interval, overlap, jitter)
