"""The keys of a tunnel through their generations: begun, followed, ended, rolled back."""

import pytest
from tests.unit.features.rotate.conftest import Stage

from resource_wireguard.errors import ConflictError, InvalidInput, NotFound
from resource_wireguard.features.rotate.keys import DAY
from resource_wireguard.host.state import Address, Link

PHONE, LAPTOP = "10.13.13.2/32", "10.13.13.3/32"


def test_two_generations_stand_side_by_side(stage: Stage) -> None:
    done = stage.call("rotate.keys", tunnel="home")
    state = stage.host.observe().state
    assert list(state.of(Link)) == ["wg-home", "wg-homer"]
    assert state.of(Address)["wg-home", "10.13.13.1/24"].bare is False
    assert state.of(Address)["wg-homer", "10.13.13.1/24"].bare is True
    assert {interface for interface, _ in stage.holders(PHONE)} == {"wg-home", "wg-homer"}
    assert stage.engine.report().drift == ()
    assert [peer["name"] for peer in done["peers"]] == ["phone", "laptop"]
    assert done["next"][0] == "resource-wireguard peer config home phone --qr"


def test_packets_follow_each_peer_and_the_last_ends_it(stage: Stage) -> None:
    for peer in ("phone", "laptop"):
        stage.shake(peer, 0)
    before = stage.engine.specs().tunnel("home")
    stage.call("rotate.keys", tunnel="home")
    stage.shake("phone", 1)
    assert stage.look()
    assert (stage.route_to(PHONE), stage.route_to(LAPTOP)) == ("wg-homer", None)
    assert [p["moved"] for p in stage.call("rotate.status")[0]["running"][0]["peers"]] == [True, False]
    stage.shake("laptop", 1)
    stage.settle_down()
    after = stage.engine.specs().tunnel("home")
    assert (after.interface, after.listen_port, after.generation) == ("wg-homer", 51821, 1)
    assert after.public_key != before.public_key
    assert str(after.endpoint) == "vpn.example.org:51821"
    assert list(stage.host.interfaces) == ["wg-homer"]
    assert stage.route_to("10.13.13.0/24") == "wg-homer"
    assert stage.route_to(PHONE) is None
    assert stage.engine.report().drift == ()
    assert stage.call("rotate.status", tunnel="home")[0]["generation"] == 2
    assert not stage.look()


def test_a_peer_that_goes_back_is_followed(stage: Stage) -> None:
    stage.call("rotate.keys", tunnel="home")
    stage.shake("phone", 1)
    stage.look()
    stage.shake("phone", 0)
    stage.look()
    assert stage.route_to(PHONE) is None


def test_the_old_device_stays_while_something_comes_in_on_it(stage: Stage) -> None:
    stage.call("rotate.keys", tunnel="home")
    for peer in ("phone", "laptop"):
        stage.shake(peer, 1)
    for _ in range(5):
        stage.shake("phone", 0)
        stage.shake("phone", 1)
        stage.look(1.0)
    assert "wg-home" in stage.host.interfaces


def test_the_end_of_the_overlap_names_who_was_left_behind(stage: Stage) -> None:
    stage.call("rotate.keys", tunnel="home", overlap=DAY)
    stage.shake("phone", 1)
    stage.look()
    stage.look(DAY)
    assert list(stage.host.interfaces) == ["wg-homer"]
    assert stage.call("rotate.history")[0]["outcome"] == "overlap over, not moved: laptop"


def test_interfaces_and_ports_take_turns(stage: Stage) -> None:
    seen = []
    for _ in range(4):
        stage.call("rotate.keys", tunnel="home")
        for peer in ("phone", "laptop"):
            stage.shake(peer, 1)
        stage.settle_down()
        tunnel = stage.engine.specs().tunnel("home")
        seen.append((tunnel.interface, tunnel.listen_port))
        assert stage.engine.report().drift == ()
    assert seen == [("wg-homer", 51821), ("wg-home", 51820)] * 2


def test_at_once_changes_the_key_in_place(stage: Stage) -> None:
    before = stage.engine.specs().tunnel("home")
    done = stage.call("rotate.keys", tunnel="home", now=True)
    after = stage.engine.specs().tunnel("home")
    assert (after.interface, after.listen_port) == (before.interface, before.listen_port)
    assert stage.host.interfaces["wg-home"].device.private_key == after.private_key != before.private_key
    assert len(done["next"]) == 2


def test_at_once_ends_an_overlap_that_somebody_uses(stage: Stage) -> None:
    stage.call("rotate.keys", tunnel="home")
    with pytest.raises(ConflictError, match="no peer has moved"):
        stage.call("rotate.keys", tunnel="home", now=True)
    stage.shake("phone", 1)
    stage.look()
    stage.call("rotate.keys", tunnel="home", now=True)
    assert list(stage.host.interfaces) == ["wg-homer"]
    assert stage.call("rotate.history")[0]["outcome"] == "ended at once"


def test_rolled_back_all_is_as_it_was(stage: Stage) -> None:
    before = stage.host.observe().state.objects
    specs = stage.engine.specs().tunnel("home")
    stage.call("rotate.keys", tunnel="home")
    stage.shake("phone", 1)
    stage.look()
    done = stage.call("rotate.rollback", tunnel="home")
    assert done["notes"] == ["'phone' had moved to the new key and must go back"]
    assert stage.host.observe().state.objects == before
    assert stage.engine.specs().tunnel("home") == specs
    assert not stage.engine.resources.secrets.get_many("tunnel/1/device/")
    with pytest.raises(NotFound, match="no rotation of tunnel 'home' is running"):
        stage.call("rotate.rollback", tunnel="home")


def test_no_undo_brings_half_a_rotation_back(stage: Stage) -> None:
    stage.call("rotate.keys", tunnel="home")
    with pytest.raises(NotFound, match=r"since 'home: rotation begun: .*', which cannot be undone"):
        stage.call("undo")
    stage.call("peer.disable", tunnel="home", name="laptop")
    stage.call("undo")
    assert stage.engine.specs().tunnel("home").peer("laptop").enabled
    assert list(stage.host.interfaces) == ["wg-home", "wg-homer"]


def test_the_log_of_changes_holds_no_retired_key(stage: Stage) -> None:
    stage.call("rotate.keys", tunnel="home", now=True, keep=0)
    assert stage.engine.resources.store.query("SELECT * FROM change_log") == []
    assert stage.engine.resources.secrets.get_many("tunnel/1/retired/") == {}


def test_a_retired_key_is_kept_for_a_while_and_can_be_asked_for(stage: Stage) -> None:
    before = stage.engine.specs().tunnel("home")
    number = stage.call("rotate.keys", tunnel="home", now=True, keep=DAY)["rotation"]["id"]
    stage.call("rotate.keys", tunnel="home", now=True, restore=number)
    assert stage.engine.specs().tunnel("home").private_key == before.private_key
    stage.look(DAY + 1)
    assert stage.engine.resources.secrets.get_many("tunnel/1/retired/1/") == {}
    with pytest.raises(NotFound, match="has left no key"):
        stage.call("rotate.keys", tunnel="home", restore=number)


def test_twice_is_refused(stage: Stage) -> None:
    stage.call("rotate.keys", tunnel="home")
    with pytest.raises(
        ConflictError, match=r"tunnel 'home' is being rotated already \(new key: SHA256:"
    ) as refused:
        stage.call("rotate.keys", tunnel="home")
    assert "rotate rollback home" in refused.value.hint


@pytest.mark.parametrize("overlap", [0, -5, 1e300, float("nan"), float("inf")])
def test_absurd_overlaps_are_refused(stage: Stage, overlap: float) -> None:
    with pytest.raises(InvalidInput, match="an overlap of"):
        stage.call("rotate.keys", tunnel="home", overlap=overlap)
    assert list(stage.host.interfaces) == ["wg-home"]


def test_peers_that_come_during_a_rotation_get_the_new_config(stage: Stage) -> None:
    stage.call("rotate.keys", tunnel="home")
    new = stage.engine.specs().further("home").successor
    assert new is not None
    config = stage.call("peer.add", tunnel="home", name="tablet")["config"]
    assert f"PublicKey = {new.public_key}" in config
    assert "Endpoint = vpn.example.org:51821" in config
    assert stage.call("peer.config", tunnel="home", name="tablet")["config"] == config
    old = stage.call("peer.config", tunnel="home", name="tablet", old=True)["config"]
    assert "Endpoint = vpn.example.org:51820" in old


def test_a_deleted_tunnel_takes_its_rotation_along(stage: Stage) -> None:
    stage.call("rotate.keys", tunnel="home")
    stage.call("tunnel.delete", name="home")
    assert not stage.host.interfaces
    assert stage.engine.resources.secrets.get_many("tunnel/") == {}
    stage.call("undo")
    assert list(stage.host.interfaces) == ["wg-home", "wg-homer"]


def test_totals_survive_the_change_of_devices(stage: Stage) -> None:
    for place in (0, 0, 0):
        stage.shake("phone", place)
    stage.engine.report()
    stage.call("rotate.keys", tunnel="home")
    stage.shake("phone", 1)
    stage.look()
    assert _received(stage) == 400
    stage.look(8 * DAY)
    assert list(stage.host.interfaces) == ["wg-homer"]
    assert _received(stage) == 400
    stage.shake("phone", 0)
    assert _received(stage) == 500


def _received(stage: Stage) -> int:
    (tunnel,) = stage.call("stats", tunnel="home")["tunnels"]
    assert tunnel["rx_total"] == tunnel["peers"][0]["rx_total"]
    return int(tunnel["rx_total"])


def test_a_change_that_waits_to_be_confirmed_holds_the_end_up(stage: Stage) -> None:
    stage.call("rotate.keys", tunnel="home", overlap=DAY)
    document = stage.call("network.export")
    document["tunnels"]["home"]["exit"] = True
    stage.call("network.apply", document=document, confirm=60 * 60)
    stage.shake("phone", 1)
    stage.clock.time += DAY
    stage.engine.resources.store.execute("UPDATE confirmation SET deadline = deadline + ?", DAY)
    assert stage.look()
    assert "wg-home" in stage.host.interfaces
    assert stage.route_to(PHONE) == "wg-homer", "peers are followed all the same"
    stage.call("confirm")
    stage.look()
    assert list(stage.host.interfaces) == ["wg-homer"]


def test_a_new_key_that_cannot_be_had_breaks_nothing_and_does_not_take_over(stage: Stage) -> None:
    stage.call("rotate.keys", tunnel="home", overlap=DAY)
    stage.engine.resources.store.execute("DELETE FROM secrets WHERE name LIKE '%/device/%'")
    stage.begin_anew()
    stage.look(DAY + 1)
    assert stage.engine.specs().tunnel("home").interface == "wg-home"
    assert list(stage.host.interfaces) == ["wg-home", "wg-homer"]
    (running,) = stage.call("rotate.status", tunnel="home")[0]["running"]
    assert running["seconds_left"] == 0


def test_status_tells_of_the_device_beside(stage: Stage) -> None:
    stage.call("rotate.keys", tunnel="home")
    (home,) = stage.call("status")["tunnels"]
    (device,) = home["further"]
    assert (device["interface"], device["state"], device["successor"]) == ("wg-homer", "up", True)
    stage.shake("phone", 1)
    (phone, _) = stage.call("peer.list", tunnel="home")
    assert phone["state"] == "online"
