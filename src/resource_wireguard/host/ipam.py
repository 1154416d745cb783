"""Choosing free addresses and prefixes: the lowest free one, without ever enumerating a pool."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from itertools import count

from resource_wireguard.errors import ConflictError
from resource_wireguard.model.net import Network, is_v6

PRIVATE_BLOCKS = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
"""RFC 1918, RFC 6598 and RFC 4193: where a next prefix may be taken from."""


def allocate_address(pool: str, taken: Iterable[str]) -> str:
    """The lowest host address of pool that is not taken, as 'address/prefixlen'; work grows with taken."""
    network = ipaddress.ip_network(pool)
    first, last = _host_range(network)
    v6 = network.version == 6
    used = {_number_of(text) for text in taken if is_v6(text) == v6}
    free = next(number for number in count(first) if number not in used)
    if free > last:
        raise ConflictError(
            f"network {pool} has no free address left",
            "remove peers, or make a tunnel with a larger --network",
        )
    return f"{network[free - int(network.network_address)]}/{network.prefixlen}"


def allocate_prefix(first: str, used: Iterable[str]) -> str:
    """first, or the next prefix of its size that shares no address with used, inside its private block."""
    network = ipaddress.ip_network(first)
    taken = sorted(
        (int(other.network_address), int(other.broadcast_address))
        for text in used
        if (other := ipaddress.ip_network(text, strict=False)).version == network.version
        and other.prefixlen > 0
    )
    size = network.num_addresses
    start = int(network.network_address)
    for low, high in taken:
        if low < start + size and high >= start:
            start = (high // size + 1) * size
    last = _block_end(network)
    if start + size - 1 > last:
        raise ConflictError(
            f"no free network of size /{network.prefixlen} after {first}", "name one with --network"
        )
    return f"{type(network.network_address)(start)}/{network.prefixlen}"


def ula_prefix(seed: bytes, number: int) -> str:
    """The /64 of a tunnel in the site's own fd00::/8 prefix (RFC 4193: 40 random bits, 16-bit subnet)."""
    base = (0xFD << 120) | (int.from_bytes(seed[:5], "big") << 80) | ((number & 0xFFFF) << 64)
    return f"{ipaddress.IPv6Address(base)}/64"


@lru_cache(maxsize=1 << 17)
def _number_of(address: str) -> int:
    """'10.13.13.2/24' as a number; remembered, because all of a tunnel's are asked for each new one."""
    return int(ipaddress.ip_address(address.partition("/")[0]))


def _host_range(network: Network) -> tuple[int, int]:
    """First and last number a host may have: without v4's network and broadcast, and v6's router anycast."""
    low, high = int(network.network_address), int(network.broadcast_address)
    if network.version == 4:
        return (low, high) if network.prefixlen >= 31 else (low + 1, high - 1)
    return (low, high) if network.prefixlen >= 127 else (low + 1, high)


def _block_end(network: Network) -> int:
    for block in PRIVATE_BLOCKS:
        if block.version == network.version and network.subnet_of(block):  # type: ignore[arg-type]
            return int(block.broadcast_address)
    return int(network.broadcast_address)
