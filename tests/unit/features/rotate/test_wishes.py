"""A peer's agent is asked for the peer's new key; without an agent, all is as ever."""

from typing import Any

import pytest
from tests.unit.features.rotate.conftest import Stage
from tests.unit.worlds import key_of

from resource_wireguard.errors import ConflictError, InvalidInput
from resource_wireguard.features.rotate import exchange
from resource_wireguard.features.rotate.messages import VERSION, Heard, KeyAt, Statement, Wish
from resource_wireguard.features.rotate.schedule import OVERLAP
from resource_wireguard.features.rotate.wishes import ANSWER_WITHIN, ASKED, GRANTED, LATE, UNANSWERED

IDENTITY = "0123456789abcdef"
OLD, NEW = key_of("site"), key_of("new")


@pytest.fixture
def stage(stage: Stage) -> Stage:
    """With the peer site, which made its own keys and is there."""
    stage.call("peer.add", tunnel="home", name="site", public_key=str(OLD))
    stage.shake("site", 0)
    return stage


def ask(stage: Stage, peer: str = "site", **more: Any) -> dict[str, Any]:
    return stage.call("rotate.peer", tunnel="home", peer=peer, **more)


def say(stage: Stage, *keys: Any) -> None:
    """The agent of site states its keys, and is believed."""
    home = stage.engine.specs().tunnel("home")
    entries = tuple(KeyAt(str(key), 40000 + number) for number, key in enumerate(keys))
    answer = exchange.hear(
        stage.engine, (home, home.peer("site")), Statement(VERSION, IDENTITY, entries), stage.limits
    )
    assert isinstance(answer, Heard)


def wished(stage: Stage) -> list[exchange.Telling]:
    return [telling for telling in exchange.tellings(stage.engine) if not telling.keys]


def answer(stage: Stage) -> None:
    """The agent of a peer grants what it is asked."""
    (telling,) = wished(stage)
    exchange.told(stage.engine, telling, Heard(VERSION, IDENTITY))


def state(stage: Stage) -> str:
    return stage.call("rotate.history", tunnel="home")[0]["outcome"]


def spoke_before(stage: Stage) -> None:
    """The agent of phone has heard a new key of ours once."""
    stage.call("rotate.keys", tunnel="home")
    telling = next(t for t in exchange.tellings(stage.engine) if t.peer == "phone")
    exchange.told(stage.engine, telling, Heard(VERSION, IDENTITY, 40000))
    stage.call("rotate.rollback", tunnel="home")


def test_an_agent_that_grants_it_brings_the_key_and_the_rotation_is_complete(stage: Stage) -> None:
    done = ask(stage)
    assert done["asking"]
    assert done["next"] == ["resource-wireguard rotate status home"]
    (telling,) = wished(stage)
    assert telling.destination == "10.13.13.4"
    assert telling.message(IDENTITY) == Wish(VERSION, IDENTITY, OVERLAP)
    answer(stage)
    shown = stage.call("rotate.asked", tunnel="home", number=done["rotation"]["id"])
    assert (shown["asking"], shown["rotation"]["outcome"]) == (False, GRANTED)
    assert wished(stage) == []
    say(stage, OLD, NEW)
    stage.shake("site", 1)
    stage.look(ANSWER_WITHIN + 1)
    (running,) = stage.call("rotate.status", tunnel="home")[0]["running"]
    assert running["outcome"] == GRANTED
    say(stage, NEW)
    assert stage.engine.specs().tunnel("home").peer("site").public_key == NEW
    (entry,) = stage.call("rotate.history", tunnel="home")
    assert (entry["id"], entry["outcome"]) == (done["rotation"]["id"], "made by its agent")
    assert entry["new_fingerprint"] != entry["old_fingerprint"]


def test_an_answer_that_is_lost_is_made_good_by_the_key_itself(stage: Stage) -> None:
    ask(stage)
    say(stage, OLD, NEW)
    assert state(stage) == GRANTED
    assert wished(stage) == []


def test_a_wish_outlives_the_agent(stage: Stage) -> None:
    ask(stage)
    stage.begin_anew()
    assert len(wished(stage)) == 1
    answer(stage)
    stage.begin_anew()
    assert state(stage) == GRANTED


def test_without_an_answer_it_is_refused_as_ever(stage: Stage) -> None:
    number = ask(stage)["rotation"]["id"]
    stage.look(ANSWER_WITHIN - 1)
    assert state(stage) == ASKED
    stage.look(2)
    assert state(stage) == UNANSWERED
    assert wished(stage) == []
    with pytest.raises(InvalidInput, match="'site' made its own keys"):
        stage.call("rotate.asked", tunnel="home", number=number)


def test_without_an_answer_the_key_of_one_that_spoke_before_is_made_here(stage: Stage) -> None:
    spoke_before(stage)
    done = ask(stage, "phone", grace=60)
    assert done["asking"]
    stage.look(ANSWER_WITHIN + 1)
    shown = stage.call("rotate.asked", tunnel="home", number=done["rotation"]["id"])
    assert shown["next"][0] == "resource-wireguard peer config home phone --qr"
    assert shown["notes"] == ["the agent of 'phone' has not answered: the key was made here"]
    stage.shake("phone", 1)
    stage.look()
    stage.look(61)
    assert state(stage) == "complete"


def test_a_late_agent_has_the_last_word(stage: Stage) -> None:
    """The key that was made here meanwhile is one that nobody has installed."""
    ask(stage)
    stage.look(ANSWER_WITHIN + 1)
    stage.call("rotate.peer", tunnel="home", peer="site", public_key=str(key_of("byhand")))
    say(stage, OLD, NEW)
    stage.shake("site", 2)
    say(stage, NEW)
    assert stage.engine.specs().tunnel("home").peer("site").public_key == NEW
    assert stage.engine.specs().further("home").seats == ()


def test_an_agent_that_takes_its_key_back_ends_it(stage: Stage) -> None:
    ask(stage)
    say(stage, OLD, NEW)
    say(stage, OLD)
    assert state(stage) == "taken back by its agent"


def test_a_key_that_never_comes_ends_it(stage: Stage) -> None:
    ask(stage)
    answer(stage)
    stage.look(OVERLAP + LATE + 1)
    assert state(stage) == "its agent brought no new key"


def test_a_wish_can_be_rolled_back_and_is_not_doubled(stage: Stage) -> None:
    ask(stage)
    with pytest.raises(ConflictError, match="is being rotated already"):
        ask(stage)
    stage.call("rotate.rollback", tunnel="home", peer="site")
    assert wished(stage) == []


def test_a_peer_that_goes_meanwhile_ends_it(stage: Stage) -> None:
    ask(stage)
    stage.call("peer.remove", tunnel="home", name="site")
    stage.look(ANSWER_WITHIN + 1)
    assert state(stage) == "its peer is gone"


@pytest.mark.parametrize("more", [{"public_key": str(NEW)}, {"public_key": str(NEW), "now": True}])
def test_who_gives_a_key_is_not_asked_for_one(stage: Stage, more: dict[str, Any]) -> None:
    assert not ask(stage, **more)["asking"]
    assert wished(stage) == []


def test_a_phone_is_not_asked(stage: Stage) -> None:
    stage.shake("phone", 0)
    assert not ask(stage, "phone")["asking"]


def test_a_peer_that_is_not_there_is_not_asked(stage: Stage) -> None:
    stage.clock.time += 200
    with pytest.raises(InvalidInput, match="'site' made its own keys"):
        ask(stage)
