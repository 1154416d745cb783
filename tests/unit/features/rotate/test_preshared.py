"""A new preshared key between two agents, over WireGuard in memory: whatever is lost, both end with one."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.features.rotate.conftest import Stage
from tests.unit.worlds import StoppedClock, key_of

from resource_wireguard.errors import ConflictError, NotFound
from resource_wireguard.features.rotate import exchange, offered, tables
from resource_wireguard.features.rotate.exchange import Telling
from resource_wireguard.features.rotate.messages import (
    VERSION,
    Heard,
    NotYet,
    Preshared,
    Statement,
    decode,
    encode,
)
from resource_wireguard.features.rotate.preshared import ALONE, BOTH, HERE, LEASE, OFFERED, TOLD
from resource_wireguard.features.rotate.trials import COMPLETE, FAILING, NO_HANDSHAKE, SETTLED, TRY_MOST
from resource_wireguard.features.rotate.wishes import ANSWER_WITHIN, ASKED
from resource_wireguard.host.state import Peer
from resource_wireguard.model.keys import NO_PRESHARED_KEY, PresharedKey, fingerprint
from resource_wireguard.store.sqlite import SqliteStore

IDENTITY = "0123456789abcdef"
REKEY, LIFETIME, RETRY = 120.0, 180.0, 5.0


class End(Stage):
    """One of two hosts; its agent can be down."""

    def __init__(self, folder: Path, name: str, clock: StoppedClock) -> None:
        self.name, self.up = name, True
        super().__init__(SqliteStore(folder / f"{name}.db"), folder / f"{name}.key")
        self.clock = clock
        self.begin_anew()

    def begin_anew(self) -> None:
        for events in self.host.subscribers:
            events.close()
        self.host.subscribers.clear()
        super().begin_anew()
        self.up = True

    @property
    def other(self) -> str:
        return "b" if self.name == "a" else "a"

    def peer(self) -> Any:
        return self.engine.specs().tunnel("home").peer(self.other)

    def in_kernel(self) -> PresharedKey | None:
        """The preshared key that a handshake of now would take."""
        (there,) = self.host.interfaces.values()
        (peer,) = there.peers.values()
        return peer.preshared_key

    def state(self) -> str:
        return self.past()[0]["outcome"]

    def past(self) -> list[dict[str, Any]]:
        return self.call("rotate.history", tunnel="home")

    def is_open(self) -> bool:
        return bool(tables.rotations(self.store, running=True))

    def running(self) -> list[dict[str, Any]]:
        return self.call("rotate.status", tunnel="home")[0]["running"]

    def held(self) -> list[str]:
        """The secrets of what is open."""
        names = (name for (name,) in self.store.query("SELECT name FROM secrets"))
        return [name for name in names if name.endswith(("/fresh", "/other"))]

    def rotate(self) -> dict[str, Any]:
        return self.call("rotate.psk", tunnel="home", peer=self.other)


class Pair:
    """Two hosts, and the WireGuard between them."""

    def __init__(self, folder: Path, preshared: str = "none") -> None:
        self.clock = StoppedClock()
        self.a, self.b = (End(folder, name, self.clock) for name in "ab")
        self.ends = (self.a, self.b)
        self.shook = 0.0
        for end, number in ((self.a, 1), (self.b, 2)):
            end.call("tunnel.create", name="home", addresses=[f"10.13.13.{number}/24"])
        for end, other, number in ((self.a, self.b, 2), (self.b, self.a, 1)):
            key = other.engine.specs().tunnel("home").public_key
            end.call(
                "peer.add", tunnel="home", name=end.other, public_key=str(key), preshared_key=preshared,
                addresses=[f"10.13.13.{number}/32"], endpoint=f"192.0.2.{number}:51820",
            )  # fmt: skip
        self.shake()

    def close(self) -> None:
        for end in self.ends:
            end.store.close()
            for events in end.host.subscribers:
                events.close()

    @property
    def first(self) -> End:
        """The one that goes first where both begin at once."""
        return min(self.ends, key=lambda end: end.engine.specs().tunnel("home").public_key)

    @property
    def second(self) -> End:
        return self.a if self.first is self.b else self.b

    def alive(self) -> bool:
        return self.clock.time - self.shook < LIFETIME

    def shake(self) -> bool:
        """A handshake, which succeeds where both kernels have one key."""
        if self.a.in_kernel() != self.b.in_kernel():
            return False
        for end in self.ends:
            (name,) = end.host.interfaces
            end.host.handshake(name, end.peer().public_key, "192.0.2.9:51820", self.clock.time)
        self.shook = self.clock.time
        return True

    def say(self, speaker: End, *, lost: bool = False) -> list[Heard | NotYet]:
        """All that an end has to say is said once; lost: no answer reaches it."""
        hearer = self.b if speaker is self.a else self.a
        answers = []
        for telling in self.said(speaker) if self.alive() and speaker.up and hearer.up else ():
            message = decode(encode(telling.message(IDENTITY)))
            assert isinstance(message, Preshared)
            home = hearer.engine.specs().tunnel("home")
            answer = offered.hear(hearer.engine, (home, home.peer(speaker.name)), message, hearer.limits)
            if isinstance(answer, Heard) and not lost:
                exchange.told(speaker.engine, telling, answer)
            answers.append(answer)
        return answers

    def said(self, speaker: End) -> list[Telling]:
        return [telling for telling in exchange.tellings(speaker.engine) if telling.offer]

    def pass_by(
        self, seconds: float, *, traffic: bool = True, talk: bool = True, every: float = RETRY
    ) -> None:
        """Time, with the engines' rekeying, and the agents that are up at work."""
        until = self.clock.time + seconds
        while self.clock.time < until:
            self.clock.time = min(until, self.clock.time + every)
            if traffic and self.clock.time - self.shook >= REKEY:
                self.shake()
            for end in self.ends:
                if end.up:
                    if end.engine.last is None or end.engine.last.facts.now <= self.shook:
                        end.engine.settle()
                    end.watch.look(end.engine)
                if talk:
                    self.say(end)

    def agree(self) -> bool:
        return self.a.in_kernel() == self.b.in_kernel() == (self.a.peer().preshared_key)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path, PresharedKey(bytes(range(32))).reveal())
    yield pair
    pair.close()


def test_both_have_it_and_it_is_complete_with_a_handshake_alone(pair: Pair) -> None:
    a, b, old = pair.a, pair.b, pair.a.in_kernel()
    done = a.rotate()
    assert done["asking"]
    assert (a.state(), a.in_kernel()) == (ASKED, old)
    assert isinstance(pair.say(a)[0], Heard)
    assert (a.state(), b.state()) == (TOLD, OFFERED)
    assert a.in_kernel() != old
    assert b.in_kernel() == old
    assert isinstance(pair.say(a)[0], Heard)
    assert (a.state(), b.state()) == (BOTH, BOTH)
    assert pair.agree()
    shown = a.call("rotate.asked", tunnel="home", number=done["rotation"]["id"])
    assert (shown["asking"], shown["notes"]) == (
        False,
        ["the agent of 'b' has the new key too: nothing is left to do"],
    )
    assert [step for step in shown["next"] if "config" in step] == []
    pair.pass_by(60)
    assert (a.state(), b.state()) == (BOTH, BOTH)
    pair.pass_by(80)
    assert (a.state(), b.state()) == (COMPLETE, COMPLETE)
    assert (
        a.past()[0]["new_fingerprint"] == b.past()[0]["new_fingerprint"] == fingerprint(a.in_kernel() or b"")
    )
    assert a.past()[0]["kept_until"]
    assert a.running() == b.running() == []
    assert a.held() == b.held() == []


def test_where_there_was_none_there_is_one_now(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.a.rotate()
    pair.say(pair.a)
    pair.say(pair.a)
    assert pair.agree()
    assert pair.a.in_kernel() is not None
    assert pair.b.past()[0]["old_fingerprint"] == "none"


def test_a_handshake_of_before_or_just_after_the_change_proves_nothing(pair: Pair) -> None:
    pair.a.rotate()
    pair.say(pair.a)
    pair.say(pair.a)
    pair.clock.time += 4
    pair.shake()
    pair.pass_by(20)
    assert pair.a.state() == BOTH


@pytest.mark.parametrize("answers", [0, 1], ids=["the first", "the second"])
def test_a_lost_answer_is_made_good_by_the_next(pair: Pair, answers: int) -> None:
    pair.a.rotate()
    for _ in range(answers):
        pair.say(pair.a)
    pair.say(pair.a, lost=True)
    for _ in range(2):
        pair.say(pair.a)
    assert (pair.a.state(), pair.b.state(), pair.agree()) == (BOTH, BOTH, True)
    assert len(pair.b.past()) == 1


@pytest.mark.parametrize("who", ["a", "b"])
@pytest.mark.parametrize("said", [0, 1, 2])
def test_whoever_is_killed_goes_on_where_it_was(pair: Pair, said: int, who: str) -> None:
    pair.a.rotate()
    for _ in range(said):
        pair.say(pair.a)
    getattr(pair, who).begin_anew()
    for _ in range(2):
        pair.say(pair.a)
    assert (pair.a.state(), pair.b.state(), pair.agree()) == (BOTH, BOTH, True)


@pytest.mark.parametrize(("who", "said"), [("a", 0), ("b", 1)])
def test_a_key_that_is_stored_and_not_set_is_no_key_in_use(pair: Pair, who: str, said: int) -> None:
    """As the kernel refuses it, or the agent is killed before; handshakes meanwhile are with the old key."""
    end, old = getattr(pair, who), pair.a.in_kernel()
    pair.a.rotate()
    for _ in range(said):
        pair.say(pair.a)
    end.host.refuse(Peer)
    pair.say(pair.a)
    pair.clock.time += 2 * SETTLED
    end.look()
    assert end.in_kernel() == old
    assert pair.shake() == (who == "a")
    end.host.relent()
    end.begin_anew()
    end.look()
    assert (end.state(), pair.said(pair.a)[0].offer.use) == (TOLD if who == "a" else BOTH, True)
    pair.pass_by(20)
    assert (pair.a.state(), pair.b.state(), pair.agree()) == (BOTH, BOTH, True)


def test_the_word_that_it_is_in_use_never_comes_and_nothing_is_lost(pair: Pair) -> None:
    """The other end tries its two keys once the session is not renewed, and before it is over."""
    pair.a.rotate()
    pair.say(pair.a)
    assert (pair.a.state(), pair.b.state()) == (TOLD, OFFERED)
    for _ in range(20):
        pair.pass_by(10, talk=False)
        assert pair.alive()
    assert pair.agree()
    pair.pass_by(150, talk=False)
    assert (pair.a.state(), pair.b.state()) == (COMPLETE, COMPLETE)


@pytest.mark.parametrize("away", [300.0, 5000.0, 100_000.0])
def test_after_any_time_apart_they_find_each_other(pair: Pair, away: float) -> None:
    pair.a.rotate()
    pair.say(pair.a)
    pair.clock.time += away
    pair.pass_by(700, talk=False)
    assert pair.alive()
    assert pair.agree()
    assert pair.b.state() == COMPLETE


def test_a_handshake_that_may_be_of_either_key_drops_none(pair: Pair) -> None:
    """It comes at once after a key is tried, and then nothing is sent until the other key is tried."""
    pair.a.rotate()
    pair.say(pair.a)
    pair.clock.time += 2 * LEASE
    while not pair.alive():
        pair.pass_by(RETRY, talk=False)
    pair.pass_by(FAILING + 2 * TRY_MOST, traffic=False, talk=False)
    assert pair.b.state() == OFFERED
    pair.pass_by(700, talk=False)
    assert (pair.b.state(), pair.agree()) == (COMPLETE, True)


def test_a_clock_that_is_set_back_holds_nothing_up(pair: Pair) -> None:
    pair.a.rotate()
    for _ in range(2):
        pair.say(pair.a)
    pair.clock.time -= 3600
    pair.shook = pair.clock.time
    pair.pass_by(REKEY + 20)
    assert (pair.a.state(), pair.b.state()) == (COMPLETE, COMPLETE)


def test_a_word_about_the_key_before_says_nothing_of_this_one(pair: Pair) -> None:
    pair.a.rotate()
    pair.say(pair.a)
    (late,) = pair.said(pair.a)
    pair.pass_by(REKEY + 20)
    pair.a.rotate()
    pair.say(pair.a, lost=True)
    home = pair.b.engine.specs().tunnel("home")
    answer = offered.hear(pair.b.engine, (home, home.peer("a")), late.message(IDENTITY), pair.b.limits)
    assert isinstance(answer, Heard)
    assert pair.b.state() == OFFERED
    for _ in range(2):
        pair.say(pair.a)
    assert (pair.a.state(), pair.b.state(), pair.agree()) == (BOTH, BOTH, True)


def test_an_offer_that_is_not_decided_changes_nothing_and_is_given_up(pair: Pair) -> None:
    old = pair.a.in_kernel()
    pair.a.rotate()
    pair.say(pair.a, lost=True)
    pair.a.call("rotate.rollback", tunnel="home", peer="b")
    assert (pair.a.state(), pair.b.state()) == ("rolled back", OFFERED)
    pair.pass_by(LEASE - 10)
    assert (pair.b.state(), pair.b.in_kernel()) == (OFFERED, old)
    pair.pass_by(300)
    assert (pair.b.state(), pair.b.in_kernel()) == ("not taken up", old)
    assert pair.agree()


def test_without_an_answer_the_key_is_changed_here_and_goes_on_being_told(pair: Pair) -> None:
    pair.b.up = False
    number = pair.a.rotate()["rotation"]["id"]
    pair.pass_by(ANSWER_WITHIN + 5)
    shown = pair.a.call("rotate.asked", tunnel="home", number=number)
    assert shown["rotation"]["outcome"] == ALONE
    assert shown["next"][0].startswith("resource-wireguard peer config home b")
    assert "the agent of 'b' has not answered" in shown["notes"][0]
    assert "'b' needs the new key by" in shown["notes"][1]
    pair.b.up = True
    pair.pass_by(10)
    assert (pair.a.state(), pair.b.state(), pair.agree()) == (BOTH, BOTH, True)


def test_one_that_heard_and_whose_answers_were_lost_ends_with_the_same_key(pair: Pair) -> None:
    pair.a.rotate()
    pair.say(pair.a, lost=True)
    pair.pass_by(400, talk=False)
    assert pair.agree()
    assert (pair.a.state(), pair.b.state()) == (COMPLETE, COMPLETE)


def test_a_peer_that_never_shakes_hands_again_is_not_waited_for(pair: Pair) -> None:
    pair.b.up = False
    pair.a.rotate()
    pair.pass_by(LEASE + 20, traffic=False)
    assert pair.a.state() == NO_HANDSHAKE
    assert pair.a.running() == []


def test_an_agent_that_was_away_itself_asks_once_more(pair: Pair) -> None:
    pair.a.rotate()
    pair.clock.time += 100
    pair.a.begin_anew()
    pair.a.look()
    assert pair.a.state() == ASKED
    pair.say(pair.a)
    assert pair.a.state() == TOLD


def test_both_at_once_end_with_the_key_of_one(pair: Pair) -> None:
    pair.first.rotate()
    pair.second.rotate()
    assert isinstance(pair.say(pair.second)[0], NotYet)
    for _ in range(2):
        assert isinstance(pair.say(pair.first)[0], Heard)
    assert pair.said(pair.second) == []
    assert pair.agree()
    assert (pair.first.state(), pair.second.state()) == (BOTH, BOTH)
    assert pair.second.past()[1]["outcome"] == "another one came from the other end"


def test_what_is_decided_goes_before_what_is_not(pair: Pair) -> None:
    """The second has decided alone; the first has only begun."""
    pair.second.rotate()
    pair.first.up = False
    pair.pass_by(ANSWER_WITHIN + 5)
    pair.first.up = True
    pair.first.rotate()
    assert isinstance(pair.say(pair.first)[0], NotYet)
    pair.pass_by(1)
    assert pair.agree()
    assert (pair.first.state(), pair.second.state()) == (BOTH, BOTH)


def test_both_have_decided_alone_and_then_hear_each_other(pair: Pair) -> None:
    for end in pair.ends:
        end.rotate()
    pair.pass_by(ANSWER_WITHIN + 5, talk=False)
    assert [end.state() for end in pair.ends] == [ALONE, ALONE]
    assert isinstance(pair.say(pair.second)[0], NotYet)
    assert isinstance(pair.say(pair.first)[0], Heard)
    assert pair.agree()


def test_while_a_key_is_new_here_no_other_is_made(pair: Pair) -> None:
    pair.a.rotate()
    pair.say(pair.a)
    for end in pair.ends:
        with pytest.raises(ConflictError, match="has a new preshared key already"):
            end.rotate()
        with pytest.raises(ConflictError, match="is being rotated already"):
            end.call("rotate.peer", tunnel="home", peer=end.other)
        with pytest.raises(ConflictError, match="may be in use already"):
            end.call("rotate.rollback", tunnel="home", peer=end.other)


def test_a_key_of_the_peer_can_change_at_once_beside_it(pair: Pair) -> None:
    """So an agent's new key does not wait for the next handshake."""
    pair.a.rotate()
    pair.say(pair.a)
    pair.b.call("rotate.peer", tunnel="home", peer="a", public_key=str(key_of("new")), now=True)
    assert pair.b.running()[0]["what"] == "preshared key"


def test_all_devices_on_which_a_peer_sits_have_the_new_key(pair: Pair) -> None:
    """The keys of A's tunnel change meanwhile: it has two devices, and so has B, where a guest is."""
    pair.a.call("rotate.keys", tunnel="home")
    (telling,) = exchange.tellings(pair.a.engine)
    message, home = telling.message(IDENTITY), pair.b.engine.specs().tunnel("home")
    assert isinstance(message, Statement)
    assert isinstance(exchange.hear(pair.b.engine, (home, home.peer("a")), message, pair.b.limits), Heard)
    pair.b.rotate()
    for _ in range(2):
        assert isinstance(pair.say(pair.b)[0], Heard)
    keys = [
        peer.preshared_key
        for end in pair.ends
        for there in end.host.interfaces.values()
        for peer in there.peers.values()
    ]
    assert keys == [pair.b.peer().preshared_key] * 4
    assert (pair.a.state(), pair.b.state()) == (BOTH, BOTH)


def test_a_peer_offers_one_key_a_minute(pair: Pair) -> None:
    for again in (False, True):
        pair.a.rotate()
        answers = pair.say(pair.a, lost=True)
        assert isinstance(answers[0], NotYet if again else Heard)
        pair.a.call("rotate.rollback", tunnel="home", peer="b")
    pair.clock.time += 61
    pair.a.rotate()
    assert isinstance(pair.say(pair.a)[0], Heard)


def test_offers_without_end_leave_a_short_history(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offered, "HISTORY_MOST", 3)
    for _ in range(6):
        pair.clock.time += 61
        pair.shake()
        pair.a.rotate()
        assert isinstance(pair.say(pair.a, lost=True)[0], Heard)
        pair.a.call("rotate.rollback", tunnel="home", peer="b")
    assert len(pair.b.past()) == 4


def test_a_key_made_of_another_one_is_not_taken(pair: Pair) -> None:
    """Neither by one who knows only what is said, nor of keys that differ at the two ends."""
    home, before = pair.b.engine.specs().tunnel("home"), pair.b.in_kernel()
    fresh = PresharedKey(bytes(32))
    for key in (NO_PRESHARED_KEY.renewed(fresh), fresh):
        for use in (False, True):
            message = Preshared(VERSION, IDENTITY, fresh.reveal(), fingerprint(key), use)
            answer = offered.hear(pair.b.engine, (home, home.peer("a")), message, pair.b.limits)
            assert isinstance(answer, NotYet)
    bad = Preshared(VERSION, IDENTITY, "?" * 44, fingerprint(fresh), True)
    answer = offered.hear(pair.b.engine, (home, home.peer("a")), bad, pair.b.limits)
    assert isinstance(answer, NotYet)
    assert pair.b.past() == []
    assert pair.b.in_kernel() == before


def test_a_key_changed_by_hand_meanwhile_ends_it(pair: Pair) -> None:
    pair.a.rotate()
    home = pair.a.engine.specs().tunnel("home")
    with pair.a.engine.change():
        changed = replace(pair.a.peer(), preshared_key=PresharedKey(bytes([7]) * 32))
        pair.a.engine.tunnels.put_peer(pair.a.engine.resources, home.name, changed)
    pair.say(pair.a)
    pair.pass_by(10, talk=False)
    assert pair.a.state() == "the old one was changed otherwise"
    assert pair.a.in_kernel() == PresharedKey(bytes([7]) * 32)


def test_a_peer_that_is_removed_takes_all_of_it_along(pair: Pair) -> None:
    pair.a.rotate()
    pair.say(pair.a)
    for end in pair.ends:
        end.call("peer.remove", tunnel="home", name=end.other)
        end.look()
        assert end.running() == []
        assert end.held() == []


def test_a_peer_without_an_agent_is_as_ever(pair: Pair) -> None:
    pair.clock.time += 1000
    pair.a.engine.settle()
    done = pair.a.rotate()
    assert not done["asking"]
    assert done["rotation"]["outcome"] == HERE
    assert "'b' needs the new key before it can connect again" in done["notes"]


def test_a_new_master_key_carries_what_is_held(pair: Pair) -> None:
    pair.a.rotate()
    pair.say(pair.a, lost=True)
    for end in pair.ends:
        end.engine.resources.secrets.rekey(None, None, lambda _: None)
        end.begin_anew()
    for _ in range(2):
        pair.say(pair.a)
    assert pair.agree()
    assert pair.a.state() == BOTH


def test_nothing_said_shows_a_secret(pair: Pair) -> None:
    pair.a.rotate()
    (telling,) = pair.said(pair.a)
    assert telling.offer is not None
    secret = telling.offer.fresh.reveal()
    pair.say(pair.a)
    key = pair.a.in_kernel()
    assert key is not None
    message = telling.message(IDENTITY)
    journals = [pair.a.call("journal"), pair.b.call("journal")] if "journal" in pair.a.engine.commands else []
    shown = repr(telling) + repr(message) + str(pair.a.past()) + str(pair.b.running()) + str(journals)
    assert secret not in shown
    assert key.reveal() not in shown


STEPS = ("rotates", "says", "'s answer is lost", "dies", "goes or comes back", "rolls back")
TIMES = ("a moment", "a while", "a long while", "a silence")
step = st.sampled_from([*TIMES, *(f"{end} {word}" for end in "ab" for word in STEPS)])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(step, max_size=14))
def test_whatever_happens_both_end_with_one_key(steps: list[str]) -> None:
    """But where one has changed it alone, which the other may never have heard of."""
    with TemporaryDirectory() as folder:
        pair = Pair(Path(folder), PresharedKey(bytes(range(32))).reveal())
        for word in steps:
            take(pair, word)
        for end in pair.ends:
            end.begin_anew()
        outcomes = {past["outcome"] for end in pair.ends for past in end.past()}
        if not outcomes & {ALONE, NO_HANDSHAKE, HERE}:
            for _ in range(100):
                pair.pass_by(15, every=15)
                if pair.alive() and not any(end.is_open() for end in pair.ends):
                    break
            assert pair.agree()
            assert pair.alive()
            assert not any(end.is_open() for end in pair.ends)
        pair.close()


def take(pair: Pair, word: str) -> None:
    """One thing that may happen."""
    match word:
        case "a moment":
            pair.pass_by(7, talk=False)
        case "a while":
            pair.pass_by(70, talk=False, every=10)
        case "a long while":
            pair.pass_by(400, talk=False, every=10)
        case "a silence":
            pair.pass_by(400, traffic=False, talk=False, every=40)
        case _:
            do(pair, getattr(pair, word[0]), word[2:])


def do(pair: Pair, end: End, word: str) -> None:
    """What one of the hosts does."""
    match word:
        case "rotates" | "rolls back":
            command = "rotate.psk" if word == "rotates" else "rotate.rollback"
            with suppress(ConflictError, NotFound):
                end.call(command, tunnel="home", peer=end.other)
        case "says":
            pair.say(end)
        case "'s answer is lost":
            pair.say(end, lost=True)
        case "dies":
            end.begin_anew()
        case _:
            end.up = not end.up
