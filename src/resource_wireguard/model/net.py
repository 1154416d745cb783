"""Networks as canonical text: the form in which engines, kernel and users meet.

Specs and host state hold prefixes as strings such as '10.13.13.2/32', checked and normalised once
here; comparing ten thousand of them is then comparing strings.
"""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from resource_wireguard.errors import InvalidInput

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

WIREGUARD_OVERHEAD = 80
"""Bytes: IPv6 header 40, UDP 8, WireGuard 32 (type, receiver, counter, tag)."""

MTU_MIN, MTU_MAX = 576, 65535
"""Bytes: RFC 791's smallest reassembly buffer, and the largest IPv4 packet."""

_HOSTNAME = re.compile(
    r"(?=.{1,253}\Z)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)(\.[A-Za-z0-9_-]{1,63})*\.?"
)


class Endpoint(msgspec.Struct, frozen=True):
    """Where a peer listens: an IP address or DNS name, and a UDP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_name(self) -> bool:
        """Whether the host has to be resolved."""
        return not is_address(self.host)


def parse_prefix(text: str, what: str = "prefix") -> str:
    """A network without host bits, canonical; InvalidInput names the right one otherwise."""
    try:
        interface = ipaddress.ip_interface(text.strip())
    except ValueError:
        raise InvalidInput(
            f"{what} '{text[:60]}' is not an IP prefix", "write it as 10.1.2.0/24 or fd00::/64"
        ) from None
    _refuse_mapped(interface, what)
    if interface.ip != interface.network.network_address:
        raise InvalidInput(f"{what} '{text}' has host bits set", f"did you mean {interface.network}?")
    return str(interface.network)


def parse_interface_address(text: str, what: str = "address") -> str:
    """An address with its prefix length ('10.13.13.1/24'), canonical."""
    try:
        interface = ipaddress.ip_interface(text.strip())
    except ValueError:
        raise InvalidInput(
            f"{what} '{text[:60]}' is not an IP address", "write it as 10.13.13.1/24"
        ) from None
    _refuse_mapped(interface, what)
    if interface.ip.is_multicast or interface.ip.is_unspecified or interface.ip.is_loopback:
        raise InvalidInput(
            f"{what} '{text}' cannot be given to an interface", "use a private unicast address"
        )
    return str(interface)


def parse_address(text: str, what: str = "address") -> str:
    """One IP address without a prefix length, canonical."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise InvalidInput(
            f"{what} '{text[:60]}' is not an IP address", "write it as 10.13.13.1 or fd00::1"
        ) from None


def parse_port(text: str | int, what: str = "port") -> int:
    """A UDP port from 1 to 65535."""
    try:
        port = int(text)
    except ValueError:
        port = 0
    if not 1 <= port <= 65535:
        raise InvalidInput(f"{what} {str(text)[:20]!r} is not a UDP port", "use a number from 1 to 65535")
    return port


MTU_MIN_IPV6 = 1280
"""Bytes: a link with less is given no IPv6 address by the kernel (RFC 8200, section 5)."""


def parse_mtu(value: int, addresses: Iterable[str] = (), what: str = "mtu") -> int:
    """Bytes a packet may have in a tunnel with these addresses."""
    if not MTU_MIN <= value <= MTU_MAX:
        raise InvalidInput(
            f"{what} {value} is out of range", f"use {MTU_MIN} to {MTU_MAX} bytes, or leave it to be found"
        )
    if value < MTU_MIN_IPV6 and any(map(is_v6, addresses)):
        raise InvalidInput(
            f"mtu {value} is too small for the tunnel's IPv6 addresses",
            f"use at least {MTU_MIN_IPV6}, or give the tunnel IPv4 addresses only",
        )
    return value


def parse_endpoint(text: str, default_port: int | None = None) -> Endpoint:
    """'host:port', '[v6]:port', or, where a default port is known, the host alone."""
    host, port = _split_endpoint(text.strip())
    if port is None and default_port is None:
        raise InvalidInput(f"endpoint '{text[:80]}' has no port", f"write it as {text[:60]}:51820")
    host = _canonical_host(host, text)
    return Endpoint(host, parse_port(port, "endpoint port") if port is not None else default_port or 0)


def overlaps(prefix: str, others: Iterable[str]) -> str | None:
    """The first of others that shares an address with prefix; default routes overlap only themselves.

    The longest prefix wins in WireGuard's allowed IPs, so a default route beside others is sound.
    """
    version, low, high = range_of(prefix)
    for other in others:
        if other == prefix:
            return other
        its_version, its_low, its_high = range_of(other)
        if its_version == version and low <= its_high and its_low <= high and not _is_default(prefix, other):
            return other
    return None


def covers(outer: str, inner: str) -> bool:
    """Whether every address of inner lies in outer; False across address families."""
    version, low, high = range_of(outer)
    its_version, its_low, its_high = range_of(inner)
    return its_version == version and low <= its_low and its_high <= high


@lru_cache(maxsize=1 << 17)
def range_of(prefix: str) -> tuple[int, int, int]:
    """IP version, first and last address as numbers; host bits are dropped.

    Remembered, because the same ten thousand prefixes are compared in every pass.
    """
    address, _, length = prefix.partition("/")
    ip = ipaddress.ip_address(address)
    size = 1 << (ip.max_prefixlen - int(length or ip.max_prefixlen))
    low = int(ip) & -size
    return ip.version, low, low + size - 1


def _is_default(prefix: str, other: str) -> bool:
    return prefix.endswith("/0") or other.endswith("/0")


def host_prefix(address: str) -> str:
    """'10.13.13.2/24' or '10.13.13.2' → '10.13.13.2/32'."""
    ip = ipaddress.ip_interface(address).ip
    return f"{ip}/{ip.max_prefixlen}"


def network_of(address: str) -> str:
    """'10.13.13.1/24' → '10.13.13.0/24'."""
    return str(ipaddress.ip_interface(address).network)


def is_v6(text: str) -> bool:
    """Whether an address or prefix is IPv6."""
    return ":" in text


def _split_endpoint(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidInput(
                f"endpoint '{text[:80]}' is not understood", "write IPv6 endpoints as [fd00::1]:51820"
            )
        return host, rest[1:] if rest else None
    if text.count(":") > 1:
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _canonical_host(host: str, text: str) -> str:
    if is_address(host):
        return host if "%" in host else str(ipaddress.ip_address(host))
    numeric = host.replace(".", "").isdigit()
    if numeric or not _HOSTNAME.fullmatch(host):
        raise InvalidInput(f"endpoint '{text[:80]}' has no valid host", "use an IP address or a DNS name")
    return host


def is_address(host: str) -> bool:
    """Whether a host needs no resolving."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _refuse_mapped(interface: Interface, what: str) -> None:
    if isinstance(interface, ipaddress.IPv6Interface) and interface.ip.ipv4_mapped:
        raise InvalidInput(
            f"{what} '{interface}' is an IPv4-mapped address", f"write {interface.ip.ipv4_mapped}"
        )
