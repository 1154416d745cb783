"""What is written of a tunnel and of a peer: other programs' own readers take it, and masks hold."""

import json
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest
from tests.unit.features.conftest import Call
from tests.unit.formats.configs import CASES

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.formats.files import FORMATS
from resource_wireguard.model.formats.wgquick import parse

FILES = sorted(CASES.iterdir())


def stripped(text: str, folder: Path) -> str:
    """What wg-quick(8) itself makes of a file."""
    path = folder / "wg-test.conf"
    path.write_text(text)
    path.chmod(0o600)
    return subprocess.run(["wg-quick", "strip", path], capture_output=True, text=True, check=True).stdout


def secrets_of(engine: Engine) -> list[str]:
    tunnel = engine.specs().tunnel("home")
    keys = [tunnel.private_key, *(peer.preshared_key for peer in tunnel.peers)]
    return [key.reveal() for key in keys if key]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_wg_quick_takes_what_is_written_of_every_case(
    call: Call, engine: Engine, file: Path, tmp_path: Path
) -> None:
    call("tunnel.import", name="home", text=file.read_text(encoding="utf-8-sig"), ignore_hooks=True)
    whole = call("tunnel.config", name="home", show_secrets=True)["config"]
    left = parse(stripped(whole, tmp_path))
    ours = parse(whole)
    assert left.peers == ours.peers
    assert (left.interface.private_key, left.interface.fwmark) == (
        ours.interface.private_key,
        ours.interface.fwmark,
    )
    masked = call("tunnel.config", name="home")["config"]
    assert stripped(masked, tmp_path).count("[Peer]") == len(ours.peers)
    for peer in engine.specs().tunnel("home").peers:
        stripped(call("peer.config", tunnel="home", name=peer.name)["config"], tmp_path)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_keys_are_in_it_only_where_they_are_asked_for(
    call: Call, engine: Engine, file: Path, format_: str
) -> None:
    call("tunnel.import", name="home", text=file.read_text(encoding="utf-8-sig"), ignore_hooks=True)
    hidden = call("tunnel.config", name="home", format=format_)
    shown = call("tunnel.config", name="home", format=format_, show_secrets=True)
    for secret in secrets_of(engine):
        assert secret not in json.dumps(hidden)
        assert secret in shown["config"]
        assert any(secret in text for text in shown["files"].values())


def test_json_has_every_field_of_the_file(call: Call) -> None:
    added = call("tunnel.create", name="home", port=4500, addresses=["10.1.0.1/24"], mtu=1380)
    call("peer.add", tunnel="home", name="phone", keepalive=25, endpoint="[2001:db8::1]:9")
    said = json.loads(call("tunnel.config", name="home", format="json", show_secrets=True)["config"])
    assert said["interface"] == {
        "private_key": said["interface"]["private_key"],
        "addresses": ["10.1.0.1/24"],
        "listen_port": 4500,
        "fwmark": 0,
        "mtu": 1380,
        "table": "auto",
        "dns": [],
        "search": [],
    }
    (peer,) = said["peers"]
    assert peer.keys() == {
        *("name", "public_key", "preshared_key", "allowed_ips", "endpoint", "keepalive"),
    }
    assert (peer["name"], peer["endpoint"], peer["keepalive"]) == ("phone", "[2001:db8::1]:9", 25)
    assert added["public_key"] == call("tunnel.show", name="home")["public_key"]


def test_networkd_and_networkmanager_get_their_files(call: Call) -> None:
    call("tunnel.create", name="home")
    call("peer.add", tunnel="home", name="phone")
    for command, request in (
        ("tunnel.config", {"name": "home", "show_secrets": True}),
        ("peer.config", {"tunnel": "home", "name": "phone"}),
    ):
        units = call(command, **request, format="networkd")
        assert set(units["files"]) == {"wg-home.netdev", "wg-home.network"}
        assert all(f"# file {name}" in units["config"] for name in units["files"])
        assert any("systemd-network" in note for note in units["notes"])
        (connection,) = call(command, **request, format="networkmanager")["files"].items()
        reader = RawConfigParser(strict=True)
        reader.read_string(connection[1])
        assert (connection[0], reader["connection"]["type"]) == ("wg-home.nmconnection", "wireguard")


def test_what_is_missing_is_said_in_the_file_too(call: Call, tmp_path: Path) -> None:
    call("tunnel.create", name="home")
    call("peer.add", tunnel="home", name="laptop", public_key="xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=")
    answer = call("peer.config", tunnel="home", name="laptop")
    head = answer["config"].split("[Interface]")[0]
    assert "private key of 'laptop' is not held here" in head
    assert "PrivateKey" not in answer["config"].split("[Interface]")[1]
    assert '"private_key": null' in call("peer.config", tunnel="home", name="laptop", format="json")["config"]


def test_a_format_that_is_none(call: Call) -> None:
    call("tunnel.create", name="home")
    with pytest.raises(InvalidInput, match="no format 'toml'"):
        call("tunnel.config", name="home", format="toml")
