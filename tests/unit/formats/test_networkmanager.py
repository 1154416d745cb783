"""Connections for NetworkManager say what the config says, in the words of nm-settings-keyfile(5)."""

from configparser import ConfigParser

import pytest
from hypothesis import given
from tests.unit.formats.configs import OTHER, PRESHARED, PRIVATE, PUBLIC, SMALL, configs, unhurried
from tests.unit.formats.test_networkd import FULL

from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.formats.config import WgQuickConfig, masked
from resource_wireguard.model.formats.networkmanager import render
from resource_wireguard.model.formats.wgquick import parse

CONNECTION = f"""[connection]
id=wg0
type=wireguard
interface-name=wg0

[wireguard]
private-key={PRIVATE}
listen-port=51820
mtu=1380

[wireguard-peer.{PUBLIC}]
# Name = phone
endpoint=vpn.example.org:51820
preshared-key={PRESHARED}
preshared-key-flags=0
persistent-keepalive=25
allowed-ips=0.0.0.0/0;::/0;

[wireguard-peer.{OTHER}]
allowed-ips=10.7.0.0/16;

[ipv4]
method=manual
address1=10.2.0.2/24
dns=1.1.1.1;
dns-search=corp.example.org;
dns-priority=-50

[ipv6]
method=manual
address1=fd00::2/64
dns=fd00::1;
dns-search=corp.example.org;
dns-priority=-50
"""


def sections(text: str) -> ConfigParser:
    """The file by somebody else's reader of INI files."""
    parser = ConfigParser(delimiters="=", interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


def keyfile(text: str) -> ConfigParser:
    return sections(render(parse(text), "wg0")["wg0.nmconnection"])


def test_a_whole_connection() -> None:
    assert render(parse(FULL), "wg0") == {"wg0.nmconnection": CONNECTION}


def test_a_family_without_address_is_off_and_has_no_dns() -> None:
    file = keyfile(FULL.replace(", fd00::2/64", ""))
    assert dict(file["ipv6"]) == {"method": "disabled"}
    assert file["ipv4"]["dns"] == "1.1.1.1;"


def test_servers_without_domains_answer_every_question() -> None:
    assert keyfile(SMALL.replace("/24\n", "/24\nDNS = 1.1.1.1\n"))["ipv4"]["dns-search"] == "~;"


def test_no_routes() -> None:
    file = keyfile(SMALL.replace("/24\n", "/24\nTable = off\n"))
    assert file["wireguard"]["peer-routes"] == "false"
    assert "route-table" not in file["ipv4"]


@pytest.mark.parametrize(("table", "number"), [("1234", "1234"), ("main", "254")])
def test_routes_in_a_table_of_ones_own(table: str, number: str) -> None:
    file = keyfile(FULL.replace("MTU = 1380", f"Table = {table}"))
    assert (file["ipv4"]["route-table"], file["ipv6"]["route-table"]) == (number, number)
    assert file["wireguard"]["ip4-auto-default-route"] == "0"


def test_a_table_that_only_this_host_can_name_is_refused() -> None:
    with pytest.raises(InvalidInput, match="table 'vpn' has a name") as caught:
        keyfile(SMALL.replace("/24\n", "/24\nTable = vpn\n"))
    assert "rt_tables" in caught.value.hint


def test_masked_keys_stay_masked() -> None:
    text = render(masked(parse(FULL)), "wg0")["wg0.nmconnection"]
    assert PRIVATE not in text
    assert PRESHARED not in text


@unhurried
@given(configs.filter(lambda config: config.interface.table != "vpn_2"))
def test_every_peer_and_address_is_in_it(config: WgQuickConfig) -> None:
    file = sections(render(config, "wg0")["wg0.nmconnection"])
    peers = [name for name in file.sections() if name.startswith("wireguard-peer.")]
    assert peers == [f"wireguard-peer.{peer.public_key}" for peer in config.peers]
    written = [
        value
        for family in ("ipv4", "ipv6")
        for key, value in file[family].items()
        if key.startswith("address")
    ]
    assert sorted(written) == sorted(config.interface.addresses)
