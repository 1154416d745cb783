"""Both ends change their keys at once, or one in the middle of the other's change: nothing waits for ever."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.netns.harness import CPUS, Lab, Pinger, Refused, wait_until
from tests.netns.test_exchange import A_INSIDE, B_INSIDE, Site, agree, introduce, moved

PER_SECOND = 200
ROUNDS = 5 if CPUS > 1 else 2
BOTH_WITHIN = 60.0


@pytest.fixture(autouse=True)
def shown_logs(sites: tuple[Site, Site]) -> Iterator[None]:
    """pytest shows what both agents wrote during a test that fails."""
    before = [len(site.agent.log) for site in sites]
    yield
    for site, start in zip(sites, before, strict=True):
        print(site.tunnel, site.agent.log[start:], sep="\n")


@pytest.fixture(scope="module")
def sites(lab: Lab) -> Iterator[tuple[Site, Site]]:
    a, b = introduce(lab.agent(lab.server).start(), lab.agent(lab.laptop).start())
    yield a, b
    for site in (a, b):
        site.agent.end()


@contextlib.contextmanager
def no_packet_lost(a: Site, b: Site) -> Iterator[None]:
    with (
        Pinger(b.namespace, A_INSIDE, PER_SECOND) as up,
        Pinger(a.namespace, B_INSIDE, PER_SECOND) as down,
    ):
        try:
            yield
        finally:
            up.stop()
            down.stop()
    assert (up.lost, down.lost) == (0, 0)


def at_once(*calls: Callable[[], Any]) -> None:
    """All begin within a millisecond or so."""
    barrier = threading.Barrier(len(calls))

    def begin(call: Callable[[], Any]) -> None:
        barrier.wait()
        call()

    threads = [threading.Thread(target=begin, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def rotate(site: Site) -> None:
    site.agent.call("rotate.keys", tunnel=site.tunnel, overlap=3600)


def key(site: Site) -> str:
    return site.shown()["public_key"]


def quiet(a: Site, b: Site) -> bool:
    """Whether neither is rotating anything, and both agree."""
    going_on = [site.agent.call("rotate.status", tunnel=site.tunnel)[0]["running"] for site in (a, b)]
    return going_on == [[], []] and agree(a, b)


def end(a: Site, b: Site) -> None:
    wait_until(lambda: quiet(a, b), BOTH_WITHIN, "an end at both ends")
    for site in (a, b):
        assert len(site.interfaces()) <= 2, "its own, and one on which the peer sits till its session lapses"


def test_both_ends_change_their_keys_at_the_same_moment(sites: tuple[Site, Site]) -> None:
    a, b = sites
    with no_packet_lost(a, b):
        for _ in range(ROUNDS):
            before = key(a), key(b)
            at_once(lambda: rotate(a), lambda: rotate(b))
            end(a, b)
            assert key(a) != before[0]
            assert key(b) != before[1]


@pytest.mark.any_engine
def test_schedules_that_fall_due_together(sites: tuple[Site, Site]) -> None:
    a, b = sites
    before = key(a), key(b)
    with no_packet_lost(a, b):
        at_once(*(lambda site=site: schedule(site) for site in sites))
        try:
            wait_until(lambda: key(a) != before[0] and key(b) != before[1], BOTH_WITHIN, "both new keys")
        finally:
            for site in sites:
                site.agent.call("rotate.schedule-off", tunnel=site.tunnel)
        end(a, b)


def schedule(site: Site) -> None:
    site.agent.call("rotate.schedule", tunnel=site.tunnel, interval=2.0, overlap=2.0)


@pytest.mark.any_engine
@pytest.mark.parametrize("later", [0.0, 0.15])
def test_one_end_asks_the_other_for_the_key_that_it_is_making_already(
    sites: tuple[Site, Site], later: float
) -> None:
    """A wish meets the thing that is wished for: one rotation, and A's wish is fulfilled by it."""
    a, b = sites
    made = len(b.agent.call("rotate.history", tunnel=b.tunnel))
    before = key(b)
    with no_packet_lost(a, b):
        rotate(b)
        time.sleep(later)
        a.agent.call("rotate.peer", tunnel=a.tunnel, peer=a.peer)
        end(a, b)
    assert key(b) != before
    assert len(b.agent.call("rotate.history", tunnel=b.tunnel)) == made + 1


def test_one_end_begins_while_the_other_one_is_half_done(sites: tuple[Site, Site], phone: None) -> None:
    """B does not have to wait for A's phone, and A's own rotation is as it was."""
    a, b = sites
    before = key(a)
    with no_packet_lost(a, b):
        rotate(a)
        wait_until(lambda: moved(a), what="B's handshake with A's new key")
        for _ in range(ROUNDS):
            rotate(b)
            wait_until(lambda: settled(b) and agreed(a, b), BOTH_WITHIN, "B's end")
            assert moved(a)
        assert key(a) == before
        with pytest.raises(Refused, match="is the only one for the agent of 'b' already"):
            a.agent.call("rotate.rollback", tunnel=a.tunnel)
        a.agent.call("peer.disable", tunnel=a.tunnel, name="phone")
        end(a, b)
        assert key(a) != before


def settled(site: Site) -> bool:
    return not site.agent.call("rotate.status", tunnel=site.tunnel)[0]["running"]


def agreed(a: Site, b: Site) -> bool:
    return a.peer_key() == key(b)


@pytest.mark.any_engine
@pytest.mark.parametrize("number", range(ROUNDS))
def test_one_end_goes_back_while_the_other_one_begins(
    sites: tuple[Site, Site], phone: None, number: int
) -> None:
    a, b = sites
    before = key(a), key(b)
    with no_packet_lost(a, b):
        rotate(a)
        if number % 2:
            wait_until(lambda: moved(a), what="B's handshake with A's new key")
        at_once(lambda: go_back(a), lambda: rotate(b))
        wait_until(lambda: settled(b) and agreed(a, b), BOTH_WITHIN, "B's end")
        assert key(b) != before[1]
        assert key(a) == before[0]
        if not settled(a):  # B had come first
            a.agent.call("peer.disable", tunnel=a.tunnel, name="phone")
        end(a, b)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_one_end_goes_back_after_the_other_one_has_moved(
    sites: tuple[Site, Site], phone: None, number: int
) -> None:
    """As a person types it: the answer comes when the new device is gone."""
    a, b = sites
    before = key(a), a.interfaces()
    with no_packet_lost(a, b):
        rotate(a)
        wait_until(lambda: moved(a), what="B's handshake with A's new key")
        done = a.agent.cli("rotate", "rollback", a.tunnel)
        assert done.returncode == 0, done.stderr
        assert (done.stderr, settled(a)) == ("", True)
        assert "rolled back" in done.stdout
        assert (key(a), a.interfaces()) == before
        end(a, b)


def go_back(site: Site) -> None:
    with contextlib.suppress(Refused):
        site.agent.call("rotate.rollback", tunnel=site.tunnel)
