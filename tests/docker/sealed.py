"""The lab of tests/netns/harness.py with Docker, a tunnel to a provider, and containers that always send.

The server's default routes lead to internet over eth1, the uplink: what is not held in leaves by it in the
clear. internet is also the tunnel's other end, and behind it are addresses to send to. What leaves is counted
at the server's own links, packet by packet, by a socket that sees everything (packet(7)).
"""

import contextlib
import ipaddress
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from docker.models.containers import Container
from tests.docker.daemon import Daemon, daemon_in
from tests.docker.images import make_shell
from tests.netns.harness import Agent, Lab, Namespace, key_pair, new_name, plain_peer, wait_until

WORLD4, WORLD6 = "203.0.113.1", "2001:db8:99::1"
"""Somewhere in the world: answers behind the tunnel, and would answer in the clear too."""

PORT = 51_999
"""The UDP port of the tunnel's other end: what goes there is WireGuard's."""

ECHO_PORT = 7777

WATCHED = 1.0
"""Seconds that a state is watched: each sender sends several times in it."""

SEND = f"""
again() {{ while :; do "$@" >/dev/null 2>&1; sleep 0.1; done; }}
for there in {WORLD4} {WORLD6} 198.51.100.9 2001:db8:2::9; do
    again ping -i 0.1 $there &
    again ping -i 0.2 -s 4000 $there &
done
udp() {{ echo x | timeout 0.5 nc -u $1 9999; }}
tcp() {{ timeout 0.5 nc $1 81 </dev/null; }}
held() {{ (while echo x; do sleep 0.05; done) | nc $1 {ECHO_PORT}; }}
for there in {WORLD4} {WORLD6}; do
    again udp $there &
    again tcp $there &
    again held $there &
    again timeout 0.5 nslookup example.org $there &
done
again timeout 0.5 nslookup example.org 127.0.0.11 &
wait
"""
"""ICMP, small and in fragments, UDP, TCP, a connection that lasts, DNS directly and by Docker's resolver."""

ETH_P_ALL, OUTGOING = 3, 4
PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 44: "fragment", 58: "ICMPv6"}
ICMP6, UDP = 58, 17
UNREACHABLE = {(1, 3), (ICMP6, 1)}
NEIGHBOURS = {*range(130, 138), 143}
"""ICMPv6 types of neighbour discovery and multicast listeners: a link's own business."""


@dataclass
class Counted:
    """What left, and what the tunnel's other end received; kinds are words such as 'ICMP to 203.0.113.1'."""

    leaked: list[str] = field(default_factory=list)
    arrived: int = 0


class Wire:
    """Reads all packets of one link in a thread; sorts them when asked."""

    def __init__(self, namespace: Namespace, link: str) -> None:
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_DGRAM)  # bound, or it hears all links
        self._socket.bind((link, ETH_P_ALL))
        self._socket.settimeout(0.1)
        self._ended = threading.Event()
        self.packets: list[tuple[int, bytes]] = []
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> "Wire":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                packet, (_, _, kind, *_) = self._socket.recvfrom(128)
                self.packets.append((kind, packet))

    def arrived(self) -> int:
        """How many came in."""
        return sum(kind != OUTGOING for kind, _ in self.packets)

    def leaked(self) -> list[str]:
        """What went out and is neither WireGuard's nor the link's own business."""
        return [word for kind, packet in self.packets if kind == OUTGOING and (word := _leak(packet))]


def _leak(packet: bytes) -> str | None:
    """'ICMP to 203.0.113.1' for a packet that has no business on an uplink, else None."""
    if packet[0] >> 4 == 4:
        head, protocol = (packet[0] & 15) * 4, packet[9]
        fragment = struct.unpack("!H", packet[6:8])[0] & 0x1FFF
        where: Any = ipaddress.ip_address(packet[16:20])
    elif packet[0] >> 4 == 6:
        head, protocol, fragment = 40, packet[6], 0
        where = ipaddress.ip_address(packet[24:40])
    else:
        return None  # ARP
    body = packet[head:]
    if protocol == UDP and not fragment and PORT in struct.unpack("!HH", body[:4]):
        return None
    if where.is_multicast or (protocol == ICMP6 and body[0] in NEIGHBOURS):
        return None
    if (protocol, body[0]) in UNREACHABLE and _leak(body[8:]) is None:
        return None  # the host's answer to WireGuard that nobody listens for any more
    return f"{PROTOCOLS.get(protocol, protocol)} to {where}"


class Sealed:
    """One lab with all of it; tests share it, and each leaves it in order."""

    def __init__(self, lab: Lab, daemon: Daemon, exits: contextlib.ExitStack) -> None:
        self.lab, self.daemon, self.exits = lab, daemon, exits
        self.server, self.internet = lab.server, lab.internet
        self.image = make_shell(daemon.client)
        self.internet.ip(f"address add {WORLD4}/32 dev lo", f"address add {WORLD6}/128 dev lo nodad")
        self.server.ip("route add default via 198.51.100.9", "route add default via 2001:db8:2::9")
        exits.enter_context(_echo(self.internet, WORLD4))
        exits.enter_context(_echo(self.internet, WORLD6))
        self.tunnel = new_name("home")
        (ours, our_public), (theirs, their_public) = key_pair(), key_pair()
        self.config = _config(
            ours, "10.66.0.2/24, fd66::2/64", their_public, "0.0.0.0/0, ::/0", "Table = off"
        )
        self.config += f"Endpoint = 198.51.100.9:{PORT}\nPersistentKeepalive = 1\n"
        provider = _config(
            theirs,
            "10.66.0.1/24, fd66::1/64",
            our_public,
            "10.66.0.2/32, fd66::2/128",
            f"ListenPort = {PORT}",
        )
        self.far_end = exits.enter_context(plain_peer(self.internet, provider, lab.engine))
        self.agent: Agent = lab.agent(settings=daemon.environment).start()
        self.make_tunnel()

    @property
    def interface(self) -> str:
        """The tunnel's."""
        return f"wg-{self.tunnel}"

    def make_tunnel(self) -> None:
        """As a provider's config file makes it: default routes inside, none on the host."""
        self.agent.call("tunnel.import", name=self.tunnel, text=self.config)
        self.agent.call("tunnel.activate", name=self.tunnel)

    def sender(self, network: str, **more: Any) -> Container:
        """A container that sends without pause; its DNS server is asked from inside it."""
        container = self.daemon.client.containers.run(
            self.image,
            ["sh", "-c", SEND],
            detach=True,
            network=network,
            dns=[WORLD4],
            stop_signal="SIGKILL",
            **more,
        )
        self.exits.callback(_removed, container)
        return container

    @contextlib.contextmanager
    def counted(self) -> Iterator[Counted]:
        """What leaves the server, by whichever link, while the block runs and WATCHED seconds longer."""
        counted = Counted()
        inside, uplinks = Wire(self.internet, self.far_end), [Wire(self.server, f"eth{n}") for n in (0, 1)]
        with inside, uplinks[0], uplinks[1]:
            yield counted
            time.sleep(WATCHED)
            counted.arrived = inside.arrived()
            counted.leaked = [word for uplink in uplinks for word in uplink.leaked()]

    def flows(self, least: int = 5) -> bool:
        """Whether so many packets come out of the tunnel in half a second."""
        with Wire(self.internet, self.far_end) as far_end, contextlib.suppress(AssertionError):
            wait_until(lambda: far_end.arrived() >= least, within=0.5)
            return True
        return False

    def wait_for_flow(self) -> None:
        """Until containers are heard behind the tunnel again."""
        wait_until(self.flows, what="packets through the tunnel")


def _config(private: str, addresses: str, public: str, allowed: str, more: str) -> str:
    return (
        f"[Interface]\nPrivateKey = {private}\nAddress = {addresses}\n{more}\n\n"
        f"[Peer]\nPublicKey = {public}\nAllowedIPs = {allowed}\n"
    )


@contextlib.contextmanager
def _echo(namespace: Namespace, address: str) -> Iterator[None]:
    """A TCP service that swallows what it is told."""
    listener = namespace.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((address, ECHO_PORT))
    listener.listen(50)
    ended = threading.Event()

    def serve() -> None:
        held: list[socket.socket] = []
        listener.settimeout(0.1)
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                held.append(listener.accept()[0])
        for connection in held:
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        listener.close()


def _removed(container: Container) -> None:
    with contextlib.suppress(Exception):
        container.remove(force=True)


@contextlib.contextmanager
def sealed_lab(engine: str) -> Iterator[Sealed]:
    """All of it, with a namespace 'web' through the tunnel."""
    with contextlib.ExitStack() as exits:
        lab = Lab(engine)
        exits.callback(lab.close)
        sealed = Sealed(lab, exits.enter_context(daemon_in(lab.server)), exits)
        sealed.agent.call("namespace.create", name="web", tunnel=sealed.tunnel)
        yield sealed
