"""What a peer's agent can make us do, however much it says; and keys of both ends that cross."""

import pytest
from msgspec.structs import replace
from tests.unit.features.rotate.conftest import Stage
from tests.unit.features.rotate.test_exchange import IDENTITY, key, say
from tests.unit.worlds import key_of

from resource_wireguard.features.rotate import exchange, limits
from resource_wireguard.features.rotate.exchange import LEASE, Telling
from resource_wireguard.features.rotate.known_keys import comes_first
from resource_wireguard.features.rotate.limits import BUCKETS_MOST, Limits, Rates
from resource_wireguard.features.rotate.messages import VERSION, Answer, Heard, NotYet, Wish, decode
from resource_wireguard.model.keys import PublicKey


def test_a_flood_of_new_keys_is_taken_in_by_drops(stage: Stage) -> None:
    official, before = key(stage), len(stage.engine.journal_lines(None, None))
    heard = [say(stage, official, key_of(f"flood{number}")) for number in range(200)]
    assert sum(isinstance(answer, Heard) for answer in heard) == limits.KEYS_AT_ONCE
    assert len(stage.host.interfaces) <= 3
    assert len(list(stage.store.query("SELECT * FROM rotation_guests"))) <= 2
    assert len(stage.engine.journal_lines(None, None)) - before < 20 * limits.KEYS_AT_ONCE
    stage.clock.time += 2
    assert isinstance(say(stage, official, key_of("honest")), Heard)


def test_what_one_peer_may_not_many_may_not_either(stage: Stage) -> None:
    every = Limits(stage.clock.now)
    peers = [f"peer {number}" for number in range(100)]
    assert sum(every.may_bring_key("home", peer) for peer in peers) == limits.KEYS_IN_ALL_AT_ONCE


def test_in_the_long_run_it_is_a_handful_an_hour(stage: Stage) -> None:
    bounds, taken = Limits(stage.clock.now), 0
    for _ in range(86_400):
        stage.clock.time += 1
        taken += bounds.may_bring_key("home", "phone")
    assert taken <= limits.KEYS_LASTING + 86_400 * limits.KEYS_LASTING_PER_SECOND + 1


def test_a_flood_from_many_addresses_is_forgotten_again(stage: Stage) -> None:
    rates = Rates(1, 1.0, stage.clock.now)
    for number in range(3 * BUCKETS_MOST):
        rates.admit("wg-home", str(number))
    assert len(rates._buckets) == BUCKETS_MOST


def test_side_devices_are_few_and_one_too_many_is_refused(stage: Stage) -> None:
    """Each new peer settles on the latest side, so that the next key of the first one takes another."""
    for number in range(12):
        name = f"ally{number}"
        stage.call("peer.add", tunnel="home", name=name)
        say(stage, key(stage, name), key_of(name), peer=name)
        stage.shake(name, 1)
        say(stage, key_of(name), peer=name)
        answer = say(stage, key(stage), key_of(f"next{number}"))
        stage.clock.time += 5
    assert answer == NotYet(VERSION, IDENTITY, "it cannot be done here now")
    assert len(stage.host.interfaces) <= 1 + limits.SIDES_MOST


def test_the_history_of_what_an_agent_changes_is_not_endless(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "HISTORY_MOST", 3)
    stage.call("rotate.psk", tunnel="home", peer="phone")
    for number in range(6):
        new = key_of(f"honest{number}")
        say(stage, key(stage), new)
        stage.shake("phone", 2 if number else 1)
        say(stage, new)
        stage.clock.time += 5
        assert key(stage) == new
    past = stage.call("rotate.history", tunnel="home")
    assert [entry["what"] for entry in past] == ["peer", "peer", "peer", "preshared key"]


@pytest.mark.parametrize("overlap", ["1e-9", "59", "0", "-5", "1e400", "31536001"])
def test_a_wish_for_an_absurd_overlap_is_no_message(overlap: str) -> None:
    text = f'{{"say":"rotate","v":1,"id":"{IDENTITY}","overlap":{overlap}}}'
    assert decode(text.encode()) is None
    assert decode(text.replace(f":{overlap}}}", ":60}").encode()) is not None


def test_wishes_are_granted_now_and_then(stage: Stage) -> None:
    stage.call("peer.remove", tunnel="home", name="laptop")
    granted = 0
    for _ in range(200):
        home = stage.engine.specs().tunnel("home")
        wish = Wish(VERSION, IDENTITY, 60.0)
        exchange.grant(stage.engine, (home, home.peer("phone")), wish, stage.limits)
        for running in stage.call("rotate.status", tunnel="home")[0]["running"]:
            granted += 1
            stage.call("rotate.rollback", tunnel=running["tunnel"])
        stage.clock.time += 61
    assert granted <= limits.WISHES_AT_ONCE + 200 * 61 * limits.WISHES_PER_SECOND + 1


# Keys of both ends that cross -------------------------------------------------------------------------


def told(stage: Stage, peer: str = "phone") -> tuple[PublicKey, ...]:
    """What a peer is being told; () where it is nothing."""
    return tuple(key for t in exchange.tellings(stage.engine) if t.peer == peer for key, _ in t.keys)


def telling(stage: Stage, peer: str = "phone") -> Telling:
    return next(t for t in exchange.tellings(stage.engine) if t.peer == peer)


def keys_of_home(stage: Stage) -> tuple[PublicKey, PublicKey]:
    successor = stage.engine.specs().further("home").successor
    assert successor
    return stage.engine.specs().tunnel("home").public_key, successor.public_key


def test_a_peer_that_has_ours_waits_and_is_told_which_stays_at_once(stage: Stage) -> None:
    """Though the laptop has not moved yet; and then its own key finds a side with our new one."""
    stage.call("rotate.keys", tunnel="home")
    own, new = keys_of_home(stage)
    exchange.told(stage.engine, telling(stage), Heard(VERSION, IDENTITY, 40000))
    theirs, next_one = key(stage), key_of("theirs")
    assert isinstance(say(stage, theirs, next_one), NotYet)
    assert isinstance(say(stage, next_one, theirs), NotYet)
    assert told(stage) == ()
    stage.shake("phone", 1)
    stage.look()
    assert told(stage) == (new,)
    assert told(stage, "laptop") == (own, new)
    exchange.told(stage.engine, telling(stage), Heard(VERSION, IDENTITY))
    assert isinstance(say(stage, theirs, next_one), Heard)
    side = next(d for d in stage.engine.specs().further("home").devices if not d.successor)
    assert stage.host.interfaces[side.interface].device.private_key.public() == new
    stage.shake("phone", 2)
    assert isinstance(say(stage, next_one), Heard)
    stage.shake("laptop", 1)
    stage.settle_down()
    assert stage.engine.specs().tunnel("home").public_key == new
    assert stage.engine.report().drift == ()


def test_a_peer_whose_new_key_is_here_is_told_of_ours_later(stage: Stage) -> None:
    theirs, next_one = key(stage), key_of("theirs")
    say(stage, theirs, next_one)
    stage.call("rotate.keys", tunnel="home")
    own, new = keys_of_home(stage)
    assert told(stage) == (new, own), "the one that will stay for now comes last"
    stage.shake("phone", 2)
    assert isinstance(say(stage, next_one), Heard)
    assert told(stage) == (own, new)


def test_where_both_begin_at_once_one_of_them_waits(stage: Stage) -> None:
    """Both see the same two keys, and come to opposite ends."""
    home = stage.engine.specs().tunnel("home")
    least, greatest = (replace(home.peer("phone"), public_key=PublicKey(bytes([n] * 32))) for n in (0, 255))
    assert not comes_first(stage.engine, home, greatest), "no key of ours changes"
    stage.call("rotate.keys", tunnel="home")
    assert comes_first(stage.engine, home, greatest)
    assert not comes_first(stage.engine, home, least)


def test_a_key_that_was_rolled_back_is_denied_to_all_who_may_have_it(stage: Stage) -> None:
    """Also to one whose answer was lost, and who is known to have had the old one before."""
    stage.call("rotate.keys", tunnel="home")
    own, _ = keys_of_home(stage)
    stage.call("rotate.rollback", tunnel="home")
    assert told(stage) == told(stage, "laptop") == (own,)
    exchange.told(stage.engine, telling(stage), Heard(VERSION, IDENTITY))
    assert told(stage) == ()
    stage.clock.time += 1
    stage.call("rotate.keys", tunnel="home")
    stage.clock.time += 1
    stage.call("rotate.rollback", tunnel="home")
    assert told(stage) == (own,)
    stage.clock.time += 2 * LEASE
    assert told(stage) == told(stage, "laptop") == ()


def test_a_wish_for_a_key_that_the_peer_has_already_is_not_taken_for_granted(stage: Stage) -> None:
    """Else it would wait for that key until the overlap is over."""
    stage.call("peer.remove", tunnel="home", name="laptop")
    stage.call("rotate.keys", tunnel="home")

    def wish() -> Answer:
        home = stage.engine.specs().tunnel("home")
        asked = Wish(VERSION, IDENTITY, 3600.0)
        return exchange.grant(stage.engine, (home, home.peer("phone")), asked, stage.limits)

    assert isinstance(wish(), Heard)
    exchange.told(stage.engine, telling(stage), Heard(VERSION, IDENTITY, 40000))
    stage.clock.time += 120
    stage.shake("phone", 1)
    stage.look()
    assert isinstance(wish(), NotYet)
    exchange.told(stage.engine, telling(stage), Heard(VERSION, IDENTITY))
    assert isinstance(wish(), NotYet)
    stage.settle_down()
    assert stage.call("rotate.status", tunnel="home")[0]["running"] == []


def test_what_was_done_to_a_peers_own_key_grants_no_wish(stage: Stage) -> None:
    stage.call("peer.remove", tunnel="home", name="laptop")
    stage.call("rotate.psk", tunnel="home", peer="phone")
    home = stage.engine.specs().tunnel("home")
    asked = Wish(VERSION, IDENTITY, 3600.0)
    assert isinstance(exchange.grant(stage.engine, (home, home.peer("phone")), asked, stage.limits), Heard)
    assert stage.engine.specs().further("home").successor
