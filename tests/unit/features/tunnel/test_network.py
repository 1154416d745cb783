"""The whole network as one document: what it changes, what it leaves alone, and what it refuses."""

from base64 import b64encode
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import ConflictError, InvalidInput
from resource_wireguard.features.tunnel import choose
from resource_wireguard.features.tunnel.document import Faults, read
from resource_wireguard.host.facts import Survey
from resource_wireguard.host.state import Device, Link, Peer
from resource_wireguard.model.keys import PrivateKey, PublicKey
from resource_wireguard.model.specs import PeerSpec, TunnelSpec
from resource_wireguard.system.fake import FakeHost

Call = Callable[..., Any]

KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
OTHER_KEY = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="


def document(tunnels: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"version": 1, "tunnels": tunnels, **more}


def texts(outcome: dict[str, Any]) -> list[str]:
    return [change["text"] for change in outcome["changes"]]


@pytest.fixture
def rich(call: Call) -> None:
    """Two tunnels with about everything that can be said of them."""
    call("tunnel.create", name="home", exit=True, endpoint="vpn.example.org", dns=["10.13.13.1"], mtu=1380)
    call("peer.add", tunnel="home", name="phone", dns=["1.1.1.1"], allowed_ips=["0.0.0.0/0"])
    call(
        "peer.add", tunnel="home", name="site", public_key=KEY, endpoint="192.0.2.1:7", routes=["10.9.0.0/24"]
    )
    call("peer.add", tunnel="home", name="off", keepalive=5, preshared_key="none", keep_key=False)
    call("peer.disable", tunnel="home", name="off")
    call("tunnel.create", name="work", activate=False)


def test_what_is_exported_changes_nothing_when_applied(call: Call, engine: Engine, rich: None) -> None:
    before = engine.specs().tunnels
    last = engine.history.last()
    exported = call("network.export")
    for outcome in (
        call("network.plan", document=exported),
        call("network.apply", document=exported, prune=True),
    ):
        assert outcome["changes"] == outcome["actions"] == outcome["faults"] == outcome["left_alone"] == []
    assert engine.specs().tunnels == before
    assert engine.history.last() == last, "nothing changed, so there is nothing to undo"


def test_every_field_of_a_spec_is_spoken_of(call: Call) -> None:
    """A field that the document does not know would be lost on another host: add it to document.py."""
    assert set(TunnelSpec.__struct_fields__) == {
        *("name", "number", "interface", "private_key", "public_key", "listen_port", "addresses", "active"),
        *("mtu", "exit", "endpoint", "dns", "host_dns", "fwmark", "table", "peers", "created_at"),
        "generation",  # of the host's own interface: on another one it begins anew
    }
    assert set(PeerSpec.__struct_fields__) == {
        *("name", "public_key", "enabled", "addresses", "allowed_ips", "preshared_key", "has_private_key"),
        *("endpoint", "endpoint_since", "keepalive", "config_allowed_ips", "config_dns", "config_keepalive"),
        "created_at",
    }


def test_no_key_is_in_an_export_or_a_plan(call: Call, engine: Engine, rich: None) -> None:
    told = str(call("network.export")) + str(call("network.plan", document=document({}), prune=True))
    told += str(engine.resources.store.query("SELECT text FROM journal"))
    for tunnel in engine.specs().tunnels:
        assert tunnel.private_key.reveal() not in told
        for peer in tunnel.peers:
            assert peer.preshared_key is None or peer.preshared_key.reveal() not in told


def test_an_export_makes_the_same_network_on_another_host(call: Call, engine: Engine, rich: None) -> None:
    """With keys of its own for the tunnels; the peers are those that there were."""
    exported = call("network.export")
    call("network.apply", document=document({}), prune=True)
    assert engine.specs().tunnels == ()
    call("network.apply", document=exported)
    again = call("network.export")
    assert again == exported


def test_a_tunnel_and_its_peers_are_made_in_one_change(call: Call, engine: Engine, host: FakeHost) -> None:
    wanted = document({"home": {"port": 7000, "peers": {"phone": {}, "tv": {"public_key": KEY}}}})
    plan = call("network.plan", document=wanted)
    assert engine.specs().tunnels == () and host.observe().state.of(Link) == {}, "a plan changes nothing"
    outcome = call("network.apply", document=wanted)
    assert texts(outcome) == texts(plan)
    assert [text.split(":")[0] for text in texts(outcome)] == [
        "create tunnel home",
        "create peer phone of home",
        "create peer tv of home",
    ]
    assert outcome["drift"] == [] and outcome["problems"] == []
    (device,) = host.observe().state.of(Device).values()
    assert device.listen_port == 7000
    assert len(host.observe().state.of(Peer)) == 2
    assert "PrivateKey" in call("peer.config", tunnel="home", name="phone")["config"]
    assert not call("peer.show", tunnel="home", name="tv")["preshared_key"]
    call("network.plan", document=wanted)
    assert texts(call("network.apply", document=wanted)) == []


def test_changes_are_made_in_place_and_sessions_live_on(call: Call, host: FakeHost, rich: None) -> None:
    exported = call("network.export")
    exported["tunnels"]["home"]["port"] = 7001
    exported["tunnels"]["home"]["peers"]["phone"]["routes"] = ["172.20.0.0/24"]
    keys = {peer.public_key for peer in host.observe().state.of(Peer).values()}
    outcome = call("network.apply", document=exported)
    assert texts(outcome) == [
        "change tunnel home: listen port 51820 → 7001",
        outcome["changes"][1]["text"],
    ]
    assert not [line for line in outcome["actions"] if line.startswith(("create peer", "delete"))]
    assert {peer.public_key for peer in host.observe().state.of(Peer).values()} == keys


def test_what_an_option_is_not_said_of_has_its_default(call: Call, engine: Engine, rich: None) -> None:
    home = {"peers": {"phone": {}, "off": {}, "site": {}}}
    call("network.apply", document=document({"home": home}))
    (tunnel, _) = engine.specs().tunnels
    assert (tunnel.exit, tunnel.endpoint, tunnel.dns, tunnel.mtu) == (False, None, (), None)
    assert tunnel.listen_port == 51820 and tunnel.addresses[0] == "10.13.13.1/24", "what was given stays"
    assert tunnel.peer("off").enabled
    assert str(tunnel.peer("site").public_key) == KEY
    assert tunnel.peer("phone").preshared_key is not None
    assert tunnel.peer("site").allowed_ips == {"10.13.13.3/32", *tunnel.peer("site").addresses}


def test_what_is_not_in_the_file_stays_unless_it_is_pruned(call: Call, engine: Engine, rich: None) -> None:
    partly = {"home": {"peers": {"phone": {}}}}
    outcome = call("network.apply", document=document(partly))
    assert outcome["left_alone"] == ["tunnel work", "peer site of home", "peer off of home"]
    assert [tunnel.name for tunnel in engine.specs().tunnels] == ["home", "work"]
    outcome = call("network.apply", document=document(partly, prune=True))
    assert [c["verb"] for c in outcome["changes"]] == ["delete"] * 3
    (tunnel,) = engine.specs().tunnels
    assert [peer.name for peer in tunnel.peers] == ["phone"]
    call("network.apply", document=document({"home": {}}, prune=True))
    assert len(engine.specs().tunnels[0].peers) == 1, "where no peers are spoken of, none are removed"


def test_two_tunnels_swap_their_ports(call: Call, host: FakeHost) -> None:
    call("tunnel.create", name="a", port=7001)
    call("tunnel.create", name="b", port=7002)
    outcome = call("network.apply", document=document({"a": {"port": 7002}, "b": {"port": 7001}}))
    assert outcome["drift"] == []
    ports = {device.interface: device.listen_port for device in host.observe().state.of(Device).values()}
    assert ports == {"wg-a": 7002, "wg-b": 7001}
    call("undo")
    ports = {device.interface: device.listen_port for device in host.observe().state.of(Device).values()}
    assert ports == {"wg-a": 7001, "wg-b": 7002}


def test_two_peers_swap_keys_and_addresses(call: Call, engine: Engine) -> None:
    call("tunnel.create", name="a", addresses=["10.1.0.1/24"])
    call("peer.add", tunnel="a", name="x", public_key=KEY, addresses=["10.1.0.2"])
    call("peer.add", tunnel="a", name="y", public_key=OTHER_KEY, addresses=["10.1.0.3"])
    swapped = {
        "x": {"public_key": OTHER_KEY, "addresses": ["10.1.0.3"]},
        "y": {"public_key": KEY, "addresses": ["10.1.0.2"]},
    }
    assert call("network.apply", document=document({"a": {"peers": swapped}}))["drift"] == []
    assert str(engine.specs().tunnels[0].peer("x").public_key) == OTHER_KEY


def test_another_key_takes_the_old_private_key_away(call: Call, engine: Engine, home: Any) -> None:
    call("peer.add", tunnel="home", name="phone")
    names = engine.resources.store.query("SELECT name FROM secrets WHERE name LIKE '%peer-private%'")
    call("network.apply", document=document({"home": {"peers": {"phone": {"public_key": KEY}}}}))
    assert not engine.specs().tunnels[0].peer("phone").has_private_key
    assert (
        names and engine.resources.store.query("SELECT name FROM secrets WHERE name = ?", names[0][0]) == []
    )


def test_new_peers_get_addresses_that_nobody_asks_for(call: Call, engine: Engine) -> None:
    peers = {"auto": {}, "fixed": {"addresses": ["10.5.0.2"], "public_key": KEY}}
    call("network.apply", document=document({"a": {"addresses": ["10.5.0.1/24"], "peers": peers}}))
    assert engine.specs().tunnels[0].peer("auto").addresses == ("10.5.0.3/32",)


def test_new_tunnels_get_ports_and_networks_that_nobody_asks_for(call: Call, engine: Engine) -> None:
    call("network.apply", document=document({"a": {}, "b": {"port": 51820, "addresses": ["10.13.13.1/24"]}}))
    a, b = engine.specs().tunnels
    assert (a.listen_port, b.listen_port) == (51821, 51820)
    assert a.addresses[0] == "10.13.14.1/24"


@pytest.mark.parametrize(
    "more", [{"host_dns": ["1.1.1.1", "a.example", "~."]}, {"fwmark": 51820}, {"table": "off"}, {"table": 7}]
)
def test_what_wg_quick_knows_is_kept(call: Call, engine: Engine, more: dict[str, Any]) -> None:
    call("network.apply", document=document({"a": more}))
    exported = call("network.export")["tunnels"]["a"]
    assert exported | more == exported
    (tunnel,) = engine.specs().tunnels
    assert tunnel.host_dns or tunnel.fwmark or tunnel.table is not None


BAD: list[tuple[Any, tuple[str | int, ...], str]] = [
    (None, (), "version"),
    ([], (), "a list stands where a mapping"),
    ("x", (), "'x' stands where a mapping"),
    ({"tunnels": {}}, (), "'version' is missing"),
    ({"version": 2}, ("version",), "not understood"),
    ({"version": True}, ("version",), "not understood"),
    (document({}, tunels={}), ("tunels",), "'tunels' is not known"),
    (document([]), ("tunnels",), "a list stands where tunnels by name"),
    (document({"a b": {}}), ("tunnels", "a b"), "tunnel name 'a b' is not allowed"),
    (document({"a": {"prot": 1}}), ("tunnels", "a", "prot"), "'prot' is not known"),
    (document({"a": {"port": "51820"}}), ("tunnels", "a", "port"), "'51820' is not a number"),
    (document({"a": {"port": 70000}}), ("tunnels", "a", "port"), "not a UDP port"),
    (document({"a": {"exit": "yes"}}), ("tunnels", "a", "exit"), "'yes' is neither true nor false"),
    (document({"a": {"mtu": 100}}), ("tunnels", "a", "mtu"), "mtu 100 is out of range"),
    (document({"a": {"dns": "1.1.1.1"}}), ("tunnels", "a", "dns"), "stands where a list"),
    (document({"a": {"dns": ["1.1.1.1", 5]}}), ("tunnels", "a", "dns", 1), "5 stands where text"),
    (document({"a": {"addresses": ["10.0.0.300"]}}), ("tunnels", "a", "addresses", 0), "not an IP address"),
    (document({"a": {"host_dns": ["a b"]}}), ("tunnels", "a", "host_dns", 0), "neither a DNS server"),
    (document({"a": {"table": "main"}}), ("tunnels", "a", "table"), "'main' is not a number"),
    (document({"a": {"fwmark": -1}}), ("tunnels", "a", "fwmark"), "fwmark -1 is out of range"),
    (document({"a": {"addresses": []}}), ("tunnels", "a"), "no address"),
    (document({"a": {"interface": "far-too-long-for-linux"}}), ("tunnels", "a", "interface"), "not allowed"),
    (
        document({"a": {"peers": {"p": {"public_key": "x"}}}}),
        ("tunnels", "a", "peers", "p", "public_key"),
        "not a W",
    ),
    (
        document({"a": {"peers": {"p": {"routes": ["10.0.0.1/8"]}}}}),
        ("tunnels", "a", "peers", "p", "routes", 0),
        "host bits",
    ),
    (
        document({"a": {"peers": {"p": {"endpoint": "x"}}}}),
        ("tunnels", "a", "peers", "p", "endpoint"),
        "has no port",
    ),
    (
        document({"a": {"peers": {"p": {"addresses": []}}}}),
        ("tunnels", "a", "peers", "p"),
        "neither an address nor",
    ),
    (
        document({"a": {"peers": {"p": {"config": {"kepalive": 1}}}}}),
        ("tunnels", "a", "peers", "p", "config", "kepalive"),
        "not known",
    ),
    (
        document({"a": {"port": 7001}, "b": {"port": 7001}}),
        ("tunnels", "b"),
        "UDP port 7001 is taken by tunnel 'a'",
    ),
    (document({"home": {"interface": "wg9"}}), ("tunnels", "home", "interface"), "is wg-home, and stays so"),
    (
        document({"home": {"peers": {"p": {"public_key": KEY}, "q": {"public_key": KEY}}}}),
        ("tunnels", "home", "peers", "q"),
        "is that of peer 'p'",
    ),
    (
        document(
            {"home": {"peers": {"p": {"addresses": ["10.13.13.9"]}, "q": {"routes": ["10.13.13.8/29"]}}}}
        ),
        ("tunnels", "home", "peers", "p"),
        "overlaps",
    ),
    (
        document({"home": {"peers": {"p": {"addresses": ["10.13.13.1"]}}}}),
        ("tunnels", "home", "peers", "p"),
        "address of tunnel 'home' itself",
    ),
    (
        document({"home": {"peers": {n: {"routes": ["0.0.0.0/0"]} for n in "pq"}}}),
        ("tunnels", "home", "peers", "q"),
        "0.0.0.0/0 of peer 'q' overlaps",
    ),
]


@pytest.mark.parametrize(("wanted", "path", "words"), BAD, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_told_with_its_place_and_nothing_is_changed(
    call: Call, engine: Engine, home: Any, wanted: Any, path: tuple[str | int, ...], words: str
) -> None:
    before = engine.specs().tunnels
    faults = call("network.plan", document=wanted)["faults"]
    found = {tuple(fault["path"]): fault["message"] for fault in faults}
    assert words in found.get(path, f"nothing at {path}, but {found}") or (path == () and not faults)
    if faults:
        with pytest.raises(InvalidInput) as refused:
            call("network.apply", document=wanted)
        assert refused.value.hint
    assert engine.specs().tunnels == before


def test_an_unknown_key_is_answered_with_the_nearest(call: Call) -> None:
    (fault,) = call("network.plan", document=document({"a": {"adresses": ["10.0.0.1/24"]}}))["faults"]
    assert fault["hint"] == "did you mean 'addresses'?"
    assert fault["at_key"]


def test_all_faults_are_told_at_once(call: Call) -> None:
    wanted = document({"a": {"port": 0, "exit": 1, "peers": {"p": {"keepalive": -1}}}, "b": {"x": 1}})
    assert len(call("network.plan", document=wanted)["faults"]) == 4
    with pytest.raises(InvalidInput, match=r"\(and 3 more\)"):
        call("network.apply", document=wanted)


def test_what_others_use_on_the_host_is_not_taken(call: Call, host: FakeHost, monkeypatch: Any) -> None:
    taken = Survey(frozenset({"10.66.0.0/16"}), frozenset({7001}), frozenset({"wg-c"}))
    monkeypatch.setattr(host, "survey", lambda: taken)
    wanted = document({"a": {"port": 7001}, "b": {"addresses": ["10.66.1.1/24"]}, "c": {}})
    messages = [fault["message"] for fault in call("network.plan", document=wanted)["faults"]]
    assert len(messages) == 3
    assert (
        "another program" in messages[0]
        and "overlaps 10.66.0.0/16" in messages[1]
        and "not ours" in messages[2]
    )


def test_two_ways_to_everywhere_are_refused_whole(call: Call, engine: Engine) -> None:
    peers = {"p": {"public_key": KEY, "routes": ["0.0.0.0/0"]}}
    with pytest.raises(ConflictError, match="both have the default route"):
        call("network.apply", document=document({"a": {"peers": peers}, "b": {"peers": peers}}))
    assert engine.specs().tunnels == ()


def test_confirm_waits_for_a_word_and_takes_all_back(
    call: Call, engine: Engine, clock: Any, home: Any
) -> None:
    wanted = document({"home": {"port": 7001}, "more": {}})
    outcome = call("network.apply", document=wanted, confirm=60)
    assert outcome["pending"]["seconds_left"] == 60
    with pytest.raises(ConflictError, match="waits to be confirmed"):
        call("network.apply", document=document({"home": {}}), confirm=60)
    clock.time += 60
    engine.settle("timer")
    assert [(t.name, t.listen_port) for t in engine.specs().tunnels] == [("home", 51820)]


def test_confirm_of_nothing_does_not_wait(call: Call, engine: Engine, home: Any) -> None:
    assert call("network.apply", document=document({"home": {}}), confirm=60)["pending"] is None
    assert engine.history.pending() is None


def test_thousands_of_peers_are_one_change_and_a_line_of_the_journal(call: Call, engine: Engine) -> None:
    def key(n: int) -> str:
        return b64encode(n.to_bytes(4, "big") * 8).decode()

    peers = {
        f"p{n}": {"public_key": key(n), "addresses": [f"10.7.{n >> 8}.{n & 255}"]} for n in range(2, 2000)
    }
    call("network.apply", document=document({"big": {"addresses": ["10.7.0.1/16"], "peers": peers}}))
    assert len(engine.specs().tunnels[0].peers) == 1998
    lines = [line for (line,) in engine.resources.store.query("SELECT text FROM journal")]
    assert "create 1998 peers" in lines


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["10.0.0.1/24", "auto", "", "x:1", KEY]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["version", "tunnels", "a", "port", "peers", "p", "addresses", "config", "mtu", "dns", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES)
def test_any_document_gives_faults_or_is_understood(value: Any) -> None:
    faults = Faults()
    wanted = read(value, faults)
    assert faults.found or wanted.tunnels is not None


PREFIXES = st.builds(
    lambda text, length: str(ip_network(f"{text}/{length}", strict=False)),
    st.sampled_from(["10.0.0.0", "10.0.0.7", "10.0.0.8", "10.0.1.0", "10.0.0.1", "10.128.0.0"]),
    st.sampled_from([0, 8, 16, 23, 24, 29, 30, 32]),
) | st.sampled_from(["::/0", "fd00::/8", "fd00::1/128", "fd00::/64"])


@given(st.lists(st.frozensets(PREFIXES, max_size=3), max_size=5))
def test_clashes_are_found_in_one_go_as_they_are_one_by_one(all_allowed: list[frozenset[str]]) -> None:
    peers = tuple(
        PeerSpec(name=f"p{n}", public_key=PublicKey(bytes([n]) * 32), allowed_ips=allowed)
        for n, allowed in enumerate(all_allowed)
    )
    key = PrivateKey(b"k" * 32)
    tunnel = TunnelSpec(
        name="t", number=1, interface="wg0", private_key=key, public_key=PublicKey(b"t" * 32), listen_port=1,
        addresses=("10.0.0.1/24", "fd00::1/64"), peers=peers,
    )  # fmt: skip
    one_by_one = False
    for peer in peers:
        try:
            choose.refuse_taken_prefixes(tunnel, peer.name, peer.allowed_ips)
        except ConflictError:
            one_by_one = True
    assert bool(list(choose.clashes(tunnel, None))) == one_by_one
