"""Routes, rules and paths over rtnetlink (rtnetlink(7), ip-route(8), ip-rule(8)).

Ours carry our protocol number, and every deletion names it, so that no other route or rule can match.
In IPv6 the metric 0 of a record means the kernel's default, 1024 (IP6_RT_PRIO_USER), in both directions.
"""

import errno
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from resource_wireguard.host.ownership import PROTOCOL, RULE_PRIORITY_FIRST, RULE_PRIORITY_LAST
from resource_wireguard.host.state import Route, Rule
from resource_wireguard.model.net import is_v6
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
    number,
    text,
    u32,
    word,
)
from resource_wireguard.system.netlink import FAMILY_OF_VERSION

_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_NEWRULE, _DELRULE, _GETRULE = 32, 33, 34

_DST, _OIF, _PRIORITY, _PREFSRC, _METRICS, _TABLE, _MARK = 1, 4, 6, 7, 8, 15, 16
_METRIC_MTU = 2
_GATEWAY, _MULTIPATH, _ENCAP = 5, 9, 22
_NOT_IN_A_ROUTE = {_GATEWAY, _PREFSRC, _METRICS, _MULTIPATH, _ENCAP}
_BOOT, _STATIC = 3, 4
_UNICAST, _LOCAL, _UNREACHABLE = 1, 2, 7
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_NOWHERE = 0, 253, 255
_TABLE_MAIN, _TABLE_LOCAL = 254, 255

_RULE_SRC, _RULE_IIFNAME, _RULE_PRIORITY, _RULE_FWMARK = 2, 3, 6, 10
_RULE_SUPPRESS, _RULE_TABLE, _RULE_PROTOCOL = 14, 15, 21
_RULE_INVERT = 2
_RULE_TO_TABLE = 1
_NO_SUPPRESSION = 0xFFFFFFFF

_DEFAULT_V6_METRIC = 1024

_rtmsg = struct.Struct("=BBBBBBBBI")
_rule_header = struct.Struct("=BBBBBxxBI")


@dataclass(frozen=True, slots=True)
class SeenPath:
    """The route to a destination: outgoing link, own address on it, and the path's MTU in bytes if known."""

    index: int
    source: str | None
    mtu: int | None


def routes(kernel: NetlinkSocket, names: Mapping[int, str], netns: str | None = None) -> Iterator[Route]:
    """All routes of our protocol, in all tables of a namespace; names gives the links by index."""
    for family in FAMILY_OF_VERSION.values():
        request = _rtmsg.pack(family, 0, 0, 0, 0, PROTOCOL, 0, 0, 0)
        for body in kernel.dump(_GETROUTE, request):
            its_family, length, _, _, table, protocol, _, kind, _ = _rtmsg.unpack_from(body)
            if its_family == family and protocol == PROTOCOL:
                yield _route(body, length, table, kind, names, netns)


def plain_routes(kernel: NetlinkSocket, index: int, name: str) -> Iterator[Route]:
    """The routes through one link that a person or wg-quick(8) made and that a Route says all about."""
    for family in FAMILY_OF_VERSION.values():
        for body in kernel.dump(_GETROUTE, _rtmsg.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
            its_family, length, _, _, table, protocol, _, kind, _ = _rtmsg.unpack_from(body)
            found = attributes(body, _rtmsg.size)
            by_hand = (its_family, kind) == (family, _UNICAST) and protocol in (_BOOT, _STATIC)
            if by_hand and number(found.get(_OIF, b"")) == index and not found.keys() & _NOT_IN_A_ROUTE:
                yield _route(body, length, table, kind, {index: name})


def used_prefixes(kernel: NetlinkSocket) -> Iterator[str]:
    """The destinations of all routes of all tables and protocols, except defaults, broadcast and the like."""
    for family in FAMILY_OF_VERSION.values():
        for body in kernel.dump(_GETROUTE, _rtmsg.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
            its_family, length, _, _, _, _, _, kind, _ = _rtmsg.unpack_from(body)
            if its_family == family and length and kind in (_UNICAST, _LOCAL, _UNREACHABLE):
                yield f"{ip_text(attributes(body, _rtmsg.size)[_DST])}/{length}"


def add_route(kernel: NetlinkSocket, route: Route, index: int | None, *, replace: bool = False) -> None:
    """Make a route through the link with that index; EEXIST where another has its prefix and metric."""
    unicast = _SCOPE_UNIVERSE if is_v6(route.prefix) or index is None else _SCOPE_LINK
    flags = F_CREATE | (F_REPLACE if replace else F_EXCL)
    kernel.change(_NEWROUTE, _route_message(route, index, unicast), flags)


def delete_route(kernel: NetlinkSocket, route: Route, index: int | None) -> None:
    """Remove a route of ours; one that is gone already is fine."""
    try:
        kernel.change(_DELROUTE, _route_message(route, index, _SCOPE_NOWHERE))
    except KernelRefused as refusal:
        if refusal.number != errno.ESRCH:
            raise


def rules(kernel: NetlinkSocket) -> Iterator[Rule]:
    """The rules of our protocol in our range of priorities."""
    for version, family in FAMILY_OF_VERSION.items():
        for body in kernel.dump(_GETRULE, _rule_header.pack(family, 0, 0, 0, 0, 0, 0)):
            its_family, _, source_length, _, _, _, flags = _rule_header.unpack_from(body)
            found = attributes(body, _rule_header.size)
            priority = number(found.get(_RULE_PRIORITY, b""))
            ours = number(found.get(_RULE_PROTOCOL, b"")) == PROTOCOL
            if its_family == family and ours and RULE_PRIORITY_FIRST <= priority <= RULE_PRIORITY_LAST:
                yield _rule(found, version, priority, source_length, flags)


def add_rule(kernel: NetlinkSocket, rule: Rule) -> None:
    """Make a rule; one of another protocol may stand beside it, EEXIST is for a twin."""
    kernel.change(_NEWRULE, _rule_message(rule), F_CREATE | F_EXCL)


def delete_rule(kernel: NetlinkSocket, rule: Rule) -> None:
    """Remove a rule of ours; one that is gone already is fine."""
    try:
        kernel.change(_DELRULE, _rule_message(rule))
    except KernelRefused as refusal:
        if refusal.number != errno.ENOENT:
            raise


def path(kernel: NetlinkSocket, address: str, fwmark: int = 0) -> SeenPath | None:
    """The route a packet with that mark would take ('ip route get'); None where there is none."""
    packed = ip_bytes(address)
    family, length = FAMILY_OF_VERSION[6 if len(packed) == 16 else 4], len(packed) * 8
    request = _rtmsg.pack(family, length, 0, 0, 0, 0, 0, 0, 0) + attribute(_DST, packed)
    try:
        body = kernel.ask(_GETROUTE, request + (u32(_MARK, fwmark) if fwmark else b""))
    except KernelRefused:
        return None  # ENETUNREACH, EHOSTUNREACH, EACCES: each says there is no way
    return _path(body)


def default_route(kernel: NetlinkSocket) -> SeenPath | None:
    """The default route of the main table with the lowest metric, IPv4's before IPv6's."""
    for family in FAMILY_OF_VERSION.values():
        found: list[tuple[int, SeenPath]] = []
        for body in _main_table(kernel, family):
            its_family, length, _, _, table, _, _, kind, _ = _rtmsg.unpack_from(body)
            if (its_family, length, table, kind) == (family, 0, _TABLE_MAIN, _UNICAST):
                metric = number(attributes(body, _rtmsg.size).get(_PRIORITY, b""))
                found.append((metric, _path(body)))
        if found:
            return min(found, key=lambda entry: entry[0])[1]
    return None


def _main_table(kernel: NetlinkSocket, family: int) -> list[bytes]:
    """The unicast routes of the main table; a namespace without any route has no such table yet."""
    try:
        return list(kernel.dump(_GETROUTE, _rtmsg.pack(family, 0, 0, 0, _TABLE_MAIN, 0, 0, _UNICAST, 0)))
    except KernelRefused as refusal:
        if refusal.number != errno.ENOENT:
            raise
        return []


def _path(body: bytes) -> SeenPath:
    found = attributes(body, _rtmsg.size)
    mtu = attributes(found.get(_METRICS, b"")).get(_METRIC_MTU)
    source = found.get(_PREFSRC)
    return SeenPath(
        index=number(found.get(_OIF, b"")),
        source=ip_text(source) if source else None,
        mtu=number(mtu) if mtu else None,
    )


def _route(
    body: bytes, length: int, table: int, kind: int, names: Mapping[int, str], netns: str | None = None
) -> Route:
    found = attributes(body, _rtmsg.size)
    v6 = body[0] == FAMILY_OF_VERSION[6]
    destination = found.get(_DST) or bytes(16 if v6 else 4)
    index = number(found.get(_OIF, b""))
    metric = number(found.get(_PRIORITY, b""))
    return Route(
        prefix=f"{ip_text(destination)}/{length}",
        interface=None if kind == _UNREACHABLE else names.get(index, f"link {index}"),
        table=number(found[_TABLE]) if _TABLE in found else table,
        metric=0 if v6 and metric == _DEFAULT_V6_METRIC else metric,
        source=ip_text(found[_PREFSRC]) if _PREFSRC in found else None,
        netns=netns,
    )


def _route_message(route: Route, index: int | None, scope: int) -> bytes:
    address, _, length = route.prefix.partition("/")
    family = FAMILY_OF_VERSION[6 if is_v6(address) else 4]
    kind = _UNREACHABLE if route.interface is None else _UNICAST
    head = _rtmsg.pack(family, int(length), 0, 0, 0, PROTOCOL, scope, kind, 0)
    parts = [attribute(_DST, ip_bytes(address)), u32(_TABLE, route.table)]
    if route.metric:
        parts.append(u32(_PRIORITY, route.metric))
    elif family == FAMILY_OF_VERSION[6]:
        parts.append(u32(_PRIORITY, _DEFAULT_V6_METRIC))
    if index is not None:
        parts.append(u32(_OIF, index))
    if route.source:
        parts.append(attribute(_PREFSRC, ip_bytes(route.source)))
    return head + b"".join(parts)


def _rule(found: Mapping[int, bytes], version: int, priority: int, source_length: int, flags: int) -> Rule:
    suppress = number(found.get(_RULE_SUPPRESS, b"\xff" * 4))
    source = found.get(_RULE_SRC)
    interface = found.get(_RULE_IIFNAME)
    return Rule(
        priority=priority,
        family=version,
        table=number(found[_RULE_TABLE]),
        fwmark=number(found.get(_RULE_FWMARK, b"")),
        invert=bool(flags & _RULE_INVERT),
        suppress_prefixlength=None if suppress == _NO_SUPPRESSION else suppress,
        source=f"{ip_text(source)}/{source_length}" if source else None,
        input_interface=word(interface) if interface else None,
    )


def _rule_message(rule: Rule) -> bytes:
    source, _, length = (rule.source or "").partition("/")
    flags = _RULE_INVERT if rule.invert else 0
    head = _rule_header.pack(FAMILY_OF_VERSION[rule.family], 0, int(length or 0), 0, 0, _RULE_TO_TABLE, flags)
    parts = [
        u32(_RULE_PRIORITY, rule.priority),
        u32(_RULE_TABLE, rule.table),
        attribute(_RULE_PROTOCOL, bytes([PROTOCOL])),
    ]
    if source:
        parts.append(attribute(_RULE_SRC, ip_bytes(source)))
    if rule.input_interface:
        parts.append(text(_RULE_IIFNAME, rule.input_interface))
    if rule.fwmark:
        parts.append(u32(_RULE_FWMARK, rule.fwmark))
    if rule.suppress_prefixlength is not None:
        parts.append(u32(_RULE_SUPPRESS, rule.suppress_prefixlength))
    return head + b"".join(parts)
