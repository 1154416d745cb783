"""What the user said: tunnels and peers, frozen and validated."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from resource_wireguard.model.keys import PresharedKey, PrivateKey, PublicKey
from resource_wireguard.model.names import netns_name, not_found
from resource_wireguard.model.net import Endpoint

NO_TABLE = 0
"""RT_TABLE_UNSPEC: a tunnel with this table gets no routes."""


class PeerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One peer of one tunnel, as this host sees it.

    allowed_ips is what this host routes to the peer: its own addresses, and the networks behind it.
    keepalive is our side's, in seconds. endpoint_since is when the endpoint was given: an older session says
    nothing about it. What begins with config_ goes only into the peer's own config: what it routes to this
    host and which DNS servers it asks (empty: the tunnel's default), its keepalive (None: the setting's).
    """

    name: str
    public_key: PublicKey
    enabled: bool = True
    addresses: tuple[str, ...] = ()
    allowed_ips: frozenset[str] = frozenset()
    preshared_key: PresharedKey | None = None
    has_private_key: bool = False
    endpoint: Endpoint | None = None
    endpoint_since: float = 0.0
    keepalive: int = 0
    config_allowed_ips: tuple[str, ...] = ()
    config_dns: tuple[str, ...] = ()
    config_keepalive: int | None = None
    created_at: float = 0.0


class TunnelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One tunnel of this host: our intent, of which the interface is the kernel's side.

    number is unique among the tunnels of a host and small; marks and tables are derived from it.
    endpoint is what peers are told to reach this host by. mtu None means: from the path to the peers.
    fwmark 0 means: one of ours, where one is needed. table None means: routes in the main table, and
    what wg-quick(8) does for default routes; NO_TABLE: no routes; a number: all routes there, no rules.
    dns goes into the peers' configs; host_dns is what wg-quick(8) would make this host ask (servers, then
    search domains), kept for exports. interface, key and listen_port are those of its first device; Further
    has more. generation counts how often another device took the first one's place: from then on its
    addresses bring no route along, and the routes to their networks are ours.
    """

    name: str
    number: int
    interface: str
    private_key: PrivateKey
    public_key: PublicKey
    listen_port: int
    addresses: tuple[str, ...]
    active: bool = False
    mtu: int | None = None
    exit: bool = False
    endpoint: Endpoint | None = None
    dns: tuple[str, ...] = ()
    host_dns: tuple[str, ...] = ()
    fwmark: int = 0
    table: int | None = None
    generation: int = 0
    peers: tuple[PeerSpec, ...] = ()
    created_at: float = 0.0

    def peer(self, name: str) -> PeerSpec:
        """The peer of that name; NotFound with the nearest name."""
        for peer in self.peers:
            if peer.name == name:
                return peer
        raise not_found("peer", name, [peer.name for peer in self.peers], f"peer list {self.name}")


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """One more place where a peer of a tunnel can be met: under another key, or on another device.

    What is not said here (allowed IPs, whether it is enabled) is the peer's. private_key is the peer's own,
    where it was made here. shares_preshared_key: it has the peer's, whatever preshared_key says. holds says
    whether its allowed IPs lie with this key rather than with another one on the same device; None: with the
    one that shook hands last.
    """

    peer: str
    public_key: PublicKey
    private_key: PrivateKey | None = None
    preshared_key: PresharedKey | None = None
    shares_preshared_key: bool = False
    endpoint: Endpoint | None = None
    endpoint_since: float = 0.0
    keepalive: int = 0
    holds: bool | None = None
    leaving: bool = False


class DeviceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A further device of a tunnel: an interface with a key and a port, beside the tunnel's own.

    Its private key may be a new one or, with None, the tunnel's (the same host at another port). seats None:
    all that sit on the tunnel's first device sit here too, under the same keys. A successor is to take the
    first device's place: new configs speak of it, and endpoint is what peers are told to reach it by. awaited
    names peers that await it at an endpoint of theirs, where it calls them. Nothing is sent by one that is
    leaving: it only hears what is still on its way, as a seat that is leaving does.
    """

    interface: str
    private_key: PrivateKey | None
    public_key: PublicKey
    listen_port: int
    seats: tuple[Seat, ...] | None = None
    successor: bool = False
    endpoint: Endpoint | None = None
    awaited: tuple[tuple[str, Endpoint], ...] = ()
    leaving: bool = False

    def key_of(self, tunnel: TunnelSpec) -> PrivateKey:
        """Its own key, or its tunnel's."""
        return tunnel.private_key if self.private_key is None else self.private_key


class Further(msgspec.Struct, frozen=True):
    """What a tunnel has for a while beside its device and its peers' keys.

    Packets are taken on every device. A peer's prefixes are routed to the one, and lie with the key, on which
    it shook hands last; the earlier in this order as long as there was none: the tunnel's own device,
    then devices; the peer's own key, then seats (which are on the first device, and on those without
    seats of their own). retired are keys that were taken out of use, and must not come back unasked.
    """

    devices: tuple[DeviceSpec, ...] = ()
    seats: tuple[Seat, ...] = ()
    retired: frozenset[PublicKey] = frozenset()

    @property
    def successor(self) -> DeviceSpec | None:
        """The device that is to take the first one's place, if there is one."""
        return next((device for device in self.devices if device.successor), None)


NOTHING_FURTHER = Further()


class AttachedSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A container that was attached to a namespace while it ran, by name: so one that is made anew is too.

    before names the networks it had then, which it gets back when it is leaving.
    """

    container: str
    before: tuple[str, ...] = ()
    leaving: bool = False


class NamespaceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A set of programs that reach the world through one tunnel only, or, where tunnel is None, not at all.

    kind is 'docker' (a Docker network) or 'netns' (a Linux network namespace, in which the tunnel's interface
    lies). number is unique among the namespaces of a host and small; marks and tables are derived from it.
    prefixes are those of a Docker network, mtu its containers' in bytes. intercontainer: whether they may
    speak to each other.
    dns are the servers that programs in a network namespace ask; empty: those of the tunnel.
    """

    name: str
    number: int
    kind: str
    tunnel: str | None = None
    prefixes: tuple[str, ...] = ()
    intercontainer: bool = False
    dns: tuple[str, ...] = ()
    mtu: int = 1420
    attached: tuple[AttachedSpec, ...] = ()
    created_at: float = 0.0

    @property
    def owner(self) -> str:
        """The name its objects on the host go by: a tunnel may have the namespace's own."""
        return f"namespace {self.name}"

    @property
    def network(self) -> str:
        """The name of its Docker network."""
        return f"wg-{self.name}"


class Specs(msgspec.Struct, frozen=True):
    """All specs of a host, by the feature that owns them; tunnels are the noun that features share."""

    by_feature: Mapping[str, Any] = {}

    @property
    def tunnels(self) -> tuple[TunnelSpec, ...]:
        """All tunnels, active or not, by name."""
        tunnels: tuple[TunnelSpec, ...] = self.by_feature.get("tunnel", ())
        return tunnels

    def netns_of(self, tunnel: str) -> str | None:
        """The Linux network namespace in which a tunnel's interface lies; None: in the host's own."""
        found = (one for one in self.namespaces if one.kind == "netns" and one.tunnel == tunnel)
        return next((netns_name(one.name) for one in found), None)

    @property
    def namespaces(self) -> tuple[NamespaceSpec, ...]:
        """All namespaces by name."""
        namespaces: tuple[NamespaceSpec, ...] = self.by_feature.get("isolation", ())
        return namespaces

    def further(self, tunnel: str) -> Further:
        """What a tunnel has beside its first device; nothing, most of the time."""
        every: Mapping[str, Further] = self.by_feature.get("rotate", {})
        return every.get(tunnel, NOTHING_FURTHER)

    def devices(self) -> Iterator[tuple[TunnelSpec, str, int]]:
        """Every device of every tunnel, active or not: its tunnel, interface and listen port."""
        for tunnel in self.tunnels:
            yield tunnel, tunnel.interface, tunnel.listen_port
            for device in self.further(tunnel.name).devices:
                yield tunnel, device.interface, device.listen_port

    def places(self, tunnel: TunnelSpec, peer: PeerSpec) -> tuple[tuple[str, PublicKey], ...]:
        """Where a peer can be met: interfaces and keys, the tunnel's and its own first."""
        further = self.further(tunnel.name)
        if not further.devices and not further.seats:
            return ((tunnel.interface, peer.public_key),)
        keys = (peer.public_key, *(seat.public_key for seat in further.seats if seat.peer == peer.name))
        found = [(tunnel.interface, key) for key in keys]
        for device in further.devices:
            here = (
                keys if device.seats is None else [s.public_key for s in device.seats if s.peer == peer.name]
            )
            found.extend((device.interface, key) for key in here)
        return tuple(found)

    def tunnel(self, name: str) -> TunnelSpec:
        """The tunnel of that name; NotFound with the nearest name."""
        for tunnel in self.tunnels:
            if tunnel.name == name:
                return tunnel
        raise not_found("tunnel", name, [tunnel.name for tunnel in self.tunnels], "interface list")
