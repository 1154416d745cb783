"""Client for the kernel's WireGuard over generic netlink (include/uapi/linux/wireguard.h, genetlink.h).

Pure encode and decode functions, and around them two calls. A device's peers are spread over several
messages in both directions, and so may be the allowed IPs of one peer.
"""

import errno
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from resource_wireguard.host.facts import PeerFacts
from resource_wireguard.host.state import Device, Peer, PeerEndpoint
from resource_wireguard.model.keys import PresharedKey, PrivateKey, PublicKey
from resource_wireguard.system.messages import (
    KernelRefused,
    NetlinkSocket,
    attribute,
    attributes,
    ip_bytes,
    ip_text,
    nested,
    number,
    text,
    u16,
    u32,
    walk,
)
from resource_wireguard.system.reading import Memory, Reading, Row, reading_of
from resource_wireguard.system.transaction import NO_KEY, DeviceChange, PeerChange, Transaction

NETLINK_GENERIC = 16

_GENL_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
_GET_DEVICE, _SET_DEVICE, _VERSION = 0, 1, 1

_IFNAME, _PRIVATE_KEY, _LISTEN_PORT, _FWMARK, _PEERS = 2, 3, 6, 7, 8
_PUBLIC_KEY, _PRESHARED_KEY, _FLAGS, _ENDPOINT, _KEEPALIVE = 1, 2, 3, 4, 5
_HANDSHAKE, _RX_BYTES, _TX_BYTES, _ALLOWED_IPS = 6, 7, 8, 9
_IP_FAMILY, _IP_ADDRESS, _IP_LENGTH = 1, 2, 3
_REMOVE, _REPLACE_ALLOWED_IPS, _UPDATE_ONLY = 1, 2, 4

_PEERS_BYTES = 48 * 1024
"""Of peers in one message: the length of a nested attribute has 16 bits."""

_IPS_PER_PIECE = 500
"""Allowed IPs of a peer in one piece, of at most 44 bytes each."""

_genlmsghdr = struct.Struct("=BBxx")
_timespec = struct.Struct("=qq")
_inet, _inet6 = struct.Struct("=H2s4s8x"), struct.Struct("=H2s4x16sI")


def family(kernel: NetlinkSocket) -> int | None:
    """The number of the family 'wireguard', None in a kernel without it; loads the module if there is one."""
    request = _genlmsghdr.pack(_GET_FAMILY, 1) + text(_FAMILY_NAME, "wireguard")
    try:
        answer = kernel.ask(_GENL_CONTROL, request)
    except KernelRefused as refusal:
        if refusal.number == errno.ENOENT:
            return None
        raise
    return number(attributes(answer, _genlmsghdr.size)[_FAMILY_ID])


def read(kernel: NetlinkSocket, family: int, interface: str, memory: Memory[bytes] | None = None) -> Reading:
    """Dump one device."""
    request = _genlmsghdr.pack(_GET_DEVICE, _VERSION) + text(_IFNAME, interface)
    bodies = kernel.dump(family, request)
    return decode([body[_genlmsghdr.size :] for body in bodies], interface, memory)


def write(kernel: NetlinkSocket, family: int, interface: str, transaction: Transaction) -> None:
    """Set what a transaction holds, in as many messages as it takes; KernelRefused at the first refusal."""
    for message in encode(interface, transaction):
        kernel.change(family, _genlmsghdr.pack(_SET_DEVICE, _VERSION) + message)


def encode(interface: str, transaction: Transaction) -> Iterator[bytes]:
    """The attributes of the messages that set a transaction; the device's own fields are in the first."""
    head = text(_IFNAME, interface) + _device_attributes(transaction.device)
    chunk: list[bytes] = []
    size = 0
    for piece in (piece for peer in transaction.peers for piece in _peer_pieces(peer)):
        if chunk and size + len(piece) > _PEERS_BYTES:
            yield head + nested(_PEERS, chunk)
            head, chunk, size = text(_IFNAME, interface), [], 0
        chunk.append(piece)
        size += len(piece)
    yield head + (nested(_PEERS, chunk) if chunk else b"")


def decode(messages: Iterable[bytes], interface: str, memory: Memory[bytes] | None = None) -> Reading:
    """The attributes of the messages of a dump; a peer that did not fit is continued in the next one."""
    head: dict[int, bytes] = {}
    said: list[bytes] = []
    for message in messages:
        found = attributes(message)
        said.extend(raw for _, raw in walk(found.pop(_PEERS, b"")))
        head = {**found, **head}
    rows = (memory or Memory[bytes]()).rows(said, partial(_row, interface))
    return reading_of(_device(head, interface), rows)


def _device(head: dict[int, bytes], interface: str) -> Device | None:
    private_key = head.get(_PRIVATE_KEY, NO_KEY)
    if private_key == NO_KEY:
        return None
    return Device(interface, PrivateKey(private_key), number(head[_LISTEN_PORT]), number(head[_FWMARK]))


def _row(interface: str, raw: bytes) -> Row:
    peer = attributes(raw)
    public_key = PublicKey(peer[_PUBLIC_KEY])
    secret = peer.get(_PRESHARED_KEY, NO_KEY)
    facts = _facts(peer)
    return Row(
        (interface, public_key),
        Peer(
            interface,
            public_key,
            None if secret == NO_KEY else PresharedKey(secret),
            number(peer.get(_KEEPALIVE, b"")),
            frozenset(_allowed_ip(ip) for _, ip in walk(peer.get(_ALLOWED_IPS, b""))),
        ),
        PeerEndpoint(interface, public_key, facts.endpoint) if facts.endpoint else None,
        facts,
    )


def _facts(peer: dict[int, bytes]) -> PeerFacts:
    seconds, nanoseconds = _timespec.unpack(peer.get(_HANDSHAKE, bytes(_timespec.size)))
    return PeerFacts(
        endpoint=endpoint_text(peer[_ENDPOINT]) if _ENDPOINT in peer else None,
        latest_handshake=seconds + nanoseconds / 1e9 if seconds else None,
        rx_bytes=number(peer.get(_RX_BYTES, b"")),
        tx_bytes=number(peer.get(_TX_BYTES, b"")),
    )


def endpoint_text(packed: bytes) -> str:
    """A struct sockaddr_in or sockaddr_in6 as 'address:port'."""
    port = int.from_bytes(packed[2:4], "big")
    if len(packed) == _inet.size:
        return f"{ip_text(packed[4:8])}:{port}"
    scope = number(packed[24:28])
    zone = f"%{_zone_name(scope)}" if scope else ""
    return f"[{ip_text(packed[8:24])}{zone}]:{port}"


def endpoint_bytes(endpoint: str) -> bytes:
    """The opposite of endpoint_text."""
    host, _, port = endpoint.rpartition(":")
    packed_port = int(port).to_bytes(2, "big")
    address, _, zone = host.strip("[]").partition("%")
    packed = ip_bytes(address)
    if len(packed) == 4:
        return _inet.pack(socket.AF_INET, packed_port, packed)
    return _inet6.pack(socket.AF_INET6, packed_port, packed, _zone_index(zone))


def _zone_name(scope: int) -> str:
    try:
        return socket.if_indextoname(scope)
    except OSError:
        return str(scope)


def _zone_index(zone: str) -> int:
    return int(zone) if zone.isdigit() else socket.if_nametoindex(zone) if zone else 0


def _allowed_ip(packed: bytes) -> str:
    found = attributes(packed)
    return f"{ip_text(found[_IP_ADDRESS])}/{found[_IP_LENGTH][0]}"


def _device_attributes(device: DeviceChange) -> bytes:
    parts = []
    if device.private_key is not None:
        parts.append(attribute(_PRIVATE_KEY, bytes(device.private_key)))
    if device.listen_port is not None:
        parts.append(u16(_LISTEN_PORT, device.listen_port))
    if device.fwmark is not None:
        parts.append(u32(_FWMARK, device.fwmark))
    return b"".join(parts)


def _peer_pieces(peer: PeerChange) -> Iterator[bytes]:
    """A peer's attributes; if it has many allowed IPs, more pieces follow that only add some."""
    first, *more = _slices(peer.allowed_ips) or [()]
    yield nested(0, [attribute(_PUBLIC_KEY, peer.public_key), *_peer_attributes(peer), _allowed_ips(first)])
    for prefixes in more:
        flags = u32(_FLAGS, _UPDATE_ONLY)
        yield nested(0, [attribute(_PUBLIC_KEY, peer.public_key), flags, _allowed_ips(prefixes)])


def _peer_attributes(peer: PeerChange) -> Iterator[bytes]:
    flags = _REMOVE if peer.remove else 0
    flags |= _UPDATE_ONLY if peer.update_only else 0
    flags |= _REPLACE_ALLOWED_IPS if peer.replace_allowed_ips else 0
    if flags:
        yield u32(_FLAGS, flags)
    if peer.preshared_key is not None:
        yield attribute(_PRESHARED_KEY, bytes(peer.preshared_key))
    if peer.endpoint is not None:
        yield attribute(_ENDPOINT, endpoint_bytes(peer.endpoint))
    if peer.keepalive is not None:
        yield u16(_KEEPALIVE, peer.keepalive)


def _slices(prefixes: Sequence[str]) -> list[Sequence[str]]:
    return [prefixes[i : i + _IPS_PER_PIECE] for i in range(0, len(prefixes), _IPS_PER_PIECE)]


def _allowed_ips(prefixes: Sequence[str]) -> bytes:
    return nested(_ALLOWED_IPS, map(_allowed_ip_attribute, prefixes)) if prefixes else b""


def _allowed_ip_attribute(prefix: str) -> bytes:
    address, _, length = prefix.partition("/")
    packed = ip_bytes(address)
    ip_family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    parts = [
        u16(_IP_FAMILY, ip_family),
        attribute(_IP_ADDRESS, packed),
        attribute(_IP_LENGTH, bytes([int(length)])),
    ]
    return nested(0, parts)
