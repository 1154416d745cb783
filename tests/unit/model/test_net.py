"""Networks have one text each, however they are written, and a wrong one is answered with the right one."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.net import (
    covers,
    host_prefix,
    network_of,
    overlaps,
    parse_address,
    parse_endpoint,
    parse_interface_address,
    parse_mtu,
    parse_port,
    parse_prefix,
)

V4_PREFIXES = st.builds(
    lambda number, length: str(ipaddress.ip_network((number, length), strict=False)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)
V6_PREFIXES = st.builds(
    lambda number, length: str(ipaddress.ip_network((number, length), strict=False)),
    st.integers(2**64, 2**128 - 1),  # above ::/64 lie no IPv4-mapped addresses
    st.integers(60, 128),
)
PREFIXES = V4_PREFIXES | V6_PREFIXES
LABELS = st.from_regex(r"[a-z][a-z0-9]{0,10}", fullmatch=True).filter(str.isascii)
HOSTS = (
    st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(str)
    | st.lists(LABELS, min_size=1, max_size=4).map(".".join)
)


@given(PREFIXES)
def test_a_canonical_prefix_stays_as_it_is(prefix: str) -> None:
    assert parse_prefix(prefix) == prefix


@given(PREFIXES)
def test_every_way_to_write_a_prefix_has_one_text(prefix: str) -> None:
    network = ipaddress.ip_network(prefix)
    assert parse_prefix(f" {network.exploded.upper()} ") == prefix


@given(st.text(max_size=40) | PREFIXES.map(lambda text: text[:-1]) | PREFIXES.map(lambda text: f"{text}9"))
def test_any_text_is_a_canonical_prefix_or_one_clear_line(text: str) -> None:
    try:
        parsed = parse_prefix(text)
    except InvalidInput as refused:
        assert refused.hint
    else:
        assert str(ipaddress.ip_network(parsed)) == parsed


def test_host_bits_are_refused_with_the_network_that_was_meant() -> None:
    with pytest.raises(InvalidInput, match="host bits") as refused:
        parse_prefix("10.1.2.3/24")
    assert refused.value.hint == "did you mean 10.1.2.0/24?"


@pytest.mark.parametrize(
    "text", ["10.0.0.0/33", "10.0.0/24", "fd00::/129", "::ffff:10.0.0.0/104", "", "all", "1/2/3"]
)
def test_a_bad_prefix_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_prefix(text)


@given(HOSTS, st.integers(1, 65535))
def test_an_endpoint_survives_its_own_text(host: str, port: int) -> None:
    text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    endpoint = parse_endpoint(text)
    assert parse_endpoint(str(endpoint)) == endpoint
    assert endpoint.port == port


@given(st.text(max_size=60))
def test_any_text_is_an_endpoint_or_one_clear_line(text: str) -> None:
    try:
        endpoint = parse_endpoint(text, default_port=51820)
    except InvalidInput as refused:
        assert refused.hint
    else:
        assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("text", "host", "port", "is_name"),
    [
        ("vpn.example.org", "vpn.example.org", 51820, True),
        ("192.0.2.1:5000", "192.0.2.1", 5000, False),
        ("[2001:DB8::0:1]:5000", "2001:db8::1", 5000, False),
        ("2001:db8::1", "2001:db8::1", 51820, False),
        ("[2001:db8::1]", "2001:db8::1", 51820, False),
        ("fe80::1%eth0", "fe80::1%eth0", 51820, False),
    ],
)
def test_endpoints_are_understood(text: str, host: str, port: int, is_name: bool) -> None:
    endpoint = parse_endpoint(text, default_port=51820)
    assert (endpoint.host, endpoint.port, endpoint.is_name) == (host, port, is_name)


@pytest.mark.parametrize(
    "text",
    [
        "example.org",
        "example.org:0",
        "example.org:65536",
        "a b:1",
        "$(id):1",
        "[fd00::1:1",
        "[fd00::1]1",
        "1.2.3:4",
        ":1",
        "-x:1",
        "1.2.3.4:",
        "host:9,9",
    ],
)
def test_a_bad_endpoint_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_endpoint(text)


@pytest.mark.parametrize("port", [0, 65536, -1, "x", "", "1e3", "51820 x"])
def test_a_bad_port_is_refused(port: str | int) -> None:
    with pytest.raises(InvalidInput, match="UDP port"):
        parse_port(port)


def test_ports_and_mtus_at_their_limits_are_taken() -> None:
    assert [parse_port(1), parse_port("65535")] == [1, 65535]
    assert [parse_mtu(576), parse_mtu(65535)] == [576, 65535]
    for mtu in (575, 65536, -1):
        with pytest.raises(InvalidInput, match="out of range"):
            parse_mtu(mtu)


@pytest.mark.parametrize(
    "text", ["127.0.0.1/8", "0.0.0.0/0", "224.0.0.1/4", "::1/128", "ff02::1/16", "::/0", "x"]
)
def test_addresses_no_interface_can_have_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_interface_address(text)


def test_an_interface_address_keeps_its_host_bits() -> None:
    assert parse_interface_address("10.13.13.1/24") == "10.13.13.1/24"
    assert parse_interface_address("FD00:0::1/64") == "fd00::1/64"
    assert parse_address(" FD00:0::1 ") == "fd00::1"


@given(PREFIXES, PREFIXES)
def test_overlap_is_what_ipaddress_says_and_the_same_both_ways(a: str, b: str) -> None:
    first, second = ipaddress.ip_network(a), ipaddress.ip_network(b)
    shared = first.version == second.version and first.overlaps(second)
    one_default = a != b and 0 in (first.prefixlen, second.prefixlen)
    assert (overlaps(a, [b]) == b) == (shared and not one_default)
    assert bool(overlaps(a, [b])) == bool(overlaps(b, [a]))


def test_the_first_overlapping_prefix_is_named() -> None:
    assert overlaps("10.1.0.0/16", ["10.2.0.0/16", "10.0.0.0/8"]) == "10.0.0.0/8"
    assert overlaps("0.0.0.0/0", ["10.0.0.0/8"]) is None
    assert overlaps("0.0.0.0/0", ["0.0.0.0/0"]) == "0.0.0.0/0"


@given(PREFIXES)
def test_a_prefix_covers_itself_and_its_addresses(prefix: str) -> None:
    address = str(ipaddress.ip_network(prefix).network_address)
    assert covers(prefix, prefix)
    assert covers(prefix, host_prefix(address))
    assert not covers(host_prefix(address), "0.0.0.0/0" if ":" not in address else "::/0")


def test_addresses_and_their_networks() -> None:
    assert network_of("10.13.13.1/24") == "10.13.13.0/24"
    assert host_prefix("10.13.13.2/24") == "10.13.13.2/32"
    assert host_prefix("fd00::2") == "fd00::2/128"
    assert not covers("10.0.0.0/8", "fd00::/8")


def test_an_mtu_below_ipv6s_least_is_refused_where_there_are_ipv6_addresses() -> None:
    assert parse_mtu(1279, ["10.0.0.1/24"]) == 1279
    assert parse_mtu(1280, ["fd00::1/64"]) == 1280
    with pytest.raises(InvalidInput, match="mtu 1279 is too small"):
        parse_mtu(1279, ["10.0.0.1/24", "fd00::1/64"])
