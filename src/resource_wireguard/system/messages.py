"""The netlink wire format: messages, attributes, and a socket that asks the kernel (netlink(7)).

Three dialects are spoken over it: rtnetlink (netlink.py), generic netlink (genetlink.py) and nfnetlink
(nftables.py). It is written by hand because a library's import costs more than all our passes of a day.
"""

import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator

from resource_wireguard.errors import HostError

F_REQUEST, F_ACK, F_DUMP = 0x1, 0x4, 0x300
F_REPLACE, F_EXCL, F_CREATE = 0x100, 0x200, 0x400
_F_DUMP_INTERRUPTED, _F_ACK_ATTRIBUTES = 0x10, 0x200
_ERROR, _DONE, _FIRST_KIND = 2, 3, 16
_ERROR_MESSAGE = 1
_NESTED, _KIND_MASK = 0x8000, 0x3FFF

_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _GET_STRICT_CHECK = 270, 10, 11, 12

ANSWER_DEADLINE = 5.0
"""Seconds: the kernel answers in the call itself, so only a defect makes anybody wait this long."""

_RECEIVE_BYTES = 1 << 16
_DUMP_ATTEMPTS = 5

_BYTE_ORDER = sys.byteorder

_header = struct.Struct("=IHHII")
_attribute = struct.Struct("=HH")
_number = struct.Struct("=i")


class KernelRefused(HostError):
    """The kernel answered with an errno; its message carries the kernel's own words where it has any."""

    def __init__(self, number: int, words: str = "") -> None:
        reason = os.strerror(number)
        super().__init__(f"{reason} ({words})" if words else reason)
        self.number = number


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _attribute.pack(4 + len(value), kind) + value + bytes(-len(value) & 3)


def nested(kind: int, parts: Iterable[bytes]) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | _NESTED, b"".join(parts))


def u16(kind: int, value: int) -> bytes:
    """An attribute of two bytes in host order."""
    return attribute(kind, value.to_bytes(2, _BYTE_ORDER))


def u32(kind: int, value: int) -> bytes:
    """An attribute of four bytes in host order."""
    return attribute(kind, value.to_bytes(4, _BYTE_ORDER))


def text(kind: int, value: str) -> bytes:
    """An attribute with a string and its NUL."""
    return attribute(kind, value.encode() + b"\0")


def number(value: bytes) -> int:
    """An unsigned number in host order, of whatever width it has."""
    return int.from_bytes(value, _BYTE_ORDER)


def word(value: bytes) -> str:
    """A string up to its NUL."""
    return value.split(b"\0", 1)[0].decode(errors="replace")


def walk(payload: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Kind and value of each attribute from offset on."""
    end = len(payload)
    while offset + 4 <= end:
        size, kind = _attribute.unpack_from(payload, offset)
        if size < 4:
            return
        yield kind & _KIND_MASK, payload[offset + 4 : offset + size]
        offset += (size + 3) & ~3


def attributes(payload: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes by kind; of repeated ones the last."""
    return dict(walk(payload, offset))


def ip_text(packed: bytes) -> str:
    """An address of 4 or 16 bytes in the canonical form of RFC 5952, as ipaddress prints it."""
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    printed = socket.inet_ntop(socket.AF_INET6, packed)
    return str(ipaddress.IPv6Address(packed)) if "." in printed else printed


def ip_bytes(address: str) -> bytes:
    """The opposite of ip_text."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


class NetlinkSocket:
    """One open conversation with the kernel, in the network namespace of the thread that opened it."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.settimeout(ANSWER_DEADLINE)
        for option in (_CAP_ACK, _EXT_ACK, _GET_STRICT_CHECK):
            try:
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:
                continue  # an older kernel: it then filters less, and we do so after it
        self._sequence = 0

    def close(self) -> None:
        """End the conversation."""
        self._socket.close()

    def ask(self, kind: int, payload: bytes, flags: int = 0) -> bytes:
        """The payload of the one message that answers a request; KernelRefused where there is none."""
        answers = [body for _, body in self._exchange(kind, payload, flags | F_ACK)]
        return answers[0] if answers else b""

    def change(self, kind: int, payload: bytes, flags: int = 0) -> None:
        """One change; KernelRefused unless the kernel acknowledges it."""
        self.ask(kind, payload, flags)

    def dump(self, kind: int, payload: bytes) -> list[bytes]:
        """The payloads of all messages of a dump; repeated if the objects changed meanwhile."""
        for _ in range(_DUMP_ATTEMPTS):
            answers = list(self._exchange(kind, payload, F_DUMP))
            if not any(flags & _F_DUMP_INTERRUPTED for flags, _ in answers):
                break
        return [body for _, body in answers]

    def _exchange(self, kind: int, payload: bytes, flags: int) -> Iterator[tuple[int, bytes]]:
        """Send one request and yield flags and payload of its answers until the kernel says it is done."""
        self._sequence += 1
        head = _header.pack(16 + len(payload), kind, flags | F_REQUEST, self._sequence, 0)
        try:
            self._socket.send(head + payload)
            while True:
                for answer, its_flags, body in self._receive():
                    if answer >= _FIRST_KIND:
                        yield its_flags, body
                    elif answer in (_ERROR, _DONE):
                        _raise_refusal(its_flags, body)
                        return
        except TimeoutError:
            raise HostError(f"the kernel did not answer within {ANSWER_DEADLINE:.0f} s") from None
        except OSError as error:
            raise KernelRefused(error.errno or 0) from error

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        """Kind, flags and payload of each message of a datagram; an older request's leftovers are dropped."""
        datagram = self._socket.recv(_RECEIVE_BYTES)
        offset = 0
        while offset + 16 <= len(datagram):
            size, kind, flags, sequence, _ = _header.unpack_from(datagram, offset)
            if size < 16:
                return
            if sequence == self._sequence:
                yield kind, flags, datagram[offset + 16 : offset + size]
            offset += (size + 3) & ~3


def _raise_refusal(flags: int, body: bytes) -> None:
    """Both NLMSG_ERROR and NLMSG_DONE begin with a negative errno, or 0 for success."""
    refusal = -_number.unpack_from(body)[0] if len(body) >= 4 else 0
    if refusal:
        words = attributes(body, 20).get(_ERROR_MESSAGE, b"") if flags & _F_ACK_ATTRIBUTES else b""
        raise KernelRefused(refusal, word(words))
