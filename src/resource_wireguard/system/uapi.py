"""Client for the control socket of a userspace engine: WireGuard's cross-platform UAPI.

https://www.wireguard.com/xplatform/: 'get=1' or 'set=1' lines, answered by lines that end in 'errno=N'.
Pure render and parse functions, and around them a socket with a deadline, for an engine may hang or die.
"""

import os
import socket
import struct
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from resource_wireguard.errors import HostError
from resource_wireguard.host.facts import PeerFacts
from resource_wireguard.host.state import Device, Peer, PeerEndpoint
from resource_wireguard.model.keys import PresharedKey, PrivateKey, PublicKey
from resource_wireguard.system.messages import KernelRefused
from resource_wireguard.system.reading import Memory, Reading, Row, reading_of
from resource_wireguard.system.transaction import DeviceChange, PeerChange, Transaction

SOCKET_FOLDER = Path("/var/run/wireguard")
"""Where engines put IF.sock: one folder for all network namespaces."""

DEADLINE = 1.0
"""Seconds until an engine has to have answered, or said more."""

SECONDS_PER_PEER = 0.001
"""Allowed on top for each peer that is set: wireguard-go takes a tenth of it."""

_NO_KEY_HEX = "0" * 64
_RECEIVE_BYTES = 1 << 20
_credentials = struct.Struct("=iII")


class EngineRefused(KernelRefused):
    """The engine answered a set with an errno."""


class EngineSilent(HostError):
    """The engine does not answer in time, died while it did, or says what nobody understands."""


def socket_path(interface: str) -> Path:
    """The control socket of an interface."""
    return SOCKET_FOLDER / f"{interface}.sock"


def connect(interface: str) -> socket.socket | None:
    """The control socket, connected; None where there is no engine behind it."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(DEADLINE)
    try:
        client.connect(str(socket_path(interface)))
    except (FileNotFoundError, ConnectionRefusedError):
        client.close()
        return None
    except OSError as error:  # a full backlog (BlockingIOError, TimeoutError): it has not accepted for long
        client.close()
        raise EngineSilent(f"engine of {interface} does not answer ({error.strerror or 'timeout'})") from None
    return client


def engine_pid(client: socket.socket) -> int:
    """The process that listens on a control socket; 0 where it is in a foreign pid namespace (unix(7))."""
    raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _credentials.size)
    pid: int = _credentials.unpack(raw)[0]
    return pid


class Question:
    """A 'get' that has been asked and not yet answered: engines of several interfaces work side by side."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._client = connect(interface)
        if self._client is None:
            raise EngineSilent(f"engine of {interface} is not running")
        _send(self._client, interface, b"get=1\n\n")

    def answer(self, memory: Memory[str] | None = None) -> Reading:
        """What the engine says; EngineSilent if that takes longer than DEADLINE between two pieces."""
        assert self._client is not None
        with self._client:
            answer = _receive(self._client, self._interface, DEADLINE)
        _check(answer, self._interface)
        try:
            return parse(answer, self._interface, memory)
        except ValueError:
            raise EngineSilent(f"engine of {self._interface} answers what is not UAPI") from None


def read(interface: str) -> Reading:
    """Ask one engine for everything."""
    return Question(interface).answer()


def is_listening(interface: str) -> bool:
    """Whether an engine without peers has opened its UDP socket: only then does it name a port."""
    client = connect(interface)
    if client is None:
        raise EngineSilent(f"engine of {interface} is not running")
    with client:
        _send(client, interface, b"get=1\n\n")
        return "\nlisten_port=" in f"\n{_receive(client, interface, DEADLINE)}"


def write(interface: str, transaction: Transaction) -> None:
    """One set; EngineRefused with the errno if the engine does not want it."""
    client = connect(interface)
    if client is None:
        raise EngineSilent(f"engine of {interface} is not running")
    with client:
        deadline = DEADLINE + SECONDS_PER_PEER * len(transaction.peers)
        client.settimeout(deadline)
        _send(client, interface, render(transaction).encode())
        _check(_receive(client, interface, deadline), interface)


def render(transaction: Transaction) -> str:
    """The text of a 'set'."""
    lines = ["set=1", *_device_lines(transaction.device)]
    for peer in transaction.peers:
        lines.extend(_peer_lines(peer))
    return "\n".join(lines) + "\n\n"


def parse(answer: str, interface: str, memory: Memory[str] | None = None) -> Reading:
    """The text of an answer to 'get'."""
    head, *blocks = f"\n{answer}".split("\npublic_key=")
    rows = (memory or Memory[str]()).rows(blocks, partial(_row, interface))
    return reading_of(_device(head, interface), rows)


def _row(interface: str, block: str) -> Row:
    """One peer's lines, the first of which is its key alone."""
    fields: dict[str, str] = {}
    allowed_ips: list[str] = []
    lines = block.split("\n")
    for line in lines:
        name, _, value = line.partition("=")
        if name == "allowed_ip":
            allowed_ips.append(value)
        else:
            fields[name] = value
    public_key = PublicKey(bytes.fromhex(lines[0]))
    secret = fields.get("preshared_key", _NO_KEY_HEX)
    endpoint = fields.get("endpoint")
    return Row(
        (interface, public_key),
        Peer(
            interface,
            public_key,
            None if secret == _NO_KEY_HEX else PresharedKey(bytes.fromhex(secret)),
            int(fields.get("persistent_keepalive_interval", 0)),
            frozenset(allowed_ips),
        ),
        PeerEndpoint(interface, public_key, endpoint) if endpoint else None,
        PeerFacts(
            endpoint, _handshake(fields), int(fields.get("rx_bytes", 0)), int(fields.get("tx_bytes", 0))
        ),
    )


def _device(head: str, interface: str) -> Device | None:
    fields = dict(line.partition("=")[::2] for line in head.split("\n"))
    private_key = fields.get("private_key", _NO_KEY_HEX)
    if private_key == _NO_KEY_HEX:
        return None
    return Device(
        interface,
        PrivateKey(bytes.fromhex(private_key)),
        int(fields.get("listen_port", 0)),
        int(fields.get("fwmark", 0)),
    )


def _handshake(fields: dict[str, str]) -> float | None:
    seconds = int(fields.get("last_handshake_time_sec", 0))
    return seconds + int(fields.get("last_handshake_time_nsec", 0)) / 1e9 if seconds else None


def _device_lines(device: DeviceChange) -> Iterator[str]:
    if device.private_key is not None:
        yield f"private_key={bytes(device.private_key).hex()}"
    if device.listen_port is not None:
        yield f"listen_port={device.listen_port}"
    if device.fwmark is not None:
        yield f"fwmark={device.fwmark}"


def _peer_lines(peer: PeerChange) -> Iterator[str]:
    yield f"public_key={peer.public_key.hex()}"
    if peer.remove:
        yield "remove=true"
        return
    if peer.update_only:
        yield "update_only=true"
    if peer.preshared_key is not None:
        yield f"preshared_key={peer.preshared_key.hex()}"
    if peer.endpoint is not None:
        yield f"endpoint={peer.endpoint}"
    if peer.keepalive is not None:
        yield f"persistent_keepalive_interval={peer.keepalive}"
    if peer.replace_allowed_ips:
        yield "replace_allowed_ips=true"
    for prefix in peer.allowed_ips:
        yield f"allowed_ip={prefix}"


def _send(client: socket.socket, interface: str, request: bytes) -> None:
    try:
        client.sendall(request)
    except OSError as error:
        client.close()
        raise EngineSilent(f"engine of {interface} does not listen ({_reason(error)})") from None


def _receive(client: socket.socket, interface: str, deadline: float) -> str:
    """All of an answer, which ends in an empty line; deadline in seconds for each piece of it."""
    client.settimeout(deadline)
    pieces: list[bytes] = []
    started = time.monotonic()
    while True:
        try:
            piece = client.recv(_RECEIVE_BYTES)
        except OSError as error:
            raise EngineSilent(f"engine of {interface} does not answer ({_reason(error)})") from None
        pieces.append(piece)
        if piece.endswith(b"\n\n") or (len(piece) == 1 and b"".join(pieces[-2:]).endswith(b"\n\n")):
            return b"".join(pieces).decode("ascii", "replace")
        if not piece:
            after = time.monotonic() - started
            raise EngineSilent(f"engine of {interface} ended within its answer (after {after:.1f} s)")


def _reason(error: OSError) -> str:
    return "timeout" if isinstance(error, TimeoutError) else (error.strerror or "error")


def _check(answer: str, interface: str) -> None:
    """Raise EngineRefused unless the answer ends in 'errno=0'."""
    number = answer.rstrip("\n").rpartition("errno=")[2]
    if number != "0":
        raise EngineRefused(abs(int(number)) if number.lstrip("-").isdigit() else 5, _about(interface))


def _about(interface: str) -> str:
    return f"engine of {interface}, {os.fspath(socket_path(interface))}"
