"""A new key is withdrawn without losing what agents send to it meanwhile."""

import pytest
from tests.unit.features.rotate.conftest import Stage
from tests.unit.features.rotate.test_exchange import IDENTITY, NEW, PHONE, key, say

from resource_wireguard.features.rotate import exchange
from resource_wireguard.features.rotate.going_back import ON_THE_WAY
from resource_wireguard.features.rotate.keys import BACK_WITHIN
from resource_wireguard.features.rotate.messages import VERSION, Heard, NotYet, Wish
from resource_wireguard.host.state import Link, Peer, Route

BOTH = ["wg-home", "wg-homer"]


def tell(stage: Stage, peer: str = "phone", port: int | None = None) -> list[str]:
    """A peer's agent hears what is to be said to it; the keys of that."""
    telling = next(t for t in exchange.tellings(stage.engine) if t.peer == peer)
    exchange.told(stage.engine, telling, Heard(VERSION, IDENTITY, port))
    return [str(key) for key, _ in telling.keys]


@pytest.fixture
def gone_over(stage: Stage) -> Stage:
    """The agent of the phone has moved to a new key; the laptop has no agent, and was never there."""
    stage.call("rotate.keys", tunnel="home")
    tell(stage, port=40000)
    stage.shake("phone", 0)
    stage.shake("phone", 1)
    stage.look()
    assert stage.route_to(PHONE) == "wg-homer"
    return stage


def test_what_is_sent_goes_back_at_once_and_the_device_stays_until_the_agent_has_heard(
    gone_over: Stage,
) -> None:
    stage = gone_over
    old = str(stage.engine.specs().tunnel("home").public_key)
    done = stage.call("rotate.rollback", tunnel="home")
    assert (done["asking"], done["notes"], done["rotation"]["outcome"]) == (True, [], "going back")
    assert stage.route_to(PHONE) is None
    assert sorted(stage.host.interfaces) == BOTH
    assert len(stage.holders(PHONE)) == 2, "it is heard by either key"
    stage.look(1)
    assert sorted(stage.host.interfaces) == BOTH
    (running,) = stage.call("rotate.status", tunnel="home")[0]["running"]
    assert (running["outcome"], running["interface"], running["next"]) == ("going back", None, [])
    assert tell(stage) == [old]
    stage.look()
    assert sorted(stage.host.interfaces) == BOTH, "what it had sent before is still on its way"
    stage.look(ON_THE_WAY)
    assert list(stage.host.interfaces) == ["wg-home"]
    done = stage.call("rotate.asked", tunnel="home", number=done["rotation"]["id"])
    assert (done["asking"], done["notes"], done["rotation"]["outcome"]) == (False, [], "rolled back")
    assert "phone" not in {telling.peer for telling in exchange.tellings(stage.engine)}


def test_an_agent_that_is_away_holds_it_for_some_seconds(gone_over: Stage) -> None:
    done = gone_over.call("rotate.rollback", tunnel="home")
    gone_over.look(BACK_WITHIN - 1)
    assert sorted(gone_over.host.interfaces) == BOTH
    gone_over.call("rotate.rollback", tunnel="home")
    gone_over.look(1)
    assert list(gone_over.host.interfaces) == ["wg-home"]
    done = gone_over.call("rotate.asked", tunnel="home", number=done["rotation"]["id"])
    assert done["notes"] == ["the agent of 'phone' has not answered: it is still told to go back"]
    assert "phone" in {telling.peer for telling in exchange.tellings(gone_over.engine)}


def test_another_agent_goes_on_with_it(gone_over: Stage) -> None:
    gone_over.call("rotate.rollback", tunnel="home")
    gone_over.begin_anew()
    assert sorted(gone_over.host.interfaces) == BOTH
    assert gone_over.route_to(PHONE) is None
    tell(gone_over)
    gone_over.look(ON_THE_WAY)
    assert list(gone_over.host.interfaces) == ["wg-home"]


def test_a_handshake_with_the_key_that_goes_changes_nothing(gone_over: Stage) -> None:
    """The agent renews its session before it has heard: what is sent still goes by the old key."""
    gone_over.call("rotate.rollback", tunnel="home")
    gone_over.shake("phone", 1)
    gone_over.look()
    assert gone_over.route_to(PHONE) is None


def test_it_is_said_by_either_device(gone_over: Stage) -> None:
    """By the old one, which can still be answered; by the new one, where the agent was heard last."""
    gone_over.call("rotate.rollback", tunnel="home")
    (telling,) = (t for t in exchange.tellings(gone_over.engine) if t.peer == "phone")
    assert sorted(telling.interfaces) == BOTH


def test_a_peer_without_an_agent_is_not_waited_for(gone_over: Stage) -> None:
    gone_over.call("peer.add", tunnel="home", name="tablet")
    gone_over.shake("laptop", 1)
    gone_over.look()
    done = gone_over.call("rotate.rollback", tunnel="home")
    assert done["notes"] == ["'laptop' had moved to the new key and must go back"]
    tell(gone_over)
    gone_over.look(ON_THE_WAY)
    assert list(gone_over.host.interfaces) == ["wg-home"]


def test_a_wish_that_comes_meanwhile_is_made_later(gone_over: Stage) -> None:
    gone_over.call("rotate.rollback", tunnel="home")
    gone_over.call("peer.remove", tunnel="home", name="laptop")
    home = gone_over.engine.specs().tunnel("home")
    wish = Wish(VERSION, IDENTITY, 3600.0)
    answer = exchange.grant(gone_over.engine, (home, home.peer("phone")), wish, gone_over.limits)
    assert isinstance(answer, NotYet)


def test_the_other_end_sends_by_the_old_key_before_the_device_of_the_new_one_goes(stage: Stage) -> None:
    old = key(stage)
    say(stage, old, NEW)
    stage.shake("phone", 1)
    stage.engine.settle()
    assert stage.route_to(PHONE) == "wg-homes1"
    stage.host.applied.clear()
    say(stage, old)
    assert list(stage.host.interfaces) == ["wg-home"]
    verbs = [(action.verb, type(action.record)) for action in stage.host.applied]
    route = next(n for n, (_, kind) in enumerate(verbs) if kind is Route)
    quiet = verbs.index(("change", Peer))
    assert max(route, quiet) < verbs.index(("delete", Link)), "in a pass of its own"
