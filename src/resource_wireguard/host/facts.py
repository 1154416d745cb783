"""What changes by itself: the observation of a host, and what sources have learned."""

from collections.abc import Mapping, Sequence

import msgspec

from resource_wireguard.host.state import Device, HostState, Link, Peer, Route
from resource_wireguard.model.keys import PublicKey

SESSION_LIFETIME = 180.0
"""Seconds: REJECT_AFTER_TIME of the WireGuard paper; a handshake older than this carries no traffic."""

OFFLINE_AFTER = 3600.0
"""Seconds without a handshake after which a silent peer is called offline rather than idle."""


class PeerFacts(msgspec.Struct, frozen=True, gc=False):
    """What a device knows of a peer: endpoint as 'address:port', handshake in Unix seconds, bytes."""

    endpoint: str | None = None
    latest_handshake: float | None = None
    rx_bytes: int = 0
    tx_bytes: int = 0


class LinkFacts(msgspec.Struct, frozen=True, gc=False):
    """What the kernel counts of an interface: packets it could not carry, since the interface was made.

    errors: without a session, or from an address its peer may not use. dropped: no room in a queue.
    """

    rx_errors: int = 0
    tx_errors: int = 0
    rx_dropped: int = 0
    tx_dropped: int = 0


class Problem(msgspec.Struct, frozen=True):
    """Something that could not be observed or applied; interface '' where it concerns the whole host.

    again_in: seconds until it is worth trying again, where that is known.
    """

    message: str
    hint: str = ""
    interface: str = ""
    again_in: float | None = None


class Path(msgspec.Struct, frozen=True):
    """The way to a destination; the mark keeps it off our own tunnels."""

    address: str
    fwmark: int = 0


class Questions(msgspec.Struct, frozen=True):
    """What an observation is to find out beyond our own objects: the MTU of paths, the value of sysctls.

    docker asks Docker for its networks of ours, even if the kernel shows no bridge of one; containers are
    those that it is asked for by name.
    """

    paths: frozenset[Path] = frozenset()
    sysctls: frozenset[str] = frozenset()
    docker: bool = False
    containers: frozenset[str] = frozenset()


class ContainerFacts(msgspec.Struct, frozen=True):
    """A Docker container: mode is how it was started ('default', 'host', the name of a network, …).

    asks_outside says that its DNS queries are made by Docker from the host, past whatever the container is
    bound to.
    """

    name: str
    running: bool
    mode: str
    networks: frozenset[str]
    asks_outside: bool = False


class DockerFacts(msgspec.Struct, frozen=True):
    """What Docker said, where it was asked: answered is None if it was not, False if silence says why not.

    bridges are those of our networks that the kernel has, whether or not Docker runs. containers has those
    that were asked for and those attached to our networks, by name.
    """

    answered: bool | None = None
    bridges: frozenset[str] = frozenset()
    containers: Mapping[str, ContainerFacts] = {}
    silence: Problem | None = None


class Observation(msgspec.Struct, frozen=True):
    """One look at the host. state holds our objects only; complete is False where a part did not answer.

    engine is what new links would be made with: 'kernel', 'userspace', or None where there is neither.
    path_mtu answers the questions asked, in bytes; default_mtu is that of the default route's link.
    links has the counters of our interfaces by name.
    """

    state: HostState = HostState()
    peers: Mapping[tuple[str, PublicKey], PeerFacts] = {}
    engine: str | None = None
    path_mtu: Mapping[Path, int] = {}
    default_mtu: int = 1500
    problems: tuple[Problem, ...] = ()
    complete: bool = True
    links: Mapping[str, LinkFacts] = {}
    docker: DockerFacts = DockerFacts()


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A WireGuard interface that is not ours, as it runs; index is the kernel's number of the link.

    routes are those that a person or wg-quick(8) made through it: no gateway, no source, no metrics of
    their own. alias is what somebody wrote on the link.
    """

    index: int
    link: Link
    alias: str | None
    device: Device | None
    peers: tuple[Peer, ...] = ()
    endpoints: Mapping[PublicKey, str] = {}
    addresses: tuple[str, ...] = ()
    routes: frozenset[Route] = frozenset()


class Survey(msgspec.Struct, frozen=True):
    """What others use on this host, ours included: asked before something new is chosen.

    reserved_ports is what a port registry on this host has given away, and to whom. ipv6 says whether new
    interfaces can be given IPv6 addresses here: in many containers they cannot. docker_networks are names,
    docker_asks_outside is for containers that are told no DNS server (see ContainerFacts); both, and Docker's
    prefixes, are in it where Docker was asked.
    """

    prefixes: frozenset[str] = frozenset()
    udp_ports: frozenset[int] = frozenset()
    interfaces: frozenset[str] = frozenset()
    public_address: str | None = None
    reserved_ports: Mapping[int, str] = {}
    ipv6: bool = True
    docker_networks: frozenset[str] = frozenset()
    docker_asks_outside: bool = False


class Facts(msgspec.Struct, frozen=True):
    """All that compile may know besides specs; now is Unix time in seconds.

    heard is what each device knew of its peers when it was last seen: a device that has died knows nothing.
    """

    now: float
    observation: Observation = Observation()
    resolved: Mapping[str, str] = {}
    heard: Mapping[str, Mapping[tuple[str, PublicKey], PeerFacts]] = {}

    def latest_handshake(self, place: tuple[str, PublicKey]) -> float:
        """When a peer last shook hands on an interface under a key (Unix seconds); 0.0 where it never did.

        A device that does not answer is as it was when it last did.
        """
        seen = self.observation.peers.get(place) or self.heard.get(place[0], {}).get(place)
        return (seen.latest_handshake if seen else None) or 0.0

    def latest(self, places: Sequence[tuple[str, PublicKey]]) -> int:
        """At which of its places, by number, a peer shook hands last; the earlier one of a tie."""
        return max(range(len(places)), key=lambda number: (self.latest_handshake(places[number]), -number))

    def handshake_age(self, interface: str, key: PublicKey) -> float | None:
        """Seconds since the latest handshake with a peer, None where there was none."""
        peer = self.observation.peers.get((interface, key))
        if peer is None or peer.latest_handshake is None:
            return None
        return max(0.0, self.now - peer.latest_handshake)


def peer_state(enabled: bool, peer: PeerFacts | None, now: float, fresh_traffic: bool = False) -> str:
    """'online', 'idle', 'offline', 'never' or 'disabled'.

    A peer without keepalive that says nothing is idle, not down: its last session has ended, and the
    next packet starts another. Only after OFFLINE_AFTER is it called offline.
    """
    if not enabled:
        return "disabled"
    if peer is None or peer.latest_handshake is None:
        return "never"
    age = now - peer.latest_handshake
    if age < SESSION_LIFETIME or fresh_traffic:
        return "online"
    return "idle" if age < OFFLINE_AFTER else "offline"
