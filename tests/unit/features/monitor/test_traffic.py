"""Totals never shrink, and miss nothing that was seen: under any life of an engine, and of the agent."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.worlds import key_of, private_key_of

from resource_wireguard.features.monitor import tables
from resource_wireguard.features.monitor.traffic import Count, Look, PeerKey, Rates, Totals
from resource_wireguard.host.facts import Observation, PeerFacts
from resource_wireguard.host.state import Device, Link, state_of
from resource_wireguard.store.migrations import migrate
from resource_wireguard.store.sqlite import SqliteStore

PHONE: PeerKey = ("wg-a", key_of("phone"))
LAPTOP: PeerKey = ("wg-a", key_of("laptop"))
LINK, DEVICE = Link("wg-a", "a", "kernel", 1420), Device("wg-a", private_key_of("a"), 51820, 1)


class Monitoring:
    """A stand-in for what is migrated."""

    name, migrations = "monitor", tables.MIGRATIONS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "state.db")
    migrate(store, [Monitoring()])
    yield store
    store.close()


def seen(received: int, sent: int = 0) -> Observation:
    return Observation(state_of([LINK, DEVICE]), {PHONE: PeerFacts(rx_bytes=received, tx_bytes=sent)})


WITHOUT_LINK = Observation()
WITHOUT_PEER = Observation(state_of([LINK, DEVICE]))
SILENT = Observation(state_of([LINK]))
HALF_SEEN = Observation(complete=False)

steps = st.one_of(
    st.tuples(st.just("carries"), st.integers(0, 1000), st.integers(0, 1000)),
    st.tuples(st.sampled_from(["engine is silent", "look fails", "agent restarts"]), st.just(0), st.just(0)),
    st.tuples(st.just("engine is seen to be gone"), st.just(0), st.just(0)),
)


@given(st.lists(steps, max_size=40))
def test_totals_are_the_sum_of_all_that_was_carried(life: list[tuple[str, int, int]]) -> None:
    """Engines that die are seen to be gone, as the kernel reports it: then not a byte is missed."""
    totals, carried, counter = Totals({}), (0, 0), (0, 0)
    for step, received, sent in life:
        match step:
            case "carries":
                carried = (carried[0] + received, carried[1] + sent)
                counter = (counter[0] + received, counter[1] + sent)
                totals.see(seen(*counter))
            case "engine is silent":
                totals.see(SILENT)
            case "look fails":
                totals.see(HALF_SEEN)
            case "agent restarts":
                count = totals[PHONE]
                totals = Totals({PHONE: Count(count.rx_total, count.tx_total, count.rx_seen, count.tx_seen)})
            case _:
                counter = (0, 0)
                totals.see(WITHOUT_LINK)
        assert (totals[PHONE].rx_total, totals[PHONE].tx_total) == carried


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), max_size=30))
def test_totals_never_shrink_whatever_the_counters_do(counters: list[tuple[int, int]]) -> None:
    totals = Totals({})
    before = (0, 0)
    for received, sent in counters:
        totals.see(seen(received, sent))
        now = (totals[PHONE].rx_total, totals[PHONE].tx_total)
        assert now >= before and now[0] >= received and now[1] >= sent
        before = now


def test_a_counter_that_went_back_was_started_anew() -> None:
    totals = Totals({})
    totals.see(seen(1000, 10))
    totals.see(seen(300, 20))  # what was sent has grown meanwhile: both began together all the same
    assert (totals[PHONE].rx_total, totals[PHONE].tx_total) == (1300, 30)


def test_a_peer_that_was_taken_off_and_put_back_counts_from_zero() -> None:
    totals = Totals({})
    totals.see(seen(1000))
    totals.see(WITHOUT_PEER)
    totals.see(seen(4000))
    assert totals[PHONE].rx_total == 5000


def test_saved_counts_go_on_where_they_were(store: SqliteStore) -> None:
    totals = Totals(tables.load(store))
    totals.see(seen(1000, 10))
    tables.save(store, totals.changed(), [])
    totals.saved()
    assert list(totals.changed()) == []
    later = Totals(tables.load(store))
    later.see(seen(1500, 10))
    assert (later[PHONE].rx_total, later[PHONE].tx_total) == (1500, 10)


def test_only_what_changed_is_saved(store: SqliteStore) -> None:
    totals = Totals({})
    totals.see(seen(1000))
    totals.saved()
    totals.see(seen(1000))
    assert list(totals.changed()) == []


def test_a_deleted_peer_is_forgotten(store: SqliteStore) -> None:
    totals = Totals({PHONE: Count(1), LAPTOP: Count(2)})
    tables.save(store, [(PHONE, Count(1)), (LAPTOP, Count(2))], [])
    gone = totals.keep({PHONE: "home phone"})
    tables.save(store, [], gone)
    assert gone == [LAPTOP]
    assert set(tables.load(store)) == {PHONE}


def look(at: float, received: int, cpu: float = 0.0) -> Look:
    return Look(at, {PHONE: PeerFacts(rx_bytes=received)}, cpu)


def test_a_rate_is_an_average_between_two_looks() -> None:
    rates = Rates()
    rates.see(look(100, 1000, cpu=1.0))
    assert rates.of(PHONE) == (None, None)
    rates.see(look(104, 9000, cpu=1.1))
    assert rates.of(PHONE) == (2000, 0)
    assert rates.cpu_percent() == pytest.approx(2.5)


def test_looks_that_follow_each_other_at_once_make_no_rate_of_their_own() -> None:
    rates = Rates()
    for at, received in ((100, 0), (102, 2000), (102.01, 2900)):
        rates.see(look(at, received))
    assert rates.of(PHONE)[0] == pytest.approx(2900 / 2.01)


def test_a_rate_survives_a_counter_that_went_back() -> None:
    rates = Rates()
    rates.see(look(100, 5000))
    rates.see(look(102, 300))
    assert rates.of(PHONE)[0] == 150


def test_a_clock_that_was_set_back_begins_anew() -> None:
    rates = Rates()
    rates.see(look(100, 0))
    rates.see(look(50, 5000))
    assert rates.of(PHONE) == (None, None)
    rates.see(look(52, 6000))
    assert rates.of(PHONE)[0] == 500
