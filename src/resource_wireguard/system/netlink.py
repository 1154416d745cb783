"""Links and their addresses over rtnetlink (rtnetlink(7), include/uapi/linux/if_link.h, if_addr.h)."""

import errno
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from resource_wireguard.host.facts import LinkFacts
from resource_wireguard.host.ownership import LINK_GROUP, PROTOCOL, tunnel_of
from resource_wireguard.host.state import Address
from resource_wireguard.system.messages import (
    F_CREATE,
    F_EXCL,
    F_REPLACE,
    KernelRefused,
    NetlinkSocket,
    attribute,
    attributes,
    ip_bytes,
    ip_text,
    nested,
    number,
    text,
    u32,
    word,
)

NETLINK_ROUTE = 0

_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_GETSTATS = 94

_IFNAME, _MTU, _LINKINFO, _IFALIAS, _GROUP, _NET_NS_FD, _EXT_MASK = 3, 4, 18, 20, 27, 28, 29
_INFO_KIND = 1
_SKIP_STATISTICS = 8
_IFF_UP = 1

_ADDRESS, _LOCAL, _ADDRESS_FLAGS, _ADDRESS_PROTOCOL = 1, 2, 8, 11
_NO_PREFIX_ROUTE = 0x200
_SCOPE_LINK = 253
_NO_DAD = 2
"""IFA_F_NODAD: an address on a bridge answers at once, not after a second of asking who else has it."""

_ifinfomsg = struct.Struct("=BxHiII")
_ifaddrmsg = struct.Struct("=BBBBI")

_STATS_LINK_64 = 1
_if_stats_msg = struct.Struct("=BxHII")
_error_counters = struct.Struct("=32x4Q")
"""struct rtnl_link_stats64: packets and bytes both ways first, then errors and drops both ways."""

FAMILY_OF_VERSION = {4: 2, 6: 10}
"""AF_INET and AF_INET6, as Linux numbers them."""


@dataclass(frozen=True, slots=True)
class SeenLink:
    """A link of this namespace, whoever made it; mtu in bytes, kind '' for hardware."""

    index: int
    name: str
    kind: str
    mtu: int
    up: bool
    group: int
    alias: str | None

    @property
    def tunnel(self) -> str | None:
        """The tunnel it is marked with; '' where its making was cut off, None where it is not ours.

        A link is born with our group and gets its alias, which names the tunnel, in a second message.
        """
        if self.alias is None and self.group == LINK_GROUP:
            return ""
        return tunnel_of(self.alias)


def links(kernel: NetlinkSocket) -> list[SeenLink]:
    """All links of the namespace."""
    request = _ifinfomsg.pack(0, 0, 0, 0, 0) + u32(_EXT_MASK, _SKIP_STATISTICS)
    return [_link(body) for body in kernel.dump(_GETLINK, request)]


def link(kernel: NetlinkSocket, name: str) -> SeenLink | None:
    """The link of that name, if there is one."""
    request = _ifinfomsg.pack(0, 0, 0, 0, 0) + text(_IFNAME, name) + u32(_EXT_MASK, _SKIP_STATISTICS)
    try:
        return _link(kernel.ask(_GETLINK, request))
    except KernelRefused as refusal:
        if refusal.number == errno.ENODEV:
            return None
        raise


def link_at(kernel: NetlinkSocket, index: int) -> SeenLink:
    """The link of that index; KernelRefused where there is none."""
    request = _ifinfomsg.pack(0, 0, index, 0, 0) + u32(_EXT_MASK, _SKIP_STATISTICS)
    return _link(kernel.ask(_GETLINK, request))


def counters(kernel: NetlinkSocket, index: int) -> LinkFacts:
    """What a link could not carry; asked for one link, as a dump would count for all of a host's."""
    request = _if_stats_msg.pack(0, 0, index, 1 << (_STATS_LINK_64 - 1))
    found = attributes(kernel.ask(_GETSTATS, request), _if_stats_msg.size)
    return LinkFacts(*_error_counters.unpack_from(found[_STATS_LINK_64]))


def create_wireguard(kernel: NetlinkSocket, name: str) -> None:
    """Make a WireGuard link of the kernel's, marked by its group; EEXIST where the name is taken."""
    parts = [text(_IFNAME, name), u32(_GROUP, LINK_GROUP), nested(_LINKINFO, [text(_INFO_KIND, "wireguard")])]
    kernel.change(_NEWLINK, _ifinfomsg.pack(0, 0, 0, 0, 0) + b"".join(parts), F_CREATE | F_EXCL)


def set_link(kernel: NetlinkSocket, name: str, *, alias: str, mtu: int, up: bool) -> None:
    """Mark a link, size it and switch it, in one message."""
    head = _ifinfomsg.pack(0, 0, 0, _IFF_UP if up else 0, _IFF_UP)
    # An alias has no NUL: the kernel counts it as a character of the name.
    parts = [text(_IFNAME, name), attribute(_IFALIAS, alias.encode()), u32(_MTU, mtu), u32(_GROUP, 0)]
    kernel.change(_SETLINK, head + b"".join(parts))


def set_alias(kernel: NetlinkSocket, index: int, alias: str) -> None:
    """Mark the link of that index, and touch nothing else of it."""
    kernel.change(_SETLINK, _ifinfomsg.pack(0, 0, index, 0, 0) + attribute(_IFALIAS, alias.encode()))


def set_up(kernel: NetlinkSocket, index: int) -> None:
    """Switch the link of that index on."""
    kernel.change(_SETLINK, _ifinfomsg.pack(0, 0, index, _IFF_UP, _IFF_UP))


def move_link(kernel: NetlinkSocket, name: str, namespace: int) -> None:
    """Bring a link into the network namespace of a descriptor; it is down then, and bare of addresses."""
    kernel.change(_SETLINK, _ifinfomsg.pack(0, 0, 0, 0, 0) + text(_IFNAME, name) + u32(_NET_NS_FD, namespace))


def delete_link(kernel: NetlinkSocket, name: str) -> None:
    """Remove a link and all that lies on it; one that is gone already is fine."""
    try:
        kernel.change(_DELLINK, _ifinfomsg.pack(0, 0, 0, 0, 0) + text(_IFNAME, name))
    except KernelRefused as refusal:
        if refusal.number != errno.ENODEV:
            raise


def addresses(kernel: NetlinkSocket, names: Mapping[int, str]) -> Iterator[Address]:
    """The addresses on the links given by index, without the link-local ones the kernel made itself."""
    for body in kernel.dump(_GETADDR, _ifaddrmsg.pack(0, 0, 0, 0, 0)):
        _, length, _, scope, index = _ifaddrmsg.unpack_from(body)
        name = names.get(index)
        if name is None:
            continue
        found = attributes(body, _ifaddrmsg.size)
        packed = found.get(_LOCAL) or found[_ADDRESS]
        if _is_the_kernels_own(packed, scope, found.get(_ADDRESS_PROTOCOL)):
            continue
        bare = bool(number(found.get(_ADDRESS_FLAGS, b"")) & _NO_PREFIX_ROUTE)
        yield Address(name, f"{ip_text(packed)}/{length}", bare)


def add_address(kernel: NetlinkSocket, index: int, address: str, *, bare: bool = False) -> None:
    """Give a link an address, or mark the one it has as ours; bare brings no route to its network."""
    flags = u32(_ADDRESS_FLAGS, _NO_PREFIX_ROUTE) if bare else b""
    kernel.change(_NEWADDR, _address_message(index, address) + flags, F_CREATE | F_REPLACE)


def delete_address(kernel: NetlinkSocket, index: int, address: str) -> None:
    """Take an address from a link; one that is gone already is fine."""
    try:
        kernel.change(_DELADDR, _address_message(index, address))
    except KernelRefused as refusal:
        if refusal.number not in (errno.EADDRNOTAVAIL, errno.ENODEV):
            raise


def _link(body: bytes) -> SeenLink:
    _, _, index, flags, _ = _ifinfomsg.unpack_from(body)
    found = attributes(body, _ifinfomsg.size)
    kind = attributes(found.get(_LINKINFO, b"")).get(_INFO_KIND, b"")
    alias = found.get(_IFALIAS)
    return SeenLink(
        index=index,
        name=word(found[_IFNAME]),
        kind=word(kind),
        mtu=number(found[_MTU]),
        up=bool(flags & _IFF_UP),
        group=number(found.get(_GROUP, b"")),
        alias=None if alias is None else word(alias),
    )


def _is_the_kernels_own(packed: bytes, scope: int, protocol: bytes | None) -> bool:
    """Whether an address is the fe80:: one of RFC 4862; a link-local address of ours carries our protocol."""
    link_local = len(packed) == 16 and scope == _SCOPE_LINK
    return link_local and (protocol is None or number(protocol) != PROTOCOL)


def _address_message(index: int, address: str) -> bytes:
    host, _, length = address.partition("/")
    packed = ip_bytes(host)
    family = FAMILY_OF_VERSION[4 if len(packed) == 4 else 6]
    head = _ifaddrmsg.pack(family, int(length), _NO_DAD if len(packed) == 16 else 0, 0, index)
    mark = attribute(_ADDRESS_PROTOCOL, bytes([PROTOCOL]))
    return head + attribute(_LOCAL, packed) + attribute(_ADDRESS, packed) + mark
