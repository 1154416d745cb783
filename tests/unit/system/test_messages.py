"""Netlink's attributes, and addresses as text."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_wireguard.system.messages import (
    KernelRefused,
    NetlinkSocket,
    attribute,
    ip_bytes,
    ip_text,
    walk,
    word,
)


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40))))
def test_attributes_are_read_back(pairs: list[tuple[int, bytes]]) -> None:
    packed = b"".join(attribute(kind, value) for kind, value in pairs)
    assert len(packed) % 4 == 0
    assert list(walk(packed)) == pairs


@given(st.binary(max_size=60))
def test_garbage_ends_the_walk(raw: bytes) -> None:
    list(walk(raw))


@given(st.ip_addresses())
def test_addresses_have_the_text_that_ipaddress_gives_them(address: ipaddress.IPv6Address) -> None:
    assert ip_text(address.packed) == str(address)
    assert ip_bytes(str(address)) == address.packed


@pytest.mark.parametrize("text", ["::", "::1", "::102:304", "64:ff9b::102:304", "1::", "10.0.0.1", "0.0.0.0"])
def test_odd_addresses_too(text: str) -> None:
    assert ip_text(ip_bytes(text)) == text


def test_a_word_ends_at_its_nul() -> None:
    assert word(b"wg0\0\0") == "wg0"


def test_the_kernel_says_no_with_its_errno() -> None:
    kernel = NetlinkSocket(socket.NETLINK_ROUTE)
    with pytest.raises(KernelRefused) as refusal:
        kernel.ask(18, bytes(16) + attribute(3, b"nosuchlink\0"))
    kernel.close()
    assert refusal.value.number == 19
    assert "No such device" in refusal.value.message
