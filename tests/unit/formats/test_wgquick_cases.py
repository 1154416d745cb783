"""What people really have: the examples of wg-quick(8) and wg(8), and what other managers export.

The files are written after each project's documentation and templates; their keys were made for these tests.
"""

import pytest
from tests.unit.formats.configs import CASES, OTHER, PRIVATE, PUBLIC, SMALL, key_text

from resource_wireguard.model.formats.config import PeerSection, WgQuickConfig
from resource_wireguard.model.formats.wgquick import parse, render
from resource_wireguard.model.net import Endpoint


def case(name: str) -> WgQuickConfig:
    return parse((CASES / f"{name}.conf").read_bytes())


NAMES = {
    "algo": ["phone", "laptop"],
    "by-hand": ["phone", "the neighbour"],
    "install-script": ["phone", "laptop", "tablet"],
    "linuxserver-peer": [""],
    "man-client": [""],
    "man-kill-switch": [""],
    "man-policy-routing": [""],
    "man-server": ["", "", ""],
    "man-wg": ["", "", ""],
    "mullvad": [""],
    "netmaker": [""],
    "opnsense": ["branch office", "roadwarrior"],
    "pivpn": ["phone", "laptop"],
    "proton": ["CH#42"],
    "wg-easy-host": ["alice phone", "laptop"],
    "wg-easy-phone": [""],
    "wg-portal": ["Alice's phone", "printer"],
    "wgdashboard": ["", ""],
}


def test_every_file_has_its_expectation() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in CASES.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_peers_get_the_names_that_comments_give_them(name: str) -> None:
    assert [peer.name for peer in case(name).peers] == NAMES[name]


@pytest.mark.parametrize("name", NAMES)
def test_what_was_read_can_be_written_and_read_again(name: str) -> None:
    config = case(name)
    again = parse(render(config))
    assert (again.interface, again.peers) == (config.interface, config.peers)
    assert [(hook.key, hook.command) for hook in again.hooks] == [
        (hook.key, hook.command) for hook in config.hooks
    ]


def test_a_host_of_the_man_page() -> None:
    config = case("man-server")
    assert config.interface.addresses == ("10.192.122.1/24", "10.10.0.1/16")
    assert config.interface.save_config
    assert config.interface.listen_port == 51820
    assert config.peers[0].allowed_ips == (
        "10.192.122.3/32",
        "10.192.124.0/24",
    )  # host bits, as wg drops them


def test_endpoints_of_the_man_page() -> None:
    assert [peer.endpoint for peer in case("man-wg").peers] == [
        Endpoint("192.95.5.67", 1234),
        Endpoint("2607:5300:60:6b0::c05f:543", 2468),
        Endpoint("test.example.com", 18981),
    ]


def test_hooks_of_the_man_page_stay_text() -> None:
    first, second = case("man-kill-switch").hooks
    assert (first.key, first.line, second.key, second.line) == ("PostUp", 4, "PreDown", 5)
    assert first.command.startswith("iptables -I OUTPUT ! -o %i -m mark ! --mark $(wg show %i fwmark)")


def test_policy_routing_of_the_man_page() -> None:
    assert case("man-policy-routing").interface.table == "1234"


def test_empty_hooks_are_none() -> None:
    assert [hook.key for hook in case("wg-easy-host").hooks] == ["PostUp", "PostDown"]
    assert case("wgdashboard").hooks == ()


def test_all_of_a_file_that_takes_liberties() -> None:
    """BOM, CRLF, any case, blanks, trailing comments and commas, '+' and '-', a bare IPv6 host."""
    interface, peers = case("by-hand").interface, case("by-hand").peers
    assert interface.addresses == ("10.1.0.1/24", "fd01::1/64", "10.2.0.1/32")
    assert (interface.dns, interface.search) == (
        ("10.1.0.53", "fd01::53"),
        ("corp.example.org", "~lab.example.org"),
    )
    assert (interface.mtu, interface.fwmark, interface.table, interface.listen_port) == (
        1380,
        51820,
        "off",
        4500,
    )
    assert (peers[0].allowed_ips, peers[0].keepalive) == (("10.1.0.2/32", "fd01::2/128", "10.1.7.0/24"), 0)
    assert (peers[1].allowed_ips, peers[1].endpoint) == ((), Endpoint("2001:db8::7", 51820))


def peer(*lines: str) -> PeerSection:
    return parse("\n".join(["[Interface]", f"PrivateKey = {PRIVATE}", "", *lines])).peers[-1]


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (["# phone", "[Peer]", "KEY"], "phone"),
        (["# Name = phone of Bob, 2nd floor: left", "[Peer]", "KEY"], "phone of Bob, 2nd floor: left"),
        (["###########", "# phone", "###########", "[Peer]", "KEY"], "phone"),
        (["[Peer] # phone", "KEY"], "phone"),
        (["[Peer]", "KEY # phone"], "phone"),
        (["[Peer]", "AllowedIPs = 10.0.0.2", "# Name: phone", "KEY"], "phone"),
        (["# laptop", "[Peer]", "# Name = phone", "KEY"], "phone"),
        (["# phone", "", "[Peer]", "KEY"], ""),
        (["# do not touch this one please", "[Peer]", "KEY"], ""),
        (["# Name = old", "#[Peer]", "#PublicKey = x", "[Peer]", "KEY"], ""),
        (["[Peer]", f"# PresharedKey = {OTHER}", "KEY"], ""),
        (["[Peer]", f"# Name = {OTHER}", "KEY"], ""),
        (["[Peer]", f"# {OTHER.strip('=')}", "KEY"], ""),
        (["[Peer]", "# Name = \x07bell", "KEY"], ""),
        (["[Peer]", f"# Name = {64 * 'x'}", "KEY"], ""),
        (["[Peer]", "KEY", "AllowedIPs = 10.0.0.2 # home, 24"], ""),
    ],
)
def test_which_comment_is_a_name(lines: list[str], name: str) -> None:
    assert peer(*(line.replace("KEY", f"PublicKey = {PUBLIC}") for line in lines)).name == name


def test_a_comment_under_a_peer_names_the_next_one() -> None:
    text = f"{SMALL}# laptop\n[Peer]\nPublicKey = {OTHER}\n"
    assert [peer.name for peer in parse(text).peers] == ["", "laptop"]


def test_a_preshared_key_of_zeros_is_none() -> None:
    assert peer("[Peer]", f"PublicKey = {PUBLIC}", f"PresharedKey = {key_text(0)}").preshared_key is None


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("FwMark = off", "fwmark", 0),
        ("FwMark = 0", "fwmark", 0),
        ("FwMark = 0xffffffff", "fwmark", 2**32 - 1),
        ("ListenPort = 0", "listen_port", None),
        ("MTU =", "mtu", None),
        ("Table =", "table", "auto"),
        ("Table = AUTO", "table", "auto"),
        ("Table = 0x10", "table", "16"),
        ("Table = main", "table", "main"),
        ("DNS =", "dns", ()),
        ("Address = 10.0.0.1/255.255.255.0", "addresses", ("10.0.0.1/24",)),
        ("SaveConfig = TRUE", "save_config", True),
        ("Listen Port = 7", "listen_port", 7),  # wg(8) drops every blank before it looks
    ],
)
def test_values_of_the_interface(line: str, field: str, value: object) -> None:
    interface = parse(f"[Interface]\nPrivateKey = {PRIVATE}\n{line}\n").interface
    assert getattr(interface, field) == value


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("AllowedIPs = 10.0.0.7/8,, ::1", "allowed_ips", ("10.0.0.0/8", "::1/128")),
        (
            "AllowedIPs = 10.0.0.1\nallowedips = 10.0.0.1/32, 10.0.0.2",
            "allowed_ips",
            ("10.0.0.1/32", "10.0.0.2/32"),
        ),
        ("AllowedIPs =", "allowed_ips", ()),
        ("Endpoint = [fe80::1%eth0]:9", "endpoint", Endpoint("fe80::1%eth0", 9)),
        ("Endpoint = VPN.example.org : 9", "endpoint", Endpoint("VPN.example.org", 9)),
        ("PersistentKeepalive = 65535", "keepalive", 65535),
    ],
)
def test_values_of_a_peer(line: str, field: str, value: object) -> None:
    assert getattr(peer("[Peer]", f"PublicKey = {PUBLIC}", line), field) == value


def test_an_ipv6_endpoint_is_written_in_brackets() -> None:
    """wg(8) would take it without, but phones and networkd do not."""
    assert "\nEndpoint = [2607:5300:60:6b0::c05f:543]:2468\n" in render(case("man-wg"))
