"""Printed configs: what the real wg-quick and wg take, and what a person is told beside them."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.unit.features.conftest import Call
from tests.unit.features.tunnel.test_compile import peer, tunnel

from resource_wireguard.features.tunnel.config import Config, peer_config, tunnel_config
from resource_wireguard.host.facts import Survey
from resource_wireguard.model.keys import PresharedKey, PrivateKey
from resource_wireguard.model.net import Endpoint
from resource_wireguard.model.settings import Settings
from resource_wireguard.system.fake import FakeHost

KEY = PrivateKey(b"k" * 31 + b"\x40")
PHONE = peer(
    "phone",
    "10.13.1.2/32",
    addresses=("10.13.1.2/32", "fd00:0:0:1::2/128"),
    preshared_key=PresharedKey(b"s" * 32),
)


def printed(key: PrivateKey | None = KEY, public: str | None = "198.51.100.1", **settings: Any) -> Config:
    return peer_config(tunnel(), PHONE, key, Settings(**settings), Survey(public_address=public))


def values_of(config: str) -> dict[str, str]:
    return dict(line.split(" = ", 1) for line in config.splitlines() if " = " in line and line[0] != "#")


def stripped(config: str, tmp_path: Path) -> str:
    """What wg-quick hands to 'wg setconf'."""
    path = tmp_path / "wg-test.conf"
    path.write_text(config)
    path.chmod(0o600)
    return subprocess.run(["wg-quick", "strip", str(path)], capture_output=True, text=True, check=True).stdout


def test_a_whole_config(tmp_path: Path) -> None:
    config = printed(dns=("9.9.9.9",))
    assert config.notes == ()
    assert config.config.splitlines()[0] == "# tunnel home, peer phone"
    assert values_of(config.config) == {
        "PrivateKey": KEY.reveal(),
        "Address": "10.13.1.2/32, fd00:0:0:1::2/128",
        "DNS": "9.9.9.9",
        "PublicKey": str(tunnel().public_key),
        "PresharedKey": PresharedKey(b"s" * 32).reveal(),
        "AllowedIPs": "10.13.1.0/24, fd00:0:0:1::/64",
        "Endpoint": "198.51.100.1:51820",
        "PersistentKeepalive": "25",
    }
    left = values_of(stripped(config.config, tmp_path))
    assert set(left) == {
        "PrivateKey",
        "PublicKey",
        "PresharedKey",
        "AllowedIPs",
        "Endpoint",
        "PersistentKeepalive",
    }


@pytest.mark.parametrize("secrets", [True, False])
def test_our_own_side_is_taken_by_wg_quick(tmp_path: Path, secrets: bool) -> None:
    site = peer("site", "192.168.7.0/24", endpoint="2001:db8::9:51820", keepalive=25)
    text = tunnel_config(tunnel(PHONE, site, peer("off", enabled=False)), secrets).config
    left = stripped(text, tmp_path)
    assert left.count("[Peer]") == 2
    assert "Endpoint = [2001:db8::9]:51820" in left
    assert (tunnel().private_key.reveal() in left) is secrets


def test_the_real_tool_reads_it(call: Call, host: FakeHost, tmp_path: Path) -> None:
    """'wg setconf' parses the whole file before it looks for the interface, which is not there."""
    host.public_address = "2001:db8::1"
    call("tunnel.create", name="home")
    config = call("peer.add", tunnel="home", name="phone", allowed_ips=["0.0.0.0/0", "::/0"])["config"]
    path = tmp_path / "stripped"
    for text, parsed in ((stripped(config, tmp_path), True), ("[Peer]\nNonsense = 1\n", False)):
        path.write_text(text)
        argv = ["wg", "setconf", "wg-not-there", str(path)]
        told = subprocess.run(argv, capture_output=True, text=True, check=False).stderr
        assert ("Unable to modify interface" in told) is parsed, told
        assert ("parsing error" in told.lower() or "unrecognized" in told.lower()) is not parsed, told


@pytest.mark.parametrize(
    ("public", "endpoint", "note"),
    [
        ("198.51.100.1", "198.51.100.1:51820", ""),
        ("2001:db8::1", "[2001:db8::1]:51820", ""),
        ("10.0.0.5", "10.0.0.5:51820", "private address"),
        ("100.64.0.5", "100.64.0.5:51820", "private address"),
        ("fd00::5", "[fd00::5]:51820", "private address"),
        (None, None, "not known"),
    ],
)
def test_where_the_peer_finds_us(public: str | None, endpoint: str | None, note: str) -> None:
    config = printed(public=public)
    assert values_of(config.config).get("Endpoint") == endpoint
    assert bool(config.notes) == bool(note)
    assert all(note in text for text in config.notes)


def test_a_told_endpoint_needs_no_survey() -> None:
    spec = tunnel(endpoint=Endpoint("vpn.example.org", 4500))
    config = peer_config(spec, PHONE, KEY, Settings(), Survey())
    assert values_of(config.config)["Endpoint"] == "vpn.example.org:4500"
    assert config.notes == ()


def test_what_goes_into_the_tunnel() -> None:
    def allowed(spec: Any, member: Any, **settings: Any) -> str:
        return values_of(peer_config(spec, member, KEY, Settings(**settings), Survey()).config)["AllowedIPs"]

    own = peer("phone", addresses=("10.13.1.2/32",), config_allowed_ips=("10.0.0.0/8",))
    assert allowed(tunnel(exit=True), own, allowed_ips=("192.0.2.0/24",)) == "10.0.0.0/8"
    assert allowed(tunnel(exit=True), PHONE, allowed_ips=("192.0.2.0/24",)) == "192.0.2.0/24"
    assert allowed(tunnel(exit=True, addresses=("10.13.1.1/24",)), PHONE) == "0.0.0.0/0, ::/0"


def test_what_is_not_needed_is_left_out(tmp_path: Path) -> None:
    bare = printed(key=None, keepalive=0)
    assert not {"PrivateKey", "DNS", "MTU", "PersistentKeepalive"} & set(values_of(bare.config))
    assert any("private key" in note for note in bare.notes)
    stripped(bare.config, tmp_path)
    with_mtu = peer_config(tunnel(mtu=1300), PHONE, KEY, Settings(), Survey())
    assert values_of(with_mtu.config)["MTU"] == "1300"


def test_a_config_does_not_print_itself_by_accident() -> None:
    config = printed()
    assert KEY.reveal() not in f"{config} {config!r}"
