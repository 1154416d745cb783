"""Network namespaces by their commands: on a real store, over a host in memory with the kernel's rules."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.worlds import key_of

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import ConflictError, HostError, InvalidInput, ResourceError
from resource_wireguard.host.facts import Problem
from resource_wireguard.host.state import Address, NetNamespace, Route
from resource_wireguard.system.fake import FakeHost

Call = Callable[..., Any]


@pytest.fixture
def home(call: Call) -> str:
    """A tunnel through which everything goes, and which is not active yet."""
    call("tunnel.create", name="home", addresses=["10.1.0.1/24"], activate=False, dns=["10.1.0.53"])
    add_site(call, "home")
    return "home"


def add_site(call: Call, tunnel: str) -> None:
    public = str(key_of(f"site{tunnel}"))
    call(
        "peer.add",
        tunnel=tunnel,
        name="site",
        public_key=public,
        routes=["0.0.0.0/0"],
        endpoint="192.0.2.1:1",
    )


def test_a_tunnel_lies_in_its_namespace_until_that_goes(call: Call, home: str, host: FakeHost) -> None:
    made = call("namespace.create", name="work", tunnel=home, kind="netns")
    assert (made["state"], made["netns"]["interface"], made["netns"]["reaches"]) == ("isolated", None, [])
    call("tunnel.activate", name=home)
    shown = call("namespace.status", name="work")
    assert (shown["state"], shown["drift"], shown["problems"]) == ("up", [], [])
    assert (shown["netns"]["interface"], shown["netns"]["reaches"][0]) == ("wg-home", "0.0.0.0/0")
    assert call("tunnel.show", name=home)["netns"] == "wg-work"
    assert Route("0.0.0.0/0", "wg-home", netns="wg-work") in host.routes.values()
    assert not host.rules
    call("tunnel.deactivate", name=home)
    call("namespace.delete", name="work")
    call("tunnel.activate", name=home)
    assert call("tunnel.show", name=home)["netns"] is None
    assert host.namespaces == {}
    assert host.rules


def test_a_tunnel_that_is_deleted_leaves_a_closed_namespace(call: Call, home: str, host: FakeHost) -> None:
    call("namespace.create", name="work", tunnel=home, kind="netns")
    call("tunnel.delete", name=home)
    shown = call("namespace.status", name="work")
    assert (shown["state"], shown["netns"]["interface"]) == ("isolated", None)
    assert "does not exist any more" in shown["problems"][0]["message"]
    assert list(host.namespaces) == ["wg-work"]
    assert not host.interfaces


def test_stop_takes_all_of_it_down_and_the_next_pass_makes_it_again(
    call: Call, home: str, host: FakeHost, engine: Engine
) -> None:
    call("namespace.create", name="work", tunnel=home, kind="netns")
    call("tunnel.activate", name=home)
    call("agent.stop")
    assert (host.namespaces, host.interfaces) == ({}, {})
    assert not Engine(engine.resources, engine.features).settle().drift
    assert list(host.namespaces) == ["wg-work"]


def test_what_is_removed_behind_our_back_comes_back(
    call: Call, home: str, host: FakeHost, engine: Engine
) -> None:
    call("namespace.create", name="work", tunnel=home, kind="netns")
    call("tunnel.activate", name=home)
    host.tamper(gone=NetNamespace("wg-work", "work"))
    host.tamper(there=NetNamespace("wg-work", "work", up=False))
    report = engine.settle()
    assert (report.drift, report.problems) == ((), ())
    assert host.namespaces["wg-work"].up
    assert Address("wg-home", "10.1.0.1/24") in host.observe().state.of(Address).values()


def test_programs_ask_their_own_servers_or_else_the_tunnels(call: Call, home: str) -> None:
    call("namespace.create", name="work", tunnel=home, kind="netns")
    assert call("namespace.enter", name="work") == {
        "netns": "wg-work",
        "resolv_conf": "# For programs in namespace 'work' of resource-wireguard.\nnameserver 10.1.0.53\n",
    }
    call("namespace.delete", name="work")
    call("namespace.create", name="work", tunnel=home, kind="netns", dns=["10.9.9.9", "fd00::9"])
    assert (
        "\nnameserver 10.9.9.9\nnameserver fd00::9\n" in call("namespace.enter", name="work")["resolv_conf"]
    )
    (problem,) = call("namespace.status", name="work")["problems"]
    assert problem["message"] == "DNS server fd00::9 does not lie behind tunnel 'home'"


def test_search_domains_come_with_the_config_that_was_imported(call: Call) -> None:
    key = "[Interface]\nPrivateKey = 2MA0gRvYY4Dp4FYBMhX5Xb6bXyLN9qdhqbQuxKQSb0s=\nAddress = 10.2.0.2/32\n"
    call("tunnel.import", name="vpn", text=f"{key}DNS = 10.2.0.1, corp.example, lab.example\n")
    call("namespace.create", name="work", tunnel="vpn", kind="netns")
    text = call("namespace.enter", name="work")["resolv_conf"]
    assert text.endswith("nameserver 10.2.0.1\nsearch corp.example lab.example\n")


def test_without_any_server_status_says_so(call: Call) -> None:
    call("tunnel.create", name="bare", addresses=["10.3.0.1/24"], activate=False)
    call("namespace.create", name="work", tunnel="bare", kind="netns")
    told = [problem["message"] for problem in call("namespace.status", name="work")["problems"]]
    assert told == ["no DNS server is known, so names do not resolve there"]


def refused(call: Call, error: type[ResourceError], command: str, /, **request: Any) -> tuple[str, str]:
    before = call("namespace.list")
    with pytest.raises(error) as refusal:
        call(command, **request)
    assert call("namespace.list") == before
    return refusal.value.message, refusal.value.hint


def test_what_makes_no_sense_is_refused_and_nothing_is_stored(call: Call, home: str, host: FakeHost) -> None:
    call("tunnel.create", name="out", addresses=["10.4.0.1/24"], exit=True, activate=False)
    create = "namespace.create"
    new = {"name": "work", "kind": "netns"}
    assert "is an exit for its peers" in refused(call, InvalidInput, create, tunnel="out", **new)[0]
    assert (
        "'dns.example' is not an address"
        in refused(call, InvalidInput, create, dns=["dns.example"], **new)[0]
    )
    host.no_netns = Problem("the agent may not make network namespaces here", "run it with CAP_SYS_ADMIN")
    assert refused(call, HostError, create, **new) == (host.no_netns.message, host.no_netns.hint)
    host.no_netns = None
    host.place_foreign(NetNamespace("wg-work", ""))
    assert "exists and is not ours" in refused(call, HostError, create, **new)[0]
    new["name"] = "play"
    call("namespace.create", name="rest", tunnel=home, kind="netns")
    assert (
        "'play' and 'rest' both want tunnel 'home'"
        in refused(call, ConflictError, create, tunnel=home, **new)[0]
    )


def test_a_namespace_is_not_deleted_while_that_would_hurt_anybody(
    call: Call, home: str, host: FakeHost
) -> None:
    call("namespace.create", name="work", tunnel=home, kind="netns")
    host.processes["wg-work"] = dict.fromkeys(range(17, 24), "firefox")
    assert call("namespace.status", name="work")["netns"]["processes"][0] == {"pid": 17, "command": "firefox"}
    message, hint = refused(call, ConflictError, "namespace.delete", name="work")
    assert message.endswith("17 (firefox), 18 (firefox), 19 (firefox), 20 (firefox), 21 (firefox) and 2 more")
    assert hint == "end them first"
    host.processes.clear()
    call("tunnel.activate", name=home)
    message, hint = refused(call, ConflictError, "namespace.delete", name="work")
    assert message == "without namespace 'work', tunnel 'home' would carry all traffic of this host"
    assert hint == "take it down first: resource-wireguard content deactivate home"


def test_two_tunnels_of_one_provider_may_have_one_address_in_two_namespaces(call: Call) -> None:
    for number, name in enumerate(("one", "two")):
        key = f"{number}MA0gRvYY4Dp4FYBMhX5Xb6bXyLN9qdhqbQuxKQSb0s="
        text = f"[Interface]\nPrivateKey = {key}\nAddress = 10.2.0.2/32\n"
        call("tunnel.import", name=name, text=text)
        add_site(call, name)
        call("namespace.create", name=name, tunnel=name, kind="netns")
        assert call("tunnel.activate", name=name)["state"] == "up"
