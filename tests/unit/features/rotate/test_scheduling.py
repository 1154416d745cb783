"""Schedules on an engine: what is due begins once, whatever is refused, killed or taken back in between."""

import pytest
from tests.unit.features.rotate.conftest import Stage

from resource_wireguard.errors import InvalidInput, NotFound, StoreError
from resource_wireguard.features.rotate import scheduling
from resource_wireguard.features.rotate.scheduling import LOOK_EVERY, RETRY_AFTER, Scheduler

DAY = 86400.0


@pytest.fixture
def scheduled(stage: Stage) -> Stage:
    """Tunnel home rotates every 30 days."""
    stage.call("rotate.schedule", tunnel="home", interval=30 * DAY)
    return stage


def begun(stage: Stage) -> int:
    return len(stage.call("rotate.history", tunnel="home"))


def end_running(stage: Stage) -> None:
    for peer in ("phone", "laptop"):
        stage.shake(peer, 1)
    stage.settle_down()


def test_what_is_due_begins_as_the_command_does_it(scheduled: Stage) -> None:
    scheduler = Scheduler()
    scheduled.clock.time += 30 * DAY - 10
    assert scheduler.run_due(scheduled.engine) == pytest.approx(10)
    assert begun(scheduled) == 0
    scheduled.clock.time += 11
    assert scheduler.run_due(scheduled.engine) <= LOOK_EVERY
    (running,) = scheduled.call("rotate.status", tunnel="home")[0]["running"]
    assert (running["actor"], running["seconds_left"]) == ("agent", 7 * DAY)
    (shown,) = scheduled.call("rotate.schedules")
    assert shown["runs"] == 1
    scheduler.run_due(scheduled.engine)
    Scheduler().run_due(scheduled.engine)  # an agent that was started again
    assert begun(scheduled) == 1


def test_many_missed_times_are_one_rotation(scheduled: Stage) -> None:
    scheduled.clock.time += 400 * DAY
    Scheduler().run_due(scheduled.engine)
    end_running(scheduled)
    scheduled.clock.time += DAY
    Scheduler().run_due(scheduled.engine)
    assert begun(scheduled) == 1


def test_a_rotation_and_its_count_are_kept_together_or_not_at_all(
    scheduled: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise StoreError("the disk is full")

    scheduled.clock.time += 31 * DAY
    with monkeypatch.context() as patch:
        patch.setattr(scheduling, "put_count", broken)
        assert Scheduler().run_due(scheduled.engine) == LOOK_EVERY
    assert begun(scheduled) == 0
    assert list(scheduled.host.interfaces) == ["wg-home"]
    Scheduler().run_due(scheduled.engine)
    assert begun(scheduled) == 1


def test_what_is_refused_is_tried_again_and_told_once(
    scheduled: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    scheduled.call("rotate.keys", tunnel="home")
    scheduled.clock.time += 31 * DAY
    scheduler = Scheduler()
    for _ in range(5):
        scheduler.run_due(scheduled.engine)
        scheduled.clock.time += RETRY_AFTER
    assert begun(scheduled) == 1
    assert len([r for r in caplog.records if "due for new keys, but" in r.message]) == 1
    end_running(scheduled)
    scheduled.clock.time += RETRY_AFTER
    scheduler.run_due(scheduled.engine)
    assert begun(scheduled) == 2


def test_an_inactive_tunnel_waits_until_it_is_active(scheduled: Stage) -> None:
    scheduled.call("tunnel.deactivate", name="home")
    scheduled.clock.time += 31 * DAY
    Scheduler().run_due(scheduled.engine)
    assert begun(scheduled) == 0
    scheduled.call("tunnel.activate", name="home")
    Scheduler().run_due(scheduled.engine)
    assert begun(scheduled) == 1


def test_a_new_interval_counts_from_the_last_rotation(scheduled: Stage) -> None:
    scheduled.clock.time += 20 * DAY
    scheduled.call("rotate.schedule", tunnel="home", interval=15 * DAY)
    Scheduler().run_due(scheduled.engine)
    assert begun(scheduled) == 1


def test_a_schedule_ends_and_goes_with_its_tunnel(scheduled: Stage) -> None:
    assert scheduled.call("rotate.schedule-off", tunnel="home") == {"tunnel": "home"}
    with pytest.raises(NotFound, match="tunnel 'home' has no schedule"):
        scheduled.call("rotate.schedule-off", tunnel="home")
    scheduled.call("rotate.schedule", tunnel="home", interval=30 * DAY)
    scheduled.call("tunnel.delete", name="home")
    assert scheduled.call("rotate.schedules") == []


def test_undo_takes_back_a_schedule(scheduled: Stage) -> None:
    scheduled.call("undo")
    assert scheduled.call("rotate.schedules") == []


def test_what_makes_no_schedule_is_refused_and_nothing_kept(stage: Stage) -> None:
    with pytest.raises(InvalidInput, match="an interval of 0s is none"):
        stage.call("rotate.schedule", tunnel="home", interval=0)
    with pytest.raises(NotFound):
        stage.call("rotate.schedule", tunnel="hom", interval=30 * DAY)
    assert stage.call("rotate.schedules") == []
