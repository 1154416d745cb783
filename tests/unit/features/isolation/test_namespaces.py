"""Namespaces on a host in memory: made, kept closed, and gone without a trace."""

import errno
from typing import Any

import pytest
from tests.unit.features.conftest import Call

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import AlreadyExists, ConflictError, HostError, InvalidInput, NotFound
from resource_wireguard.host.state import DockerNetwork, Route, Rule, Table
from resource_wireguard.system.fake import FakeHost
from resource_wireguard.system.fake_docker import NOT_RUNNING

BRIDGE = "wgn-private"


def texts(host: FakeHost) -> list[str]:
    """All rules of our table."""
    return [text for table in host.tables.values() for _, rules in table.chains for text in rules]


def ways(host: FakeHost, table: int = 15_800_001) -> set[tuple[str, str | None]]:
    return {(r.prefix, r.interface) for r in host.routes.values() if r.table == table}


# made and unmade ------------------------------------------------------------------------------------


def test_create_binds_a_network_to_its_tunnel(host: FakeHost, private: Any) -> None:
    assert private["state"] == "up"
    assert private["network"] == "wg-private"
    assert private["problems"] == private["drift"] == []
    network = host.docker.networks["wg-private"]
    assert network.prefixes == tuple(private["prefixes"])
    assert network.gateways[0] == "10.113.0.254"
    assert {("0.0.0.0/0", "wg-home"), ("0.0.0.0/0", None), ("::/0", "wg-home"), ("::/0", None)} < ways(host)
    assert next(iter(host.interfaces[BRIDGE].addresses)) == "10.113.0.254/32"
    assert host.sysctls["net.ipv4.ip_forward"] == host.sysctls["net.ipv6.conf.all.forwarding"] == "1"


def test_what_protects_is_there_before_the_network(host: FakeHost, private: Any) -> None:
    kinds = [type(action.record) for action in host.applied]
    assert max(kinds.index(Table), kinds.index(Rule)) < kinds.index(DockerNetwork)
    opened = [a for a in host.applied if a.record.interface == BRIDGE]
    assert host.applied.index(opened[0]) > kinds.index(DockerNetwork)


def test_without_a_tunnel_there_is_no_way_out(host: FakeHost, call: Call) -> None:
    sealed = call("namespace.create", name="private")
    assert sealed["state"] == "isolated"
    assert ways(host) == {
        ("0.0.0.0/0", None),
        ("::/0", None),
        *((prefix, BRIDGE) for prefix in sealed["prefixes"]),
    }
    assert not [text for text in texts(host) if text.startswith("oifname") and "masquerade" in text]


def test_a_tunnel_without_ipv6_carries_none(host: FakeHost, call: Call) -> None:
    call("tunnel.create", name="four", addresses=["10.77.0.1/24"])
    call("namespace.create", name="private", tunnel="four")
    assert ("0.0.0.0/0", "wg-four") in ways(host)
    assert ("::/0", "wg-four") not in ways(host)
    assert not [text for text in texts(host) if "wg-four" in text and "ip6 saddr" in text]


def test_delete_leaves_nothing(host: FakeHost, call: Call, private: Any) -> None:
    assert call("namespace.delete", name="private") == {"name": "private"}
    assert not host.docker.networks
    assert not host.tables
    assert not host.rules
    assert not ways(host)
    order = [type(action.record) for action in host.applied if action.verb == "delete"]
    assert order.index(DockerNetwork) < order.index(Rule) < order.index(Table)


def test_delete_names_what_is_still_attached(host: FakeHost, call: Call, private: Any) -> None:
    host.docker.run("web", "wg-private")
    host.docker.run("db", "wg-private")
    with pytest.raises(ConflictError, match="has containers attached: db, web"):
        call("namespace.delete", name="private")
    assert call("namespace.status", name="private")["state"] == "up"


def test_two_namespaces_through_one_tunnel_share_nothing(host: FakeHost, call: Call, private: Any) -> None:
    other = call("namespace.create", name="other", tunnel="home", intercontainer=True)
    assert not set(other["prefixes"]) & set(private["prefixes"])
    forward = next(rules for chain, rules in host.tables["inet"].chains if chain.name == "isolation-forward")
    assert f'iifname "{BRIDGE}" oifname "{BRIDGE}" accept' not in forward
    assert 'iifname "wgn-other" oifname "wgn-other" accept' in forward
    for bridge in (BRIDGE, "wgn-other"):
        accepts = [n for n, text in enumerate(forward) if text.startswith(f'iifname "{bridge}" oifname')]
        assert max(accepts) < forward.index(f'iifname "{bridge}" drop')


# failing closed --------------------------------------------------------------------------------------


def test_a_tunnel_that_is_gone_leaves_the_namespace_isolated(
    host: FakeHost, call: Call, private: Any
) -> None:
    call("tunnel.delete", name="home")
    shown = call("namespace.status", name="private")
    assert shown["state"] == "isolated"
    assert "'home' does not exist any more" in shown["problems"][0]["message"]
    assert ("0.0.0.0/0", "wg-home") not in ways(host)
    assert ("0.0.0.0/0", None) in ways(host)
    assert f'iifname "{BRIDGE}" drop' in texts(host)


def test_stop_keeps_what_holds_containers_in_and_takes_the_gateway(
    host: FakeHost, engine: Engine, call: Call, private: Any
) -> None:
    host.docker.run("web", "wg-private")
    assert call("agent.stop") == {"stopped": True, "left": []}
    assert "wg-home" not in host.interfaces
    assert "wg-private" in host.docker.networks
    assert not host.interfaces[BRIDGE].addresses
    assert f'iifname "{BRIDGE}" drop' in texts(host)
    assert not [text for text in texts(host) if "wg-home" in text]
    assert {rule.source for rule in host.rules} > set(private["prefixes"])
    assert ways(host) == {("0.0.0.0/0", None), ("::/0", None)}


def test_stop_while_docker_is_silent_keeps_it_closed_too(host: FakeHost, call: Call, private: Any) -> None:
    host.docker.refusal = NOT_RUNNING
    call("agent.stop")
    assert f'iifname "{BRIDGE}" drop' in texts(host)
    assert ("0.0.0.0/0", None) in ways(host)


def test_purge_takes_all_of_it_but_never_opens_a_network_in_use(
    host: FakeHost, call: Call, private: Any
) -> None:
    host.docker.run("web", "wg-private")
    assert "delete Docker network wg-private" in call("agent.purge")["left"]
    assert f'iifname "{BRIDGE}" drop' in texts(host)
    host.docker.containers.clear()
    assert call("agent.purge")["left"] == []
    assert not host.tables
    assert not host.docker.networks


def test_a_silent_docker_is_a_problem_and_keeps_nobody_else_waiting(
    host: FakeHost, call: Call, private: Any
) -> None:
    host.docker.refusal = NOT_RUNNING
    assert call("tunnel.create", name="second")["state"] == "up"
    shown = call("namespace.status", name="private")
    assert shown["state"] == "down"
    assert "does not run" in shown["problems"][0]["message"]
    assert call("status")["service"]["health"] == "unhealthy"
    assert "wg-private" in host.docker.networks
    host.docker.refusal = None
    assert call("namespace.status", name="private")["state"] == "up"


def test_no_network_is_made_without_its_table(host: FakeHost, call: Call, home: Any) -> None:
    host.refuse(Table, None, errno.EPERM)
    with pytest.raises(HostError, match="'private' is stored, but not made"):
        call("namespace.create", name="private", tunnel="home")
    assert not host.docker.networks


def test_what_others_do_is_repaired(host: FakeHost, engine: Engine, call: Call, private: Any) -> None:
    route = Route("0.0.0.0/0", None, 15_800_001, 9999)
    host.tamper(gone=host.tables["inet"])
    host.tamper(gone=route)
    host.tamper(gone=next(iter(host.rules)))
    shown = call("namespace.status", name="private")
    assert shown["state"] == "degraded"
    assert "create nft table inet resource-wireguard: 12 rules" in shown["drift"]
    assert call("status")["service"]["health"] == "unhealthy"
    assert not engine.settle("event").drift
    assert call("namespace.status", name="private")["state"] == "up"


def test_a_network_removed_by_hand_is_made_again_as_it_was(
    host: FakeHost, engine: Engine, call: Call, private: Any
) -> None:
    before = host.docker.networks["wg-private"]
    host.tamper(gone=before)
    assert call("namespace.status", name="private")["state"] == "down"
    assert not engine.settle("event").drift
    assert host.docker.networks["wg-private"] == before


def test_docker_is_asked_only_where_there_is_something_to_ask(host: FakeHost, call: Call, home: Any) -> None:
    call("status")
    assert host.docker.asked == 0


# leaks that are not ours to close ----------------------------------------------------------------------


def test_a_second_network_behind_our_back_is_a_leak(host: FakeHost, call: Call, private: Any) -> None:
    host.docker.run("web", "wg-private", "bridge")
    shown = call("namespace.status", name="private")
    assert shown["state"] == "leaking"
    assert shown["problems"][0] == {
        "message": "container 'web' has another way out: network bridge",
        "hint": "docker network disconnect bridge web",
    }
    (check,) = [c for c in call("status")["service"]["checks"] if c["code"] == "namespace-closed"]
    assert not check["ok"]
    assert host.docker.containers["web"].networks == {"wg-private", "bridge"}


def test_dns_that_docker_asks_from_the_host_is_a_leak(host: FakeHost, call: Call, private: Any) -> None:
    host.docker.run("web", "wg-private", asks_outside=True)
    shown = call("namespace.status", name="private")
    assert shown["state"] == "leaking"
    assert shown["containers"][0]["dns"] == "host"


def test_create_tells_of_dns_that_would_leave(host: FakeHost, call: Call, home: Any) -> None:
    host.docker.asks_outside = True
    (note,) = call("namespace.create", name="private", tunnel="home")["notes"]
    assert "--dns" in note


# containers -------------------------------------------------------------------------------------------


def test_connect_moves_a_container_and_disconnect_puts_it_back(
    host: FakeHost, call: Call, private: Any
) -> None:
    host.docker.run("web", "bridge", "other")
    answer = call("namespace.connect", container="web", name="private")
    assert answer["networks"] == ["bridge", "other"]
    assert answer["namespace"]["containers"][0] == {
        "name": "web",
        "running": True,
        "dns": "tunnel",
        "other_networks": [],
        "connected": True,
    }
    assert host.docker.containers["web"].networks == {"wg-private"}
    answer = call("namespace.disconnect", container="web", name="private")
    assert host.docker.containers["web"].networks == {"bridge", "other"}
    assert answer["namespace"]["containers"] == []


def test_a_container_made_anew_or_freed_by_hand_is_bound_again(
    host: FakeHost, engine: Engine, call: Call, private: Any
) -> None:
    host.docker.run("web", "bridge")
    call("namespace.connect", container="web", name="private")
    del host.docker.containers["web"]
    assert not engine.settle("event").drift
    host.docker.run("web", "bridge")
    assert not engine.settle("event").drift
    assert host.docker.containers["web"].networks == {"wg-private"}


def test_one_that_came_by_itself_leaves_with_its_other_networks(
    host: FakeHost, call: Call, private: Any
) -> None:
    host.docker.run("web", "wg-private", "bridge")
    call("namespace.disconnect", container="web", name="private")
    assert host.docker.containers["web"].networks == {"bridge"}


@pytest.mark.parametrize("mode", ["host", "none", "container:abc"])
def test_a_container_without_networks_of_its_own_is_refused(
    host: FakeHost, call: Call, private: Any, mode: str
) -> None:
    host.docker.run("web", mode=mode)
    with pytest.raises(ConflictError, match=f"--network {mode}") as refused:
        call("namespace.connect", container="web", name="private")
    assert "docker run --network wg-private" in refused.value.hint
    assert call("plan") == {"actions": [], "problems": []}


def test_connect_refuses_a_silent_leak_of_dns(host: FakeHost, call: Call, private: Any) -> None:
    host.docker.run("web", "bridge", asks_outside=True)
    with pytest.raises(ConflictError, match="DNS queries of container 'web' would leave") as refused:
        call("namespace.connect", container="web", name="private")
    assert "--dns" in refused.value.hint
    assert host.docker.containers["web"].networks == {"bridge"}


def test_a_container_is_in_one_namespace(host: FakeHost, call: Call, private: Any) -> None:
    call("namespace.create", name="other")
    host.docker.run("web", "bridge")
    call("namespace.connect", container="web", name="private")
    with pytest.raises(ConflictError, match="is in namespace 'private'"):
        call("namespace.connect", container="web", name="other")
    with pytest.raises(AlreadyExists):
        call("namespace.connect", container="web", name="private")


def test_unknown_containers_are_named(host: FakeHost, call: Call, private: Any) -> None:
    with pytest.raises(NotFound, match="no container named 'nobody'"):
        call("namespace.connect", container="nobody", name="private")
    with pytest.raises(NotFound, match="'nobody' is not in namespace 'private'"):
        call("namespace.disconnect", container="nobody", name="private")


# bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        ({"name": "a/b"}, InvalidInput, "namespace name 'a/b'"),
        ({"name": "x", "tunnel": "hoem"}, NotFound, "no tunnel named 'hoem'"),
        ({"name": "x", "subnet": "10.9.9.1/24"}, InvalidInput, "host bits"),
        ({"name": "x", "subnet": "10.9.9.0/30"}, InvalidInput, "too small"),
        ({"name": "x", "subnet": "fd00::/64"}, InvalidInput, "is not IPv4"),
        ({"name": "x", "subnet": "172.17.5.0/24"}, ConflictError, "overlaps 172.17.0.0/16"),
        ({"name": "x", "subnet": "10.13.13.0/25"}, ConflictError, "overlaps 10.13.13.0/24"),
        ({"name": "taken"}, ConflictError, "Docker has a network 'wg-taken' that is not ours"),
    ],
)
def test_bad_input_changes_nothing(
    host: FakeHost, call: Call, home: Any, request_: dict[str, Any], error: type[Exception], words: str
) -> None:
    host.docker.foreign["wg-taken"] = "192.168.200.0/24"
    with pytest.raises(error, match=words):
        call("namespace.create", **request_)
    assert call("namespace.list") == []
    assert not host.docker.networks


def test_a_name_is_taken_once(call: Call, private: Any) -> None:
    with pytest.raises(AlreadyExists, match="namespace 'private' exists already"):
        call("namespace.create", name="private")


def test_no_docker_no_namespace(host: FakeHost, call: Call, home: Any) -> None:
    host.docker.refusal = NOT_RUNNING
    with pytest.raises(HostError, match="does not run"):
        call("namespace.create", name="private", tunnel="home")
    assert call("namespace.list") == []


def test_an_exhausted_pool_names_the_way_out(host: FakeHost, call: Call) -> None:
    host.docker.foreign["huge"] = "10.0.0.0/8"
    with pytest.raises(ConflictError, match="no free network of size /24") as refused:
        call("namespace.create", name="private")
    assert refused.value.hint == "name one with --subnet"


def test_undo_brings_a_namespace_back(host: FakeHost, call: Call, private: Any) -> None:
    before = host.docker.networks["wg-private"]
    call("namespace.delete", name="private")
    call("undo")
    assert host.docker.networks["wg-private"] == before
