"""The peer.* commands: addresses and keys given out, claims refused, and the config that is printed."""

from typing import Any

import msgspec
import pytest
from tests.unit.features.conftest import Call
from tests.unit.worlds import StoppedClock

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import (
    AlreadyExists,
    ConflictError,
    HostError,
    InvalidInput,
    NotFound,
    ResourceError,
)
from resource_wireguard.host.facts import Observation, Problem
from resource_wireguard.host.state import Device, Peer, PeerEndpoint, Route, state_of
from resource_wireguard.model.keys import PrivateKey
from resource_wireguard.model.settings import Settings
from resource_wireguard.system.fake import FakeHost

LAPTOP = str(PrivateKey(b"laptop".ljust(32)).public())
PRESHARED = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE="


@pytest.fixture
def phone(call: Call, home: Any) -> Any:
    return call("peer.add", tunnel="home", name="phone")["peer"]


def on_device(host: FakeHost) -> dict[str, Peer]:
    return {str(peer.public_key): peer for peer in host.observe().state.of(Peer).values()}


def values_of(config: str) -> dict[str, str]:
    return dict(line.split(" = ", 1) for line in config.splitlines() if " = " in line and line[0] != "#")


def test_a_peer_made_here_is_on_the_device_and_in_its_config(call: Call, host: FakeHost, home: Any) -> None:
    added = call("peer.add", tunnel="home", name="phone")
    peer, config = added["peer"], values_of(added["config"])
    assert (peer["state"], peer["preshared_key"], peer["config_held"]) == ("never", True, True)
    assert peer["addresses"][0] == "10.13.13.2/32"
    there = on_device(host)[peer["public_key"]]
    assert there.allowed_ips == set(peer["addresses"])
    assert there.preshared_key is not None
    assert there.preshared_key.reveal() == config["PresharedKey"]
    assert config["PublicKey"] == home["public_key"]
    assert config["Address"] == ", ".join(peer["addresses"])
    assert config["PersistentKeepalive"] == "25"
    assert there.keepalive == 0, "the phone dials, so the phone keeps the way open"


def test_a_peer_with_a_key_of_its_own_gets_no_config(call: Call, host: FakeHost, home: Any) -> None:
    added = call("peer.add", tunnel="home", name="laptop", public_key=LAPTOP)
    assert added["config"] is None
    assert (added["peer"]["preshared_key"], added["peer"]["config_held"]) == (False, False)
    later = call("peer.config", tunnel="home", name="laptop")
    assert "PrivateKey" not in values_of(later["config"])
    assert any("private key of 'laptop'" in note for note in later["notes"])


def test_a_forgotten_key_is_printed_once(call: Call, engine: Engine, home: Any) -> None:
    added = call("peer.add", tunnel="home", name="phone", keep_key=False)
    assert "PrivateKey" in values_of(added["config"])
    assert added["peer"]["config_held"] is False
    assert "PrivateKey" not in values_of(call("peer.config", tunnel="home", name="phone")["config"])
    kept = {name for (name,) in engine.resources.store.query("SELECT name FROM secrets")}
    assert kept == {"tunnel/1/private", "tunnel/1/preshared/1/key"}


def test_the_config_is_the_same_later(call: Call, home: Any) -> None:
    options = {"dns": ["10.13.13.1"], "allowed_ips": ["10.0.0.0/8"], "keepalive": 7}
    added = call("peer.add", tunnel="home", name="phone", **options)
    assert call("peer.config", tunnel="home", name="phone")["config"] == added["config"]
    config = values_of(added["config"])
    assert (config["DNS"], config["AllowedIPs"], config["PersistentKeepalive"]) == (
        "10.13.13.1",
        "10.0.0.0/8",
        "7",
    )


def test_addresses_are_the_lowest_free_ones(call: Call, home: Any) -> None:
    def add(name: str, **more: Any) -> str:
        address: str = call("peer.add", tunnel="home", name=name, **more)["peer"]["addresses"][0]
        return address

    assert [add("a"), add("b"), add("c")] == ["10.13.13.2/32", "10.13.13.3/32", "10.13.13.4/32"]
    call("peer.disable", tunnel="home", name="a")
    call("peer.remove", tunnel="home", name="b")
    assert add("site", routes=["10.13.13.8/29"]) == "10.13.13.3/32"
    assert [add(name) for name in "defg"] == [f"10.13.13.{n}/32" for n in (5, 6, 7, 16)]


def test_a_full_network_says_so(call: Call) -> None:
    call("tunnel.create", name="tiny", network="10.99.0.0/30")
    call("peer.add", tunnel="tiny", name="a")
    with pytest.raises(ConflictError, match=r"10\.99\.0\.0/30 has no free address"):
        call("peer.add", tunnel="tiny", name="b")


def test_a_tunnel_of_one_address_has_none_to_give(call: Call) -> None:
    call("tunnel.create", name="client", addresses=["10.99.0.7/32"])
    with pytest.raises(InvalidInput, match="neither an address nor a route"):
        call("peer.add", tunnel="client", name="hub")
    hub = call("peer.add", tunnel="client", name="hub", routes=["10.99.0.0/24"])["peer"]
    assert (hub["addresses"], hub["allowed_ips"]) == ([], ["10.99.0.0/24"])


REFUSED = [
    ({"name": "pho ne"}, InvalidInput, "not allowed"),
    ({"name": "phone"}, AlreadyExists, "has a peer 'phone' already"),
    ({"public_key": ""}, InvalidInput, "not a WireGuard key"),
    ({"public_key": "A" * 43 + "="}, InvalidInput, "low order"),
    ({"preshared_key": "secret"}, InvalidInput, "preshared key is not"),
    ({"addresses": ["10.13.13.1"]}, ConflictError, r"10\.13\.13\.1/32 is the address of tunnel 'home'"),
    ({"addresses": ["10.13.13.2"]}, ConflictError, "of peer 'other' overlaps .* of peer 'phone'"),
    ({"addresses": ["10.13.13"]}, InvalidInput, "not an IP address"),
    ({"addresses": []}, InvalidInput, "neither"),
    ({"routes": ["10.13.13.0/24"]}, ConflictError, "of peer 'phone'"),
    ({"routes": ["192.168.7.1/24"]}, InvalidInput, "host bits"),
    ({"endpoint": "192.0.2.1"}, InvalidInput, "no port"),
    ({"keepalive": -1}, InvalidInput, "out of range"),
    ({"keepalive": 65536}, InvalidInput, "out of range"),
    ({"allowed_ips": ["everything"]}, InvalidInput, "allowed IPs"),
    ({"tunnel": "hoem"}, NotFound, "no tunnel"),
]


@pytest.mark.parametrize(("request_", "kind", "text"), REFUSED)
def test_a_bad_request_changes_nothing(
    call: Call, host: FakeHost, phone: Any, request_: dict[str, Any], kind: type[ResourceError], text: str
) -> None:
    done = len(host.applied)
    with pytest.raises(kind, match=text) as refused:
        call("peer.add", **{"tunnel": "home", "name": "other", **request_})
    assert refused.value.hint
    assert [peer["name"] for peer in call("peer.list", tunnel="home")] == ["phone"]
    assert len(host.applied) == done


def test_keys_that_are_taken_are_refused(call: Call, home: Any, phone: Any) -> None:
    with pytest.raises(ConflictError, match="that of tunnel 'home' itself"):
        call("peer.add", tunnel="home", name="self", public_key=home["public_key"])
    with pytest.raises(ConflictError, match=r"peer 'phone'; peer 'twin'"):
        call("peer.add", tunnel="home", name="twin", public_key=phone["public_key"])
    call("tunnel.create", name="work")
    call("peer.add", tunnel="work", name="phone", public_key=phone["public_key"])


def test_a_bad_preshared_key_is_not_repeated(call: Call, home: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        call("peer.add", tunnel="home", name="phone", preshared_key="hunter2")
    assert "hunter2" not in refused.value.message + refused.value.hint


@pytest.mark.parametrize("settings", [Settings(peers_max=1)])
def test_the_number_of_peers_is_limited(call: Call, phone: Any) -> None:
    with pytest.raises(ConflictError, match="WIREGUARD_PEERS_MAX is 1"):
        call("peer.add", tunnel="home", name="tablet")


def test_preshared_keys_are_made_given_or_left_out(call: Call, host: FakeHost, home: Any) -> None:
    given = call("peer.add", tunnel="home", name="a", preshared_key=PRESHARED)["peer"]["public_key"]
    none = call("peer.add", tunnel="home", name="b", preshared_key="none")["peer"]["public_key"]
    both = call("peer.add", tunnel="home", name="c", public_key=LAPTOP, preshared_key=PRESHARED)
    seen = on_device(host)
    assert seen[given].preshared_key == seen[both["peer"]["public_key"]].preshared_key
    assert seen[none].preshared_key is None


def test_a_site_is_dialled_routed_and_changed(
    call: Call, host: FakeHost, clock: StoppedClock, home: Any
) -> None:
    request = {"routes": ["192.168.7.0/24"], "endpoint": "192.0.2.9:51820", "public_key": LAPTOP}
    site = call("peer.add", tunnel="home", name="site", **request)["peer"]
    assert site["keepalive"] == 25, "we dial, so we keep the way open"
    assert "192.168.7.0/24" in {route.prefix for route in host.observe().state.of(Route).values()}
    changed = call("peer.change", tunnel="home", name="site", routes=["192.168.8.0/24"], keepalive=0)
    assert (changed["keepalive"], changed["endpoint"]) == (0, "192.0.2.9:51820")
    assert {route.prefix for route in host.observe().state.of(Route).values()} == {"192.168.8.0/24"}
    assert call("tunnel.show", name="home")["drift"] == []


def test_an_endpoint_brings_the_keepalive_of_who_dials_unless_one_was_given(call: Call, phone: Any) -> None:
    given = {"tunnel": "home", "name": "phone"}
    assert call("peer.change", **given, endpoint="192.0.2.9:1")["keepalive"] == 25
    back = call("peer.change", **given, endpoint=None)
    assert (back["keepalive"], back["notes"]) == (
        0,
        ["WireGuard knows 'phone' at its last endpoint until it calls from another one"],
    )
    call("peer.change", **given, keepalive=7)
    assert call("peer.change", **given, endpoint="192.0.2.9:1")["keepalive"] == 7


OUT_OF_DATE = (
    "the config that peer 'phone' has is out of date: "
    "print it anew with 'resource-wireguard peer config home phone'"
)


@pytest.mark.parametrize(
    ("request_", "outdated"),
    [
        ({"allowed_ips": ["0.0.0.0/0"]}, True),
        ({"dns": ["9.9.9.9"]}, True),
        ({"keepalive": 5}, True),
        ({"keepalive": 25}, False),
        ({"endpoint": "192.0.2.9:1"}, False),
        ({"routes": ["192.168.7.0/24"]}, False),
    ],
)
def test_a_config_that_says_something_else_by_now_is_named(
    call: Call, phone: Any, request_: dict[str, Any], outdated: bool
) -> None:
    before = call("peer.config", tunnel="home", name="phone")["config"]
    changed = call("peer.change", tunnel="home", name="phone", **request_)
    assert changed["notes"] == ([OUT_OF_DATE] if outdated else [])
    assert (call("peer.config", tunnel="home", name="phone")["config"] != before) == outdated


def test_a_change_to_what_is_so_already_writes_nothing(
    call: Call, engine: Engine, host: FakeHost, phone: Any
) -> None:
    call("peer.change", tunnel="home", name="phone", dns=["9.9.9.9"])
    written, applied = len(call("journal")), len(host.applied)
    again = call("peer.change", tunnel="home", name="phone", dns=["9.9.9.9"], endpoint=None, routes=[])
    assert again["notes"] == ["nothing to change: peer 'phone' is so already"]
    assert (len(call("journal")), len(host.applied)) == (written, applied)


REFUSED_CHANGES: list[tuple[dict[str, Any], type[ResourceError], str]] = [
    ({"endpoint": "nowhere"}, InvalidInput, "no port"),
    ({"keepalive": 65536}, InvalidInput, "out of range"),
    ({"routes": ["10.0.0.1/8"]}, InvalidInput, "host bits"),
    ({"routes": ["10.13.13.3/32"]}, ConflictError, "overlaps"),
    ({"allowed_ips": ["all"]}, InvalidInput, "allowed IPs"),
    ({"dns": ["dns.example.org"]}, InvalidInput, "DNS server"),
    ({"name": "phon"}, NotFound, "phon"),
    ({"tunnel": "hom"}, NotFound, "hom"),
]


@pytest.mark.parametrize(("request_", "kind", "text"), REFUSED_CHANGES)
def test_a_bad_change_changes_nothing(
    call: Call, phone: Any, request_: dict[str, Any], kind: type[ResourceError], text: str
) -> None:
    call("peer.add", tunnel="home", name="laptop", public_key=LAPTOP)
    before = call("peer.list", tunnel="home")
    good = {"keepalive": 9, "endpoint": "192.0.2.9:1"}
    with pytest.raises(kind, match=text) as refused:
        call("peer.change", **{"tunnel": "home", "name": "phone", **good, **request_})
    assert refused.value.hint
    assert "\n" not in refused.value.message
    assert call("peer.list", tunnel="home") == before


def test_the_last_route_of_a_peer_without_an_address_stays(call: Call, home: Any) -> None:
    call("peer.add", tunnel="home", name="far", public_key=LAPTOP, addresses=[], routes=["192.168.7.0/24"])
    with pytest.raises(InvalidInput, match="neither an address nor a route"):
        call("peer.change", tunnel="home", name="far", routes=[])


def test_a_change_that_the_host_refuses_is_told(call: Call, host: FakeHost, phone: Any) -> None:
    host.refuse(Peer)
    changed = call("peer.change", tunnel="home", name="phone", routes=["192.168.7.0/24"])
    assert changed["notes"][0].startswith("wg-home does not have the change yet")


def endpoints(host: FakeHost) -> list[str]:
    return [endpoint.endpoint for endpoint in host.observe().state.of(PeerEndpoint).values()]


def test_a_session_is_followed_until_another_endpoint_is_given(
    call: Call, engine: Engine, host: FakeHost, clock: StoppedClock, home: Any
) -> None:
    site = call("peer.add", tunnel="home", name="site", public_key=LAPTOP, endpoint="192.0.2.9:51820")
    clock.time += 10
    host.handshake("wg-home", key_of_text(site["peer"]["public_key"]), "198.51.100.7:4711", clock.time)
    assert engine.settle().drift == ()
    assert endpoints(host) == ["198.51.100.7:4711"], "roaming is not drift"
    clock.time += 10
    call("peer.change", tunnel="home", name="site", endpoint="192.0.2.10:51820")
    assert endpoints(host) == ["192.0.2.10:51820"], "what a person says now counts at once"
    host.handshake("wg-home", key_of_text(site["peer"]["public_key"]), "198.51.100.8:4711", clock.time + 1)
    clock.time += 200
    assert engine.settle().drift == ()
    assert endpoints(host) == ["192.0.2.10:51820"], "a dead session is looked for where we were told"


def key_of_text(text: str) -> Any:
    from resource_wireguard.model.keys import parse_public_key

    return parse_public_key(text)


def test_disabled_peers_are_off_the_device_and_keep_all_they_have(
    call: Call, host: FakeHost, phone: Any
) -> None:
    before = on_device(host)[phone["public_key"]]
    assert call("peer.disable", tunnel="home", name="phone")["state"] == "disabled"
    assert on_device(host) == {}
    with pytest.raises(ConflictError, match="of peer 'phone'"):
        call("peer.add", tunnel="home", name="thief", addresses=["10.13.13.2"])
    call("peer.enable", tunnel="home", name="phone")
    assert on_device(host)[phone["public_key"]] == before


def test_peers_are_removed_by_name_or_key(call: Call, host: FakeHost, phone: Any) -> None:
    for request in ({}, {"name": "phone", "public_key": phone["public_key"]}):
        with pytest.raises(InvalidInput, match="by its name or by its public key"):
            call("peer.remove", tunnel="home", **request)
    with pytest.raises(NotFound, match="no peer with the public key"):
        call("peer.remove", tunnel="home", public_key=LAPTOP)
    gone = call("peer.remove", tunnel="home", public_key=phone["public_key"])
    assert gone == {"tunnel": "home", "name": "phone"}
    assert on_device(host) == {}
    with pytest.raises(NotFound):
        call("peer.show", tunnel="home", name="phone")


def test_a_peer_that_the_kernel_refuses_is_stored_and_told(call: Call, host: FakeHost, home: Any) -> None:
    host.refuse(Peer)
    added = call("peer.add", tunnel="home", name="phone")
    assert added["config"], "the key is printed in any case: it may be for the only time"
    assert any("does not have the peer yet" in note for note in added["notes"])
    host.relent()
    assert call("tunnel.activate", name="home")["state"] == "up"


def test_peers_of_a_stored_tunnel_wait(call: Call, host: FakeHost) -> None:
    call("tunnel.create", name="home", activate=False)
    assert call("peer.add", tunnel="home", name="phone")["peer"]["state"] == "never"
    assert host.applied == []
    call("tunnel.activate", name="home")
    assert len(on_device(host)) == 1


def test_no_answer_but_a_config_shows_a_key(call: Call, engine: Engine, phone: Any) -> None:
    config = values_of(call("peer.config", tunnel="home", name="phone")["config"])
    shown = [
        call(command, **request)
        for command, request in (
            ("peer.list", {"tunnel": "home"}),
            ("peer.show", {"tunnel": "home", "name": "phone"}),
            ("tunnel.show", {"name": "home"}),
            ("tunnel.config", {"name": "home"}),
        )
    ]
    text = f"{shown}{engine.specs()}{engine.last}"
    assert config["PrivateKey"] not in text
    assert config["PresharedKey"] not in text
    assert config["PresharedKey"] in call("tunnel.config", name="home", show_secrets=True)["config"]


@pytest.mark.parametrize("command", ["disable", "remove"])
def test_a_peer_that_stays_on_the_device_is_told(
    call: Call, host: FakeHost, phone: Any, command: str
) -> None:
    host.refuse(Peer)
    with pytest.raises(HostError, match=rf"peer 'phone' is {command}d, but wg-home still lets it in"):
        call(f"peer.{command}", tunnel="home", name="phone")


def test_a_peer_that_does_not_come_back_is_told(call: Call, host: FakeHost, phone: Any) -> None:
    call("peer.disable", tunnel="home", name="phone")
    host.refuse(Peer)
    with pytest.raises(HostError, match="'phone' is enabled, but wg-home does not have the peer yet"):
        call("peer.enable", tunnel="home", name="phone")


@pytest.mark.parametrize("command", ["disable", "remove"])
def test_so_is_one_of_which_the_device_says_nothing(
    call: Call, host: FakeHost, phone: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = host.observe

    def observe(*questions: Any) -> Observation:
        seen = look(*questions)
        kept = [r for records in seen.state.objects.values() for r in records.values()]
        state = state_of(record for record in kept if not isinstance(record, Device | Peer))
        problems = (Problem("engine of wg-home does not answer", "", "wg-home"),)
        return msgspec.structs.replace(seen, state=state, peers={}, problems=problems, complete=False)

    monkeypatch.setattr(host, "observe", observe)
    with pytest.raises(HostError, match="wg-home may still let it in: engine of wg-home does not answer"):
        call(f"peer.{command}", tunnel="home", name="phone")
