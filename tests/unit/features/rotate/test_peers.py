"""The key of a peer beside its old one, until it is taken up; preshared keys in place."""

import pytest
from tests.unit.features.rotate.conftest import Stage
from tests.unit.worlds import key_of

from resource_wireguard.errors import ConflictError, InvalidInput
from resource_wireguard.features.rotate.keys import DAY
from resource_wireguard.features.rotate.peers import GRACE
from resource_wireguard.host.state import PeerEndpoint

PHONE = "10.13.13.2/32"


def key(stage: Stage, peer: str = "phone") -> str:
    return str(stage.engine.specs().tunnel("home").peer(peer).public_key)


def new_key(stage: Stage) -> str:
    return str(stage.engine.specs().further("home").seats[0].public_key)


def test_an_endpoint_that_is_given_meanwhile_is_that_of_both_keys(stage: Stage) -> None:
    for endpoint in ("192.0.2.9:1", "192.0.2.10:1"):
        stage.clock.time += 1
        stage.call("peer.change", tunnel="home", name="phone", endpoint=endpoint)
        told = stage.host.observe().state.of(PeerEndpoint).values()
        assert {record.endpoint for record in told} == {endpoint}
        if endpoint == "192.0.2.9:1":
            stage.call("rotate.peer", tunnel="home", peer="phone")
    assert len(told) == 2


def test_the_first_handshake_decides_and_grace_ends_it(stage: Stage) -> None:
    stage.shake("phone", 0)
    old = key(stage)
    done = stage.call("rotate.peer", tunnel="home", peer="phone")
    new = new_key(stage)
    assert done["next"][0] == "resource-wireguard peer config home phone --qr"
    assert stage.holders(PHONE) == {("wg-home", old)}
    stage.shake("phone", 1)
    stage.look()
    assert stage.holders(PHONE) == {("wg-home", new)}
    assert len(stage.host.interfaces["wg-home"].peers) == 3
    stage.look(GRACE - 10)
    assert key(stage) == old
    stage.look(20)
    assert key(stage) == new
    assert len(stage.host.interfaces["wg-home"].peers) == 2
    assert stage.holders(PHONE) == {("wg-home", new)}
    assert not stage.look()
    assert stage.call("rotate.history")[0]["outcome"] == "complete"


def test_one_that_goes_back_within_its_grace_keeps_the_old_key(stage: Stage) -> None:
    stage.shake("phone", 0)
    old = key(stage)
    stage.call("rotate.peer", tunnel="home", peer="phone")
    stage.shake("phone", 1)
    stage.look()
    stage.shake("phone", 0)
    stage.look(GRACE + 1)
    assert stage.holders(PHONE) == {("wg-home", old)}
    stage.shake("phone", 1)
    stage.look()
    assert key(stage) != old


def test_the_config_has_the_new_key_and_the_old_one_on_request(stage: Stage) -> None:
    before = stage.call("peer.config", tunnel="home", name="phone")["config"]
    stage.call("rotate.peer", tunnel="home", peer="phone")
    during = stage.call("peer.config", tunnel="home", name="phone")["config"]
    assert stage.call("peer.config", tunnel="home", name="phone", old=True)["config"] == before
    stage.shake("phone", 1)
    stage.look()
    stage.look(GRACE + 1)
    assert stage.call("peer.config", tunnel="home", name="phone")["config"] == during != before


def test_a_key_made_elsewhere(stage: Stage) -> None:
    stage.call("rotate.peer", tunnel="home", peer="phone", public_key=str(key_of("new")), now=True)
    assert key(stage) == str(key_of("new"))
    assert stage.engine.resources.secrets.get_many("tunnel/1/peer-private/1/") == {}
    with pytest.raises(InvalidInput, match="'phone' made its own keys"):
        stage.call("rotate.peer", tunnel="home", peer="phone")


def test_at_once_the_old_key_opens_nothing(stage: Stage) -> None:
    old = key(stage)
    stage.call("rotate.peer", tunnel="home", peer="phone", now=True)
    assert old not in {str(known) for known in stage.host.interfaces["wg-home"].peers}


def test_a_peer_that_is_not_let_in_changes_at_once(stage: Stage) -> None:
    stage.call("peer.disable", tunnel="home", name="phone")
    old = key(stage)
    stage.call("rotate.peer", tunnel="home", peer="phone")
    assert key(stage) != old


@pytest.mark.parametrize("taken", ["own", "other", "retired", "successor"])
def test_keys_that_are_in_use_or_retired_are_refused(stage: Stage, taken: str) -> None:
    old = key(stage)
    stage.call("rotate.peer", tunnel="home", peer="phone", now=True)
    stage.call("rotate.keys", tunnel="home")
    specs = stage.engine.specs()
    successor = specs.further("home").successor
    assert successor is not None
    wrong = {
        "own": str(specs.tunnel("home").public_key),
        "other": key(stage, "laptop"),
        "retired": old,
        "successor": str(successor.public_key),
    }[taken]
    with pytest.raises(ConflictError, match=r"public key \S+ (is that of|was taken out of use)"):
        stage.call("rotate.peer", tunnel="home", peer="phone", public_key=wrong)
    with pytest.raises(ConflictError, match=r"public key \S+ (is that of|was taken out of use|is held for)"):
        stage.call("peer.add", tunnel="home", name="new", public_key=wrong)


def test_a_network_file_of_before_brings_no_retired_key_back(stage: Stage) -> None:
    document = stage.call("network.export")
    stage.call("rotate.peer", tunnel="home", peer="phone", now=True)
    (fault,) = stage.call("network.plan", document=document)["faults"]
    assert "was taken out of use by a rotation" in fault["message"]
    assert stage.call("network.plan", document=stage.call("network.export"))["changes"] == []


def test_while_both_rotate_the_peer_is_known_on_both_devices_by_both_keys(stage: Stage) -> None:
    stage.call("rotate.keys", tunnel="home")
    stage.call("rotate.peer", tunnel="home", peer="phone")
    assert stage.engine.report().drift == ()
    stage.shake("phone", 3)
    stage.look()
    assert stage.route_to(PHONE) == "wg-homer"
    assert ("wg-homer", new_key(stage)) in stage.holders(PHONE)
    stage.look(GRACE + 1)
    assert stage.holders(PHONE) == {("wg-home", key(stage)), ("wg-homer", key(stage))}
    assert stage.engine.report().drift == ()


def test_rolled_back_the_new_key_is_unknown(stage: Stage) -> None:
    before = stage.host.observe().state.objects
    stage.call("rotate.peer", tunnel="home", peer="phone")
    stage.call("rotate.rollback", tunnel="home", peer="phone")
    assert stage.host.observe().state.objects == before
    assert stage.engine.resources.secrets.get_many("tunnel/1/peer-private/1/seat/") == {}


def test_a_removed_peer_ends_its_rotation(stage: Stage) -> None:
    stage.call("rotate.peer", tunnel="home", peer="phone")
    stage.call("peer.remove", tunnel="home", name="phone")
    stage.look()
    assert stage.call("rotate.history")[0]["outcome"] == "its peer is gone"
    assert not stage.look()


def test_a_preshared_key_changes_in_place_and_says_by_when(stage: Stage) -> None:
    stage.shake("phone", 0)
    before = stage.engine.specs().tunnel("home").peer("phone")
    done = stage.call("rotate.psk", tunnel="home", peer="phone")
    after = stage.engine.specs().tunnel("home").peer("phone")
    assert after.preshared_key != before.preshared_key
    assert after.public_key == before.public_key
    assert "'phone' needs the new key by 1970-01-12T13:49:41Z, when its session ends" in done["notes"]
    rotation = stage.call("rotate.history")[0]
    assert rotation["what"] == "preshared key"
    assert before.preshared_key is not None
    assert before.preshared_key.reveal() not in str(stage.call("rotate.history"))


def test_what_is_being_rotated_is_not_rotated_twice(stage: Stage) -> None:
    stage.call("rotate.peer", tunnel="home", peer="phone")
    for command in ("rotate.peer", "rotate.psk"):
        with pytest.raises(ConflictError, match="peer 'phone' of tunnel 'home' is being rotated already"):
            stage.call(command, tunnel="home", peer="phone")
    stage.call("rotate.peer", tunnel="home", peer="laptop")


@pytest.mark.parametrize("grace", [0, -1, 400 * DAY])
def test_absurd_graces_are_refused(stage: Stage, grace: float) -> None:
    with pytest.raises(InvalidInput, match="a grace of"):
        stage.call("rotate.peer", tunnel="home", peer="phone", grace=grace)
