"""The tunnel.* commands: what is chosen, what is refused, and that nothing is called up that is not."""

from typing import Any

import pytest
from tests.unit.features.conftest import Call

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import (
    AlreadyExists,
    ConflictError,
    HostError,
    InvalidInput,
    NotFound,
    ResourceError,
)
from resource_wireguard.host.facts import Survey
from resource_wireguard.host.state import Address, Device, Link, Peer, Route, Sysctl, Table
from resource_wireguard.model.settings import Settings
from resource_wireguard.system.fake import FakeHost
from resource_wireguard.system.fake_kernel import UdpSocket


def test_a_tunnel_is_up_with_what_was_free(home: Any) -> None:
    assert (home["state"], home["engine"], home["drift"], home["problems"]) == ("up", "kernel", [], [])
    assert (home["interface"], home["listen_port"], home["mtu"]) == ("wg-home", 51820, 1420)
    v4, v6 = home["addresses"]
    assert v4 == "10.13.13.1/24"
    assert v6.startswith("fd")
    assert v6.endswith("::1/64")


def test_tunnels_share_nothing(call: Call, home: Any) -> None:
    office = call("tunnel.create", name="office", activate=False)
    assert office["addresses"][0] == "10.13.14.1/24"
    assert office["addresses"][1] != home["addresses"][1]
    assert (office["listen_port"], office["state"]) == (51821, "inactive")
    assert office["public_key"] != home["public_key"]


def test_what_the_host_uses_is_not_chosen(call: Call, host: FakeHost) -> None:
    host.place_foreign(UdpSocket(51820), Route("10.13.12.0/23", "eth0"))
    made = call("tunnel.create", name="home")
    assert (made["listen_port"], made["addresses"][0]) == (51821, "10.13.14.1/24")


def test_a_block_that_is_routed_as_a_whole_is_left(call: Call, host: FakeHost) -> None:
    host.place_foreign(Route("10.0.0.0/8", "eth0"))
    assert call("tunnel.create", name="home")["addresses"][0] == "172.16.0.1/24"


def test_a_given_network_and_given_addresses_are_taken(call: Call) -> None:
    assert call("tunnel.create", name="a", network="10.99.0.0/16")["addresses"][0] == "10.99.0.1/16"
    assert call("tunnel.create", name="b", addresses=["10.98.0.7/24"])["addresses"] == ["10.98.0.7/24"]
    only_v6 = call("tunnel.create", name="c", network="fd12:3456::/64")["addresses"]
    assert only_v6 == ["fd12:3456::1/64"]


def test_a_host_without_ipv6_gets_none(call: Call, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "survey", lambda **_: Survey(ipv6=False))
    assert call("tunnel.create", name="home")["addresses"] == ["10.13.13.1/24"]


REFUSED = [
    ({"name": "ho/me"}, InvalidInput, "not allowed"),
    ({"name": "x" * 300}, InvalidInput, "300 characters"),
    ({"name": "h\u00f6me"}, InvalidInput, "not allowed"),
    ({"name": "home"}, AlreadyExists, "exists already"),
    ({"interface": "wg-home"}, ConflictError, "tunnel 'home'"),
    ({"interface": "br0"}, ConflictError, "not ours"),
    ({"interface": "a-name-too-long-for-linux"}, InvalidInput, "interface name"),
    ({"port": 0}, InvalidInput, "not a UDP port"),
    ({"port": 65536}, InvalidInput, "not a UDP port"),
    ({"port": 51820}, ConflictError, "tunnel 'home'"),
    ({"port": 53}, ConflictError, "another program"),
    ({"mtu": 100}, InvalidInput, "out of range"),
    ({"network": "10.13.13.0/25"}, ConflictError, r"10\.13\.13\.0/24 of tunnel 'home'"),
    ({"network": "203.0.113.0/24"}, ConflictError, r"203\.0\.113\.0/25, which this host"),
    ({"network": "10.99.0.1/24"}, InvalidInput, "host bits"),
    ({"addresses": ["10.13.13.9/24"]}, ConflictError, "tunnel 'home'"),
    ({"addresses": []}, InvalidInput, "needs an address"),
    ({"addresses": ["224.0.0.1/24"]}, InvalidInput, "cannot be given"),
    ({"addresses": ["10.99.0.1/24"], "network": "10.99.0.0/24"}, InvalidInput, "both given"),
    ({"endpoint": "vpn.example.org:99999"}, InvalidInput, "endpoint port"),
    ({"dns": ["dns.example.org"]}, InvalidInput, "DNS server"),
]


@pytest.mark.parametrize(("request_", "kind", "text"), REFUSED)
def test_a_bad_request_changes_nothing(
    call: Call, host: FakeHost, home: Any, request_: dict[str, Any], kind: type[ResourceError], text: str
) -> None:
    host.place_foreign(Link("br0", "", "", 1500), UdpSocket(53), Route("203.0.113.0/25", "eth0"))
    done = len(host.applied)
    with pytest.raises(kind, match=text) as refused:
        call("tunnel.create", **{"name": "other", **request_})
    assert refused.value.hint
    assert "\n" not in refused.value.message
    assert [tunnel["name"] for tunnel in call("tunnel.list")] == ["home"]
    assert len(host.applied) == done


@pytest.mark.parametrize("settings", [Settings(port=51000)])
def test_the_port_registry_is_obeyed(call: Call, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    reserved = {51000: "wireguard", 51001: "postgres"}
    monkeypatch.setattr(host, "survey", lambda **_: Survey(reserved_ports=reserved))
    assert call("tunnel.create", name="a", activate=False)["listen_port"] == 51000, "our own entry"
    assert call("tunnel.create", name="b", activate=False)["listen_port"] == 51002
    with pytest.raises(ConflictError, match="'postgres' in the port registry"):
        call("tunnel.create", name="c", port=51001)


def test_a_tunnel_that_cannot_come_up_is_kept_and_told(call: Call, host: FakeHost) -> None:
    host.refuse(Link)
    with pytest.raises(HostError, match=r"'home' is stored, but wg-home is not up: .*not permitted"):
        call("tunnel.create", name="home")
    assert call("tunnel.show", name="home")["state"] == "down"
    host.relent()
    assert call("tunnel.activate", name="home")["state"] == "up"


def test_what_is_half_there_is_not_called_up(call: Call, host: FakeHost) -> None:
    host.refuse(Address)
    made = call("tunnel.create", name="home")
    assert made["state"] == "degraded"
    assert made["drift"]
    assert made["problems"]


def test_down_and_up_again_with_the_same_key(call: Call, host: FakeHost, home: Any) -> None:
    assert call("tunnel.deactivate", name="home")["state"] == "inactive"
    assert host.observe().state.of(Link) == {}
    again = call("tunnel.activate", name="home")
    assert (again["public_key"], again["addresses"]) == (home["public_key"], home["addresses"])


def test_an_interface_that_stays_is_told(call: Call, host: FakeHost, home: Any) -> None:
    host.refuse(Link)
    with pytest.raises(HostError, match="deleted, but wg-home is still there"):
        call("tunnel.delete", name="home")
    host.relent()


def test_a_deleted_tunnel_frees_all_it_had(call: Call, engine: Engine, home: Any) -> None:
    call("peer.add", tunnel="home", name="phone")
    assert call("tunnel.delete", name="home") == {"name": "home"}
    assert engine.resources.store.query("SELECT name FROM secrets") == []
    again = call("tunnel.create", name="home")
    assert (again["addresses"], again["listen_port"]) == (home["addresses"], home["listen_port"])
    assert again["public_key"] != home["public_key"]


def test_a_changed_tunnel_keeps_what_was_not_named(call: Call, host: FakeHost, home: Any) -> None:
    call("tunnel.change", name="home", endpoint="vpn.example.org", mtu=1300)
    changed = call("tunnel.change", name="home", port=4500)
    assert (changed["listen_port"], changed["mtu"]) == (4500, 1300)
    assert changed["endpoint"] == "vpn.example.org:4500", "an endpoint that named the old port follows"
    assert call("tunnel.change", name="home", mtu=None, endpoint=None)["endpoint"] is None
    assert host.observe().state.of(Link)["wg-home"].mtu == 1420
    assert host.observe().state.of(Device)["wg-home"].listen_port == 4500


def test_an_exit_is_made_and_unmade(call: Call, host: FakeHost, home: Any) -> None:
    assert call("tunnel.change", name="home", exit=True)["state"] == "up"
    assert host.sysctls["net.ipv4.ip_forward"] == "1"
    assert host.observe().state.of(Table)
    call("tunnel.change", name="home", exit=False)
    assert host.observe().state.of(Table) == {}


@pytest.mark.parametrize("part", [Sysctl, Table])
def test_an_exit_that_is_refused_is_not_called_up(
    call: Call, host: FakeHost, part: type[Sysctl | Table]
) -> None:
    host.refuse(part)
    assert call("tunnel.create", name="home", exit=True)["state"] == "degraded"


PRINT = "with 'resource-wireguard peer config home"
EVERY = f"the configs that 2 peers have are out of date: print each anew {PRINT} PEER'"
OF_ONE = f"the config that peer 'phone' has is out of date: print it anew {PRINT} phone'"


@pytest.mark.parametrize(
    ("request_", "notes"),
    [
        ({"port": 5000}, [EVERY]),
        ({"mtu": 1300}, [EVERY]),
        ({"exit": True}, [EVERY]),
        ({"endpoint": "vpn.example.org"}, [EVERY]),
        ({"port": 51820, "exit": False}, ["nothing to change: tunnel 'home' is so already"]),
        ({"dns": ["9.9.9.9"]}, [OF_ONE]),
    ],
)
@pytest.mark.parametrize("address", ["192.0.2.1", None])
def test_configs_that_are_out_of_date_are_counted(
    call: Call,
    host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
    home: Any,
    request_: dict[str, Any],
    notes: list[str],
    address: str | None,
) -> None:
    """Whether or not this host's address is known; a peer with resolvers of its own asks those."""
    monkeypatch.setattr(host, "survey", lambda **_: Survey(public_address=address))
    call("peer.add", tunnel="home", name="phone")
    call("peer.add", tunnel="home", name="tablet", dns=["1.1.1.1"])
    assert call("tunnel.change", name="home", **request_)["notes"] == notes


def test_a_port_that_peers_do_not_call_is_no_news_to_them(call: Call, home: Any) -> None:
    call("tunnel.change", name="home", endpoint="vpn.example.org:443")
    call("peer.add", tunnel="home", name="phone")
    assert call("tunnel.change", name="home", port=5000)["notes"] == []


def test_unknown_names_come_with_the_nearest_one(call: Call, home: Any) -> None:
    for command in ("tunnel.show", "tunnel.activate", "tunnel.delete", "tunnel.config", "tunnel.change"):
        with pytest.raises(NotFound) as refused:
            call(command, name="hoem")
        assert refused.value.hint == "did you mean 'home'?"


def test_lists_are_by_name_and_filtered(call: Call, home: Any) -> None:
    for name in ("zoo", "attic"):
        call("tunnel.create", name=name, activate=False)
    assert [tunnel["name"] for tunnel in call("tunnel.list")] == ["attic", "home", "zoo"]
    assert [tunnel["name"] for tunnel in call("tunnel.list", filter="?o*")] == ["home", "zoo"]


def test_a_second_way_to_everywhere_is_refused_whole(call: Call, host: FakeHost, home: Any) -> None:
    call("tunnel.create", name="work")
    call("peer.add", tunnel="home", name="out", routes=["0.0.0.0/0"])
    with pytest.raises(ConflictError, match="'home' and 'work' both have the default route"):
        call("peer.add", tunnel="work", name="out", routes=["0.0.0.0/0"])
    assert call("peer.list", tunnel="work") == []
    assert {peer.interface for peer in host.observe().state.of(Peer).values()} == {"wg-home"}


def test_the_journal_tells_who_did_what_without_keys(call: Call, engine: Engine, home: Any) -> None:
    engine.actor = "uid 1000"
    key = call("peer.add", tunnel="home", name="phone")["config"].split("PrivateKey = ")[1][:44]
    rows = engine.resources.store.query("SELECT actor, subject, text FROM journal")
    assert any(row[:2] == ("uid 1000", "home") and "peer 'phone' added" in row[2] for row in rows)
    assert key not in str(rows)
