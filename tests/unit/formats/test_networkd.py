"""Units for systemd-networkd say what the config says, in the words of systemd.netdev(5)."""

from pathlib import Path

import pytest
from tests.unit.formats.configs import OTHER, PRESHARED, PRIVATE, PUBLIC, SMALL

from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.formats.config import masked
from resource_wireguard.model.formats.networkd import render
from resource_wireguard.model.formats.wgquick import parse

FULL = f"""[Interface]
PrivateKey = {PRIVATE}
Address = 10.2.0.2/24, fd00::2/64
DNS = 1.1.1.1, fd00::1, corp.example.org
ListenPort = 51820
MTU = 1380
PostUp = reboot
# phone
[Peer]
PublicKey = {PUBLIC}
PresharedKey = {PRESHARED}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = vpn.example.org:51820
PersistentKeepalive = 25
[Peer]
PublicKey = {OTHER}
AllowedIPs = 10.7.0.0/16
"""

NETDEV = f"""[NetDev]
Name=wg0
Kind=wireguard
MTUBytes=1380

[WireGuard]
PrivateKey={PRIVATE}
ListenPort=51820
FirewallMark=51820
RouteTable=main

[WireGuardPeer]
# Name = phone
PublicKey={PUBLIC}
PresharedKey={PRESHARED}
AllowedIPs=0.0.0.0/0, ::/0
Endpoint=vpn.example.org:51820
PersistentKeepalive=25
RouteTable=51820

[WireGuardPeer]
PublicKey={OTHER}
AllowedIPs=10.7.0.0/16
"""

NETWORK = """[Match]
Name=wg0

[Network]
Address=10.2.0.2/24
Address=fd00::2/64
DNS=1.1.1.1
DNS=fd00::1
Domains=corp.example.org ~.

[RoutingPolicyRule]
Family=both
Table=main
SuppressPrefixLength=0
Priority=32764

[RoutingPolicyRule]
Family=both
FirewallMark=51820
InvertRule=yes
Table=51820
Priority=32765
"""


def test_a_tunnel_for_all_traffic() -> None:
    assert render(parse(FULL), "wg0") == {"wg0.netdev": NETDEV, "wg0.network": NETWORK}


def test_a_tunnel_for_some_traffic_needs_no_rules() -> None:
    files = render(parse(SMALL), "wg0")
    assert "RoutingPolicyRule" not in files["wg0.network"]
    assert "FirewallMark" not in files["wg0.netdev"]
    assert "RouteTable=main\n" in files["wg0.netdev"]


@pytest.mark.parametrize(("table", "written"), [("off", "off"), ("1234", "1234"), ("local", "local")])
def test_a_table_of_ones_own_needs_no_rules(table: str, written: str) -> None:
    text = FULL.replace("MTU = 1380", f"Table = {table}\nFwMark = 7")
    files = render(parse(text), "wg0")
    assert files["wg0.netdev"].count("RouteTable=") == 1
    assert f"FirewallMark=7\nRouteTable={written}\n" in files["wg0.netdev"]
    assert "RoutingPolicyRule" not in files["wg0.network"]


def test_the_mark_of_the_config_is_the_mark_of_the_rules() -> None:
    files = render(parse(FULL.replace("MTU = 1380", "FwMark = 0x10").replace(", ::/0", "")), "wg0")
    assert "Family=ipv4\nFirewallMark=16\nInvertRule=yes\nTable=16\n" in files["wg0.network"]
    assert "RouteTable=16\n" in files["wg0.netdev"]


def test_masked_keys_stay_masked() -> None:
    text = render(masked(parse(FULL)), "wg0")["wg0.netdev"]
    assert PRIVATE not in text
    assert PRESHARED not in text
    assert "PrivateKey=(hidden)\n" in text


@pytest.mark.parametrize("name", ["", "../wg0", "a" * 16, "wg 0"])
def test_a_name_that_is_no_interface_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="interface name"):
        render(parse(SMALL), name)


@pytest.mark.parametrize("name", ["wg0", "wg-office.1"])
def test_file_names_are_file_names(name: str) -> None:
    assert [Path(file).stem for file in render(parse(SMALL), name)] == [name, name]
