"""What an engine makes of the words of another agent, and what it has to say itself."""

import pytest
from tests.unit.features.rotate.conftest import Stage
from tests.unit.worlds import key_of

from resource_wireguard.errors import ConflictError
from resource_wireguard.features.rotate import exchange
from resource_wireguard.features.rotate.exchange import LEASE, speaker_of
from resource_wireguard.features.rotate.messages import VERSION, Answer, Heard, KeyAt, NotYet, Statement, Wish
from resource_wireguard.host.state import Link, Peer, Route
from resource_wireguard.model.keys import PublicKey

IDENTITY = "0123456789abcdef"
PHONE = "10.13.13.2/32"
NEW, NEXT = key_of("new"), key_of("next")


def say(stage: Stage, *keys: PublicKey, peer: str = "phone") -> Answer:
    """A peer's agent states its keys."""
    home = stage.engine.specs().tunnel("home")
    entries = tuple(KeyAt(str(key), 40000 + number) for number, key in enumerate(keys))
    return exchange.hear(
        stage.engine, (home, home.peer(peer)), Statement(VERSION, IDENTITY, entries), stage.limits
    )


def key(stage: Stage, peer: str = "phone") -> PublicKey:
    return stage.engine.specs().tunnel("home").peer(peer).public_key


def test_only_a_peers_own_address_speaks_for_it(stage: Stage) -> None:
    stage.call("peer.add", tunnel="home", name="site", routes=["10.50.0.0/16"])
    specs = stage.engine.specs()

    def speaker(interface: str, address: str) -> str | None:
        found = speaker_of(specs, interface, address)
        return found[1].name if found else None

    assert speaker("wg-home", "10.13.13.2") == "phone"
    assert speaker("wg-home", "10.13.13.4") == "site"
    assert speaker("wg-home", "10.50.0.7") is None
    assert speaker("wg-home", "10.13.13.1") is None
    assert speaker("eth0", "10.13.13.2") is None
    stage.call("peer.disable", tunnel="home", name="phone")
    assert speaker_of(stage.engine.specs(), "wg-home", "10.13.13.2") is None


def test_a_new_key_is_awaited_on_a_device_of_its_own(stage: Stage) -> None:
    old = key(stage)
    answer = say(stage, old, NEW)
    assert answer == Heard(VERSION, IDENTITY, 51821)
    (side,) = stage.engine.specs().further("home").devices
    there = stage.host.interfaces[side.interface]
    assert there.device.private_key == stage.engine.specs().tunnel("home").private_key
    assert set(there.peers) == {NEW}
    own = stage.host.interfaces["wg-home"].peers[old]
    assert there.peers[NEW].preshared_key == own.preshared_key is not None
    assert stage.holders(PHONE) == {("wg-home", str(old)), (side.interface, str(NEW))}
    assert say(stage, old, NEW) == answer
    assert stage.engine.report().drift == ()


def test_the_new_key_takes_over_only_when_it_has_shaken_hands(stage: Stage) -> None:
    old = key(stage)
    say(stage, old, NEW)
    assert isinstance(say(stage, NEW), NotYet)
    assert key(stage) == old
    stage.shake("phone", 1)
    assert isinstance(say(stage, NEW), Heard)
    assert key(stage) == NEW
    assert set(stage.host.interfaces["wg-home"].peers) == {NEW, key(stage, "laptop")}
    assert stage.host.interfaces["wg-home"].peers[NEW].keepalive == 0
    assert stage.route_to(PHONE) == "wg-homes1"
    (entry,) = stage.call("rotate.history", tunnel="home")
    assert (entry["peer"], entry["outcome"], entry["actor"]) == ("phone", "at once", "agent")
    assert isinstance(say(stage, NEW), Heard)


def test_the_next_rotation_takes_another_device_and_the_last_one_goes(stage: Stage) -> None:
    say(stage, key(stage), NEW)
    stage.shake("phone", 1)
    say(stage, NEW)
    assert say(stage, NEW, NEXT) == Heard(VERSION, IDENTITY, 51822)
    stage.shake("phone", 2)
    say(stage, NEXT)
    assert key(stage) == NEXT
    assert sorted(stage.host.interfaces) == ["wg-home", "wg-homes2"]


def test_a_key_that_is_withdrawn_goes_with_its_device(stage: Stage) -> None:
    old = key(stage)
    say(stage, old, NEW)
    stage.shake("phone", 1)
    assert isinstance(say(stage, old), Heard)
    assert list(stage.host.interfaces) == ["wg-home"]
    assert key(stage) == old


def test_peers_share_a_side_device(stage: Stage) -> None:
    say(stage, key(stage), NEW)
    answer = say(stage, key(stage, "laptop"), NEXT, peer="laptop")
    assert answer == Heard(VERSION, IDENTITY, 51821)
    assert len(stage.host.interfaces) == 2


@pytest.mark.parametrize("whose", ["tunnel", "laptop"])
def test_nobody_takes_a_key_that_is_anothers(stage: Stage, whose: str) -> None:
    home = stage.engine.specs().tunnel("home")
    taken = home.public_key if whose == "tunnel" else home.peer("laptop").public_key
    answer = say(stage, key(stage), taken)
    assert isinstance(answer, NotYet)
    assert answer.why == "one of these keys is in use already"
    assert list(stage.host.interfaces) == ["wg-home"]


def test_nobody_comes_with_unknown_keys_alone(stage: Stage) -> None:
    assert isinstance(say(stage, NEW), NotYet)
    assert isinstance(say(stage, NEW, NEXT), NotYet)
    assert list(stage.host.interfaces) == ["wg-home"]


def test_a_guest_that_nobody_speaks_of_is_sent_away_unless_its_session_lives(stage: Stage) -> None:
    say(stage, key(stage), NEW)
    stage.clock.time += LEASE - 10
    assert not exchange.lost_guests(stage.engine)
    stage.shake("phone", 1)
    stage.clock.time += LEASE - 10
    assert not exchange.lost_guests(stage.engine)
    stage.clock.time += 20
    assert exchange.lost_guests(stage.engine)
    stage.engine.settle()
    assert list(stage.host.interfaces) == ["wg-home"]


def test_a_peer_whose_session_on_the_side_has_lapsed_comes_home(stage: Stage) -> None:
    say(stage, key(stage), NEW)
    stage.shake("phone", 1)
    say(stage, NEW)
    stage.clock.time += 200
    assert exchange.lost_guests(stage.engine)
    stage.engine.settle()
    assert list(stage.host.interfaces) == ["wg-home"]
    assert stage.route_to(PHONE) is None
    assert key(stage) == NEW


def test_what_is_to_be_said_follows_the_keys(stage: Stage) -> None:
    def told() -> dict[str, list[PublicKey]]:
        return {t.peer: [key for key, _ in t.keys] for t in exchange.tellings(stage.engine)}

    old = stage.engine.specs().tunnel("home").public_key
    assert told() == {}
    stage.call("rotate.keys", tunnel="home")
    new = stage.engine.specs().further("home").successor.public_key
    assert told() == {"phone": [old, new], "laptop": [old, new]}
    (first, _) = exchange.tellings(stage.engine)
    exchange.told(stage.engine, first, Heard(VERSION, IDENTITY, 40000))
    assert told() == {"laptop": [old, new]}
    for peer in ("phone", "laptop"):
        stage.shake(peer, 1)
    stage.look()
    assert told() == {"phone": [new], "laptop": [new]}
    stage.settle_down()
    assert stage.call("rotate.status", tunnel="home")[0]["running"], "the phone's agent has not agreed yet"
    (first, _) = exchange.tellings(stage.engine)
    exchange.told(stage.engine, first, Heard(VERSION, IDENTITY))
    stage.settle_down()
    assert stage.engine.specs().tunnel("home").public_key == new
    assert "phone" not in told()


def test_a_key_that_is_an_agents_only_one_is_not_rolled_back(stage: Stage) -> None:
    def tell(port: int | None = None) -> None:
        telling = next(t for t in exchange.tellings(stage.engine) if t.peer == "phone")
        exchange.told(stage.engine, telling, Heard(VERSION, IDENTITY, port))

    stage.call("rotate.keys", tunnel="home")
    tell(40000)
    stage.shake("phone", 1)
    stage.look()
    stage.call("rotate.rollback", tunnel="home")
    stage.call("rotate.keys", tunnel="home")
    tell(40000)
    for peer in ("phone", "laptop"):
        stage.shake(peer, 1)
    stage.look()
    too_late = "is the only one for the agent of 'phone' already"
    with pytest.raises(ConflictError, match=too_late):
        stage.call("rotate.rollback", tunnel="home")
    tell()
    stage.shake("laptop", 0)
    stage.look()
    with pytest.raises(ConflictError, match=too_late):
        stage.call("rotate.rollback", tunnel="home")
    stage.shake("laptop", 1)
    stage.settle_down()
    assert stage.call("rotate.status", tunnel="home")[0]["running"] == []


def test_a_wish_is_granted_to_an_only_peer_and_once(stage: Stage) -> None:
    home = stage.engine.specs().tunnel("home")
    wish = Wish(VERSION, IDENTITY, 3600.0)
    answer = exchange.grant(stage.engine, (home, home.peer("phone")), wish, stage.limits)
    assert answer == NotYet(VERSION, IDENTITY, "this tunnel has other peers too")
    stage.call("peer.remove", tunnel="home", name="laptop")
    home = stage.engine.specs().tunnel("home")
    for _ in range(3):
        assert exchange.grant(stage.engine, (home, home.peer("phone")), wish, stage.limits) == Heard(
            VERSION, IDENTITY
        )
    assert len(stage.call("rotate.history", tunnel="home")) == 1


def test_what_is_sent_goes_by_the_new_key_before_the_old_one_goes(stage: Stage) -> None:
    """The peer may say that the new key is the only one before any look has seen it shake hands."""
    say(stage, key(stage), NEW)
    stage.shake("phone", 1)
    say(stage, NEW)
    say(stage, NEW, NEXT)
    stage.shake("phone", 2)
    stage.host.applied.clear()
    say(stage, NEXT)
    verbs = [(action.verb, type(action.record)) for action in stage.host.applied]
    assert verbs.index(("change", Route)) < verbs.index(("delete", Link))
    assert verbs.index(("change", Route)) < verbs.index(("create", Peer))
