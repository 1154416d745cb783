"""Peers come, change and go on a running device, and nobody else's session notices."""

import json
from collections.abc import Iterator

import pytest
from tests.netns.harness import Agent, Lab, Refused, key_pair, wait_until


@pytest.fixture
def home(server: Agent) -> Iterator[dict]:
    """A tunnel for one test."""
    made = server.make_tunnel()
    yield made
    server.call("tunnel.delete", name=made["name"])


def add(server: Agent, home: dict, name: str, **request) -> dict:
    return server.call("peer.add", tunnel=home["name"], name=name, **request)


def test_a_peer_made_here_gets_address_keys_and_config(server: Agent, lab: Lab, home: dict) -> None:
    added = add(server, home, "phone")
    peer, config = (
        added["peer"],
        dict(line.split(" = ", 1) for line in added["config"].splitlines() if " = " in line),
    )
    seen = lab.server.wg(home["interface"]).peers[peer["public_key"]]
    assert seen.preshared_key == config["PresharedKey"]
    assert set(peer["addresses"]) and seen.allowed_ips == {host(a) for a in peer["addresses"]}
    assert config["PublicKey"] == home["public_key"]
    assert peer["state"] == "never"
    assert (peer["preshared_key"], peer["config_held"]) == (True, True)


def host(address: str) -> str:
    plain = address.partition("/")[0]
    return f"{plain}/{128 if ':' in plain else 32}"


def test_a_peer_with_its_own_key_gets_no_config_from_us(server: Agent, lab: Lab, home: dict) -> None:
    _, public = key_pair()
    added = add(server, home, "laptop", public_key=public)
    assert added["config"] is None
    assert added["peer"]["config_held"] is False
    assert lab.server.wg(home["interface"]).peers[public].preshared_key is None
    template = server.call("peer.config", tunnel=home["name"], name="laptop")["config"]
    assert not [line for line in template.splitlines() if line.startswith("PrivateKey")]


def test_peers_are_disabled_enabled_and_removed_on_the_device(server: Agent, lab: Lab, home: dict) -> None:
    key = add(server, home, "phone")["peer"]["public_key"]
    stays = add(server, home, "tablet")["peer"]["public_key"]
    secret = lab.server.wg(home["interface"]).peers[key].preshared_key
    assert server.call("peer.disable", tunnel=home["name"], name="phone")["state"] == "disabled"
    assert set(lab.server.wg(home["interface"]).peers) == {stays}
    server.call("peer.enable", tunnel=home["name"], name="phone")
    assert lab.server.wg(home["interface"]).peers[key].preshared_key == secret
    server.call("peer.remove", tunnel=home["name"], public_key=key)
    assert set(lab.server.wg(home["interface"]).peers) == {stays}
    assert [peer["name"] for peer in server.call("peer.list", tunnel=home["name"])] == ["tablet"]


def test_networks_behind_a_peer_are_routed_to_it_and_no_longer(server: Agent, lab: Lab, home: dict) -> None:
    key = add(server, home, "site", routes=["10.80.0.0/16", "fd80::/64"])["peer"]["public_key"]
    assert {"10.80.0.0/16", "fd80::/64"} <= lab.server.wg(home["interface"]).peers[key].allowed_ips
    assert {"10.80.0.0/16", "fd80::/64"} <= lab.server.routes(home["interface"])
    server.call("peer.change", tunnel=home["name"], name="site", routes=["10.81.0.0/16"])
    routes = lab.server.routes(home["interface"])
    assert "10.81.0.0/16" in routes
    assert not {"10.80.0.0/16", "fd80::/64"} & routes
    server.call("peer.remove", tunnel=home["name"], name="site")
    assert "10.81.0.0/16" not in lab.server.routes(home["interface"])


def test_overlapping_networks_are_refused_and_both_peers_named(server: Agent, lab: Lab, home: dict) -> None:
    add(server, home, "site", routes=["10.80.0.0/16"])
    before = lab.server.wg(home["interface"])
    with pytest.raises(Refused, match=r"10\.80") as refused:
        add(server, home, "branch", routes=["10.80.7.0/24"])
    assert "site" in refused.value.message
    assert "branch" in refused.value.message
    assert lab.server.wg(home["interface"]) == before
    assert len(server.call("peer.list", tunnel=home["name"])) == 1


def test_an_address_is_given_out_again_only_when_it_is_free(server: Agent, home: dict) -> None:
    first, second, third = (add(server, home, name)["peer"]["addresses"] for name in "abc")
    assert len({*first, *second, *third}) == 6
    server.call("peer.disable", tunnel=home["name"], name="b")
    assert add(server, home, "d")["peer"]["addresses"] not in (first, second, third)
    server.call("peer.remove", tunnel=home["name"], name="b")
    assert add(server, home, "e")["peer"]["addresses"] == second


def test_a_preshared_key_may_be_given_or_left_out(server: Agent, lab: Lab, home: dict) -> None:
    given, _ = key_pair()
    keys = [
        add(server, home, name, preshared_key=secret)["peer"]["public_key"]
        for name, secret in (("with", given), ("without", "none"))
    ]
    peers = lab.server.wg(home["interface"]).peers
    assert [peers[key].preshared_key for key in keys] == [given, None]


def test_a_list_of_peers_has_the_shape_that_scripts_rely_on(server: Agent, home: dict) -> None:
    add(server, home, "phone")
    (peer,) = server.call("peer.list", tunnel=home["name"])
    assert set(peer) >= {
        "name", "public_key", "addresses", "endpoint", "state", "latest_handshake", "rx_bytes", "tx_bytes",
    }  # fmt: skip
    assert (peer["state"], peer["latest_handshake"], peer["rx_bytes"]) == ("never", None, 0)


def test_a_change_of_one_peer_leaves_the_others_as_they_are(server: Agent, lab: Lab, home: dict) -> None:
    for number in range(20):
        add(server, home, f"peer{number}")
    before = lab.server.wg(home["interface"]).peers
    changed = server.call("peer.change", tunnel=home["name"], name="peer7", keepalive=11)["public_key"]
    after = lab.server.wg(home["interface"]).peers
    assert after[changed].keepalive == 11
    assert {key: peer for key, peer in after.items() if key != changed} == {
        key: peer for key, peer in before.items() if key != changed
    }


def test_a_person_changes_a_peer(server: Agent, lab: Lab, home: dict) -> None:
    key = add(server, home, "site", routes=["10.80.0.0/16"])["peer"]["public_key"]
    words = "--endpoint 192.0.2.2:5000 --keepalive 11 --route 10.81.0.0/16 --format json"
    changed = server.cli("peer", "set", home["name"], "site", *words.split())
    assert changed.returncode == 0, changed.stderr
    shown = json.loads(changed.stdout)
    seen = lab.server.wg(home["interface"]).peers[key]
    assert (seen.endpoint, seen.keepalive) == (shown["endpoint"], 11) == ("192.0.2.2:5000", 11)
    assert seen.allowed_ips == set(shown["allowed_ips"]) > {"10.81.0.0/16"}
    assert "10.80.0.0/16" not in seen.allowed_ips
    assert "is out of date" in shown["notes"][0]
    refused = server.cli("peer", "set", home["name"], "site", "--keepalive", "0", "--route", "10.82.0.1/16")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 2)
    assert lab.server.wg(home["interface"]).peers[key] == seen


def test_an_endpoint_is_told_to_the_device(server: Agent, lab: Lab, home: dict) -> None:
    key = add(server, home, "site", endpoint="192.0.2.2:5000")["peer"]["public_key"]
    assert lab.server.wg(home["interface"]).peers[key].endpoint == "192.0.2.2:5000"
    server.call("peer.change", tunnel=home["name"], name="site", endpoint="[2001:db8:1::2]:5001")
    wait_until(
        lambda: lab.server.wg(home["interface"]).peers[key].endpoint == "[2001:db8:1::2]:5001",
        what="the new endpoint",
    )
