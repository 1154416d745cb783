"""Addresses are the lowest free ones, never one in use, and a large pool costs nothing."""

import ipaddress
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_wireguard.errors import ConflictError
from resource_wireguard.host.ipam import allocate_address, allocate_prefix, ula_prefix


def fill(pool: str, count: int) -> list[str]:
    taken: list[str] = []
    for _ in range(count):
        taken.append(allocate_address(pool, taken))
    return taken


def test_a_pool_is_given_out_from_its_first_address_to_its_last() -> None:
    assert fill("10.0.0.0/29", 6) == [f"10.0.0.{n}/29" for n in range(1, 7)]
    assert fill("10.0.0.0/31", 2) == ["10.0.0.0/31", "10.0.0.1/31"]
    assert fill("fd00::/126", 3) == ["fd00::1/126", "fd00::2/126", "fd00::3/126"]


@pytest.mark.parametrize(("pool", "size"), [("10.0.0.0/30", 2), ("10.0.0.0/32", 1), ("fd00::/126", 3)])
def test_a_full_pool_says_so_and_what_to_do(pool: str, size: int) -> None:
    taken = fill(pool, size)
    with pytest.raises(ConflictError, match="no free address") as refused:
        allocate_address(pool, taken)
    assert "--network" in refused.value.hint


def test_the_hole_a_removed_peer_left_is_filled_first() -> None:
    taken = fill("10.0.0.0/24", 5)
    taken.remove("10.0.0.3/24")
    assert allocate_address("10.0.0.0/24", taken) == "10.0.0.3/24"


@given(st.sets(st.integers(1, 254), max_size=253))
def test_an_address_in_use_is_never_given_out(used: set[int]) -> None:
    taken = [f"10.0.0.{n}/32" for n in used]
    free = ipaddress.ip_interface(allocate_address("10.0.0.0/24", [*taken, "fd00::1/64"]))
    assert str(free.ip) not in {text.partition("/")[0] for text in taken}
    assert free.ip in ipaddress.ip_network("10.0.0.0/24")


def test_the_largest_pool_costs_no_more_than_the_smallest() -> None:
    begun = time.perf_counter()
    assert allocate_address("fd00::/8", ["fd00::1/128"]) == "fd00::2/8"
    assert allocate_address("10.0.0.0/8", []) == "10.0.0.1/8"
    assert allocate_prefix("10.0.0.0/8", []) == "10.0.0.0/8"
    assert time.perf_counter() - begun < 0.1


@given(
    st.lists(st.builds("10.{}.{}.0/{}".format, st.integers(0, 255), st.integers(0, 255), st.integers(8, 32)))
)
def test_a_new_prefix_overlaps_nothing_and_stays_in_its_block(used: list[str]) -> None:
    try:
        prefix = ipaddress.ip_network(allocate_prefix("10.13.13.0/24", used))
    except ConflictError:
        return
    assert prefix.prefixlen == 24
    assert prefix.subnet_of(ipaddress.ip_network("10.0.0.0/8"))
    assert not any(prefix.overlaps(ipaddress.ip_network(other, strict=False)) for other in used)


def test_the_next_prefix_follows_and_default_routes_take_nothing() -> None:
    assert allocate_prefix("10.13.13.0/24", ["0.0.0.0/0", "fd00::/8"]) == "10.13.13.0/24"
    assert allocate_prefix("10.13.13.0/24", ["10.13.13.128/25"]) == "10.13.14.0/24"
    assert allocate_prefix("10.13.13.0/24", ["10.13.12.0/22"]) == "10.13.16.0/24"
    with pytest.raises(ConflictError, match="no free network"):
        allocate_prefix("192.168.255.0/24", ["192.168.255.0/24"])


def test_a_site_has_its_own_ula_prefix_and_each_tunnel_a_subnet_of_it() -> None:
    first, second = ula_prefix(b"\x01\x02\x03\x04\x05", 1), ula_prefix(b"\x01\x02\x03\x04\x05", 2)
    assert (first, second) == ("fd01:203:405:1::/64", "fd01:203:405:2::/64")
