"""The rules of Linux that the in-memory host obeys, each with the kernel function that enforces it.

A plan that a real machine would refuse is refused here with the same errno. A plan that would touch a foreign
object is an AssertionError, because no refusal by the kernel would save it on a real machine.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from resource_wireguard.errors import ResourceError
from resource_wireguard.host.diff import Action
from resource_wireguard.host.facts import PeerFacts
from resource_wireguard.host.render import line_of
from resource_wireguard.host.state import (
    Address,
    Attachment,
    Device,
    DockerNetwork,
    Link,
    NetNamespace,
    Peer,
    PeerEndpoint,
    Record,
    Route,
    Rule,
    Sysctl,
    Table,
)
from resource_wireguard.model.keys import PublicKey
from resource_wireguard.model.names import INTERFACE_MAX
from resource_wireguard.model.net import is_v6, network_of
from resource_wireguard.system.fake_docker import Conflict, FakeDocker
from resource_wireguard.system.fake_events import FakeEvents

MAIN_TABLE = 254
IPV6_MIN_MTU = 1280
"""Bytes: include/uapi/linux/ipv6.h; below it a link has no IPv6 at all (addrconf_notify)."""

SYSCTLS = {
    "net.ipv4.ip_forward": "0",
    "net.ipv6.conf.all.forwarding": "0",
    "net.ipv4.conf.all.src_valid_mark": "0",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.bridge.bridge-nf-call-iptables": "1",
    "net.bridge.bridge-nf-call-ip6tables": "1",
}


@dataclass(frozen=True, slots=True)
class ForeignTable:
    """Somebody else's nftables table."""

    family: str
    name: str


@dataclass(frozen=True, slots=True)
class UdpSocket:
    """Somebody else's bound UDP port."""

    port: int


Foreign = (
    Link | Device | Peer | PeerEndpoint | Address | Route | Rule | NetNamespace | ForeignTable | UdpSocket
)


class Refused(Exception):
    """The kernel said no."""

    def __init__(self, number: int, hint: str = "") -> None:
        super().__init__(os.strerror(number))
        self.hint = hint


@dataclass(slots=True)
class Interface:
    """A link and all that lives and dies with it; the first address of a subnet is its primary one.

    The bridge of a Docker network of ours is no link of ours, but addresses of ours may lie on it.
    """

    link: Link
    foreign: bool = False
    bridge: bool = False
    device: Device | None = None
    peers: dict[PublicKey, Peer] = field(default_factory=dict)
    endpoints: dict[PublicKey, str] = field(default_factory=dict)
    learned: dict[PublicKey, PeerFacts] = field(default_factory=dict)
    addresses: dict[str, bool] = field(default_factory=dict)
    """With whether they are bare."""

    def routing(self) -> Iterator[Record]:
        """The part that rtnetlink answers for."""
        if not self.bridge:
            yield self.link
        for address, bare in self.addresses.items():
            yield Address(self.link.name, address, bare)

    def wireguard(self) -> Iterator[Record]:
        """The part that the engine answers for."""
        if self.device:
            yield self.device
        yield from self.peers.values()
        for key, endpoint in self.endpoints.items():
            yield PeerEndpoint(self.link.name, key, endpoint)

    def be_told(self, thing: Device | Peer | PeerEndpoint) -> None:
        """What somebody else sets with wg(8)."""
        match thing:
            case Device():
                self.device = thing
            case Peer():
                self.peers[thing.public_key] = thing
            case PeerEndpoint():
                self.endpoints[thing.public_key] = thing.endpoint

    def facts(self) -> Iterator[tuple[tuple[str, PublicKey], PeerFacts]]:
        """What the engine has learned of each peer."""
        for key in self.peers:
            learned = self.learned.get(key, PeerFacts())
            yield (self.link.name, key), replace(learned, endpoint=self.endpoints.get(key))


class FakeKernel:
    """All objects of a host and of the network namespaces on it. engine is what links can be made with."""

    def __init__(self, engine: str | None) -> None:
        self.engine = engine
        self.sysctls = dict(SYSCTLS)
        self.namespaces: dict[str, NetNamespace] = {}
        self.interfaces: dict[str, Interface] = {}
        self.routes: dict[object, Route] = {}
        self.rules: dict[Rule, None] = {}
        self.tables: dict[str, Table] = {}
        self.docker = FakeDocker()
        self.protected = True
        self.others: dict[object, Foreign] = {}
        self.refusals: dict[tuple[type[Record], str | None], int] = {}
        self.subscribers: list[FakeEvents] = []

    def ring(self) -> None:
        """Tell all subscribers of a change."""
        for subscriber in self.subscribers:
            subscriber.ring()

    def carry_out(self, action: Action) -> None:
        """One action; Refused with the kernel's errno, AssertionError for a foreign object."""
        self._check_foreign(action)
        record = action.record
        for interface in (None, record.interface):
            if (type(record), interface) in self.refusals:
                raise Refused(self.refusals[type(record), interface])
        match record:
            case NetNamespace():
                self._namespace(action, record)
            case Link():
                self._link(action, record)
            case Device():
                self._device(record)
            case Peer():
                self._peer(action, record)
            case PeerEndpoint():
                self._endpoint(record)
            case Address():
                self._address(action, record)
            case Route():
                self._route(action, record)
            case Rule():
                self._rule(action, record)
            case Sysctl():
                self._sysctl(record)
            case Table():
                self._table(action, record)
            case DockerNetwork() | Attachment():
                self._docker(action)
        if not isinstance(record, Peer | PeerEndpoint | Device):
            self.ring()

    def _check_foreign(self, action: Action) -> None:
        record = action.record
        if action.verb == "create" and isinstance(record, Link | Route | Rule | NetNamespace):
            return  # the kernel refuses this by itself
        on = self.interfaces.get(record.interface or "")
        assert not (on and on.foreign), f"touches a foreign link: {line_of(action)}"
        ours = isinstance(record, Route) and record.key in self.routes
        assert ours or identity(record) not in self.others, f"touches what is not ours: {line_of(action)}"

    def _namespace(self, action: Action, record: NetNamespace) -> None:
        if action.verb == "delete":
            del self.namespaces[record.name]
            for name in [i.link.name for i in self.interfaces.values() if i.link.netns == record.name]:
                self.remove_link(name)  # default_device_exit_batch()
        elif action.verb == "create" and identity(record) in self.others:
            raise Refused(errno.EEXIST, "it exists and is not ours")
        else:
            self.namespaces[record.name] = record

    def _link(self, action: Action, link: Link) -> None:
        if action.verb == "delete":
            self._existing(link.name)
            self.remove_link(link.name)
        elif action.verb == "change":
            self._change_link(link)
        else:
            self._create_link(link)

    def _create_link(self, link: Link) -> None:
        if len(link.name.encode()) > INTERFACE_MAX or "/" in link.name or not link.name:
            raise Refused(errno.EINVAL)  # dev_valid_name()
        if link.name in self.interfaces:
            hint = "it exists and is not ours" if self.interfaces[link.name].foreign else ""
            raise Refused(errno.EEXIST, hint)  # __rtnl_newlink()
        if link.netns is not None and link.netns not in self.namespaces:
            raise Refused(errno.ENOENT, "its network namespace is not there")
        if self.engine != link.engine:
            raise Refused(errno.EOPNOTSUPP, f"no {link.engine} engine here")
        self.interfaces[link.name] = Interface(link)

    def _change_link(self, link: Link) -> None:
        interface = self._existing(link.name)
        device = interface.device
        assert link.netns == interface.link.netns, f"{link.name} is made anew, not moved"
        if link.up and not interface.link.up and device and device.listen_port in self.bound_ports():
            raise Refused(errno.EADDRINUSE)  # wg_open() → wg_socket_init()
        interface.link = link
        if not link.up or link.mtu < IPV6_MIN_MTU:
            # addrconf_ifdown(): without IPv6 on the link its addresses and routes go
            self._drop_addresses(interface, [a for a in interface.addresses if is_v6(a)])
            self._drop_routes(link.name, v6=True)
        if not link.up:
            self._drop_routes(link.name, v6=False)  # fib_disable_ip(); v4 addresses stay

    def remove_link(self, name: str) -> None:
        """Take a link away, and its routes with it."""
        self._drop_routes(name, v6=True)
        self._drop_routes(name, v6=False)
        del self.interfaces[name]

    def _device(self, device: Device) -> None:
        interface = self._existing(device.interface)
        held = interface.device.listen_port if interface.device else None
        taken = self.bound_ports() if interface.link.up else set()
        if device.listen_port != held and device.listen_port in taken:
            raise Refused(errno.EADDRINUSE)  # wg_socket_init() → udp_sock_create()
        interface.device = device
        self._forget_peer(interface, device.private_key.public())  # wg_set_device(): no peer may be oneself

    def _peer(self, action: Action, peer: Peer) -> None:
        interface = self._existing(peer.interface)
        if action.verb == "delete":
            self._forget_peer(interface, peer.public_key)
            return
        if interface.device and interface.device.private_key.public() == peer.public_key:
            return  # set_peer(): one's own key is passed over without an error
        for key, other in interface.peers.items():
            # allowedips.c, add(): an allowed IP has one owner, and moves to the last who asks
            left = other.allowed_ips - peer.allowed_ips
            if key != peer.public_key and left != other.allowed_ips:
                interface.peers[key] = replace(other, allowed_ips=left)
        interface.peers[peer.public_key] = peer

    def _forget_peer(self, interface: Interface, key: PublicKey) -> None:
        for table in (interface.peers, interface.endpoints, interface.learned):
            table.pop(key, None)

    def _endpoint(self, record: PeerEndpoint) -> None:
        interface = self._existing(record.interface)
        if record.public_key not in interface.peers:
            raise Refused(errno.ENOENT)
        interface.endpoints[record.public_key] = record.endpoint

    def _address(self, action: Action, record: Address) -> None:
        interface = self._existing(record.interface)
        if action.verb == "delete":
            if record.address not in interface.addresses:
                raise Refused(errno.EADDRNOTAVAIL)  # inet_rtm_deladdr()
            self._drop_addresses(interface, self._with_secondaries(interface, record.address))
            return
        if record.address in interface.addresses:
            raise Refused(errno.EEXIST)  # __inet_insert_ifa()
        if is_v6(record.address) and interface.link.mtu < IPV6_MIN_MTU:
            raise Refused(errno.EINVAL)  # ipv6_find_idev()
        interface.addresses[record.address] = record.bare

    def _with_secondaries(self, interface: Interface, address: str) -> list[str]:
        """__inet_del_ifa(): a subnet's first address takes the others along, unless promote_secondaries."""
        if is_v6(address):
            return [address]
        subnet = [a for a in interface.addresses if network_of(a) == network_of(address)]
        return subnet if subnet[0] == address else [address]

    def _drop_addresses(self, interface: Interface, addresses: Iterable[str]) -> None:
        for address in addresses:
            del interface.addresses[address]
        if not any(not is_v6(address) for address in interface.addresses):
            # fib_inetaddr_event(): with its last address a link loses its IPv4 routes
            self._drop_routes(interface.link.name, v6=False)

    def _route(self, action: Action, route: Route) -> None:
        if action.verb == "delete":
            if self.routes.pop(route.key, None) is None:
                raise Refused(errno.ESRCH)  # fib_table_delete()
            return
        if route.interface is not None:
            link = self._existing(route.interface).link
            if not link.up:
                raise Refused(errno.ENETDOWN)  # fib_check_nh()
            assert link.netns == route.netns, f"{link.name} lies elsewhere than its route"
        if action.verb == "create" and route.key in {*self.routes, *self._other_routes()}:
            raise Refused(errno.EEXIST)  # fib_table_insert()
        self.routes[route.key] = route

    def _other_routes(self) -> Iterator[object]:
        """Keys of routes that are not ours: other people's, and the kernel's own of each IPv4 subnet."""
        for thing in self.others.values():
            if isinstance(thing, Route):
                yield thing.key
        for interface in self.interfaces.values():
            for address, bare in interface.addresses.items():
                if interface.link.up and not bare and not is_v6(address) and not address.endswith("/32"):
                    yield network_of(address), MAIN_TABLE, 0, interface.link.netns  # fib_add_ifaddr()

    def _drop_routes(self, name: str, *, v6: bool) -> None:
        for routes in (self.routes, self.others):
            for key, route in list(routes.items()):
                if isinstance(route, Route) and route.interface == name and is_v6(route.prefix) == v6:
                    del routes[key]

    def _rule(self, action: Action, rule: Rule) -> None:
        if action.verb == "delete":
            if rule not in self.rules:
                raise Refused(errno.ENOENT)  # fib_nl_delrule()
            del self.rules[rule]
        elif rule in self.rules or identity(rule) in self.others:
            raise Refused(errno.EEXIST)  # fib_nl_newrule() → rule_exists()
        else:
            self.rules[rule] = None

    def _sysctl(self, record: Sysctl) -> None:
        if record.name not in self.sysctls:
            raise Refused(errno.ENOENT)
        self.sysctls[record.name] = record.value

    def _table(self, action: Action, table: Table) -> None:
        if action.verb != "delete":
            self.tables[table.family] = table  # one nft transaction replaces all of it
        elif self.tables.pop(table.family, None) is None:
            raise Refused(errno.ENOENT)

    def _docker(self, action: Action) -> None:
        if action.verb == "create" and not self.protected:
            raise Refused(errno.EPERM, "not made, as its protections could not be")
        try:
            self.docker.carry_out(action)
        except (Conflict, ResourceError) as error:
            raise Refused(errno.EPERM, str(error)) from None
        bridges = {network.bridge: network for network in self.docker.networks.values()}
        for name in [name for name, there in self.interfaces.items() if there.bridge and name not in bridges]:
            self.remove_link(name)
        for name, network in bridges.items():
            self.interfaces.setdefault(name, Interface(Link(name, "", "bridge", network.mtu), bridge=True))

    def _existing(self, name: str) -> Interface:
        if name not in self.interfaces:
            raise Refused(errno.ENODEV)
        return self.interfaces[name]

    def bound_ports(self) -> set[int]:
        """UDP ports in use: WireGuard binds when the link goes up, and lets go when it goes down."""
        devices = [i.device for i in self.interfaces.values() if i.device and i.link.up]
        sockets = [thing for thing in self.others.values() if isinstance(thing, UdpSocket)]
        return {d.listen_port for d in devices if d.listen_port} | {socket.port for socket in sockets}


def identity(thing: Foreign | Record) -> object:
    """What a record and a foreign object have in common when they are one thing to the kernel."""
    if isinstance(thing, Record):
        return type(thing), thing.key
    return thing
