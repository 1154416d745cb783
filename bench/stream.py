"""Steady traffic between two namespaces, in a process of its own: python -m bench.stream A B IN_A IN_B.

Each way 500 numbered UDP packets a second, and one TCP stream paced at 1,000 bytes every 10 ms. It runs until
its stdin is closed, and then prints one JSON object: when each lost packet was sent, how many there were,
and each time in which a stream brought nothing for longer than STALL. All times are of CLOCK_MONOTONIC.
"""

import contextlib
import json
import select
import socket
import struct
import sys
import time

from tests.netns.harness import Namespace

PER_SECOND = 500
CHUNK, CHUNK_EVERY = 1000, 0.010
STALL = 0.030
"""Seconds: three chunks that did not come."""

LATE = 2.0
"""Seconds after the last packet in which it may still come."""

PORT = 5000
_number = struct.Struct("!Q")


class Datagrams:
    """One way: what was sent, and what came."""

    def __init__(self, source: Namespace, target: Namespace, source_address: str, address: str) -> None:
        self.sender = source.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.bind((source_address, 0))
        self.receiver = target.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.receiver.bind((address, PORT))
        self.receiver.setblocking(False)
        self.address = address
        self.sent: list[float] = []
        self.came = bytearray()
        self.refused = 0

    def send(self, now: float) -> None:
        """The next packet; one that the kernel refuses is lost too."""
        packet = _number.pack(len(self.sent)) + bytes(56)
        self.sent.append(now)
        self.came.append(0)
        try:
            self.sender.sendto(packet, (self.address, PORT))
        except OSError:
            self.refused += 1

    def receive(self) -> None:
        """All that is there."""
        try:
            while True:
                self.came[_number.unpack_from(self.receiver.recv(2048))[0]] = 1
        except BlockingIOError:
            pass

    def lost(self) -> list[float]:
        """When each packet was sent that never came."""
        return [at for at, came in zip(self.sent, self.came, strict=True) if not came]


class Stream:
    """One TCP connection, used one way."""

    def __init__(self, source: Namespace, target: Namespace, source_address: str, address: str) -> None:
        server = target.socket(socket.AF_INET, socket.SOCK_STREAM)
        server.bind((address, 0))
        server.listen()
        self.sender = source.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sender.bind((source_address, 0))
        self.sender.settimeout(20)
        self.sender.connect(server.getsockname())
        self.receiver, _ = server.accept()
        for sock in (self.sender, self.receiver):
            sock.setblocking(False)
        self.last = time.monotonic()
        self.stalls: list[tuple[float, float]] = []

    def send(self) -> None:
        """The next chunk, unless the connection is full."""
        with contextlib.suppress(BlockingIOError):
            self.sender.send(bytes(CHUNK))

    def receive(self, now: float) -> None:
        """All that is there, and how long nothing was."""
        try:
            while self.receiver.recv(65536):
                if now - self.last > STALL:
                    self.stalls.append((self.last, now))
                self.last = now
        except BlockingIOError:
            pass


def main() -> None:
    a, b, address_a, address_b = sys.argv[1:]
    ways = [
        (Namespace(a), Namespace(b), address_a, address_b),
        (Namespace(b), Namespace(a), address_b, address_a),
    ]
    datagrams = [Datagrams(*way) for way in ways]
    streams = [Stream(*way) for way in ways]
    print("ready", flush=True)
    print(json.dumps(_run(datagrams, streams)))


def _run(datagrams: list[Datagrams], streams: list[Stream]) -> dict[str, object]:
    begun = turned = time.monotonic()
    own_pause, pauses = 0.0, []
    packets = chunks = 0
    ended: float | None = None
    sockets = [sys.stdin, *(d.receiver for d in datagrams), *(s.receiver for s in streams)]
    while ended is None or time.monotonic() < ended + LATE:
        readable, _, _ = select.select(
            sockets, [], [], max(0.0, begun + (packets + 1) / PER_SECOND - time.monotonic())
        )
        now = time.monotonic()
        own_pause, turned = now - turned, now
        if own_pause > STALL:
            pauses.append((now - own_pause, now))  # it was not given the CPU: no stall of the tunnel's
        if sys.stdin in readable and ended is None:
            ended = now
            sockets.remove(sys.stdin)
        while ended is None and begun + packets / PER_SECOND <= now:
            for way in datagrams:
                way.send(now)
            packets += 1
        while ended is None and begun + chunks * CHUNK_EVERY <= now:
            for stream in streams:
                stream.send()
            chunks += 1
        if ended is not None:
            packets += 1
        for way in datagrams:
            way.receive()
        for stream in streams:
            stream.receive(now)
    return {
        "seconds": ended - begun,
        "sent": len(datagrams[0].sent),
        "lost": [way.lost() for way in datagrams],
        "stalls": [stream.stalls for stream in streams],
        "pauses": pauses,
    }


if __name__ == "__main__":
    main()
