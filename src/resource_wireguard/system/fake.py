"""A host in memory that obeys the kernel's rules, so that tests of plans and passes mean something.

It answers to the same port as the real host. What it knows of Linux is written beside each rule, with the
kernel function that enforces it; a plan that a real machine would refuse is refused here with the same errno.
Foreign objects (`place_foreign`) are never part of an observation, and a plan that would touch one is an
AssertionError, because no refusal by the kernel would save it on a real machine.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from resource_wireguard.errors import ConflictError, HostError, NotFound
from resource_wireguard.host.diff import Action, Plan
from resource_wireguard.host.facts import Found, LinkFacts, Observation, PeerFacts, Problem, Questions, Survey
from resource_wireguard.host.render import line_of, noun_of
from resource_wireguard.host.state import (
    Address,
    Device,
    Link,
    Peer,
    PeerEndpoint,
    Record,
    Route,
    Rule,
    Sysctl,
    Table,
    state_of,
)
from resource_wireguard.model.keys import PublicKey
from resource_wireguard.model.names import INTERFACE_MAX
from resource_wireguard.model.net import is_v6, network_of

MAIN_TABLE = 254
IPV6_MIN_MTU = 1280
"""Bytes: include/uapi/linux/ipv6.h; below it a link has no IPv6 at all (addrconf_notify)."""

SYSCTLS = {
    "net.ipv4.ip_forward": "0",
    "net.ipv6.conf.all.forwarding": "0",
    "net.ipv4.conf.all.src_valid_mark": "0",
    "net.ipv4.conf.all.rp_filter": "0",
}


class Killed(BaseException):
    """The process died here: BaseException, as no `except Exception` outlives a SIGKILL."""


@dataclass(frozen=True, slots=True)
class ForeignTable:
    """Somebody else's nftables table."""

    family: str
    name: str


@dataclass(frozen=True, slots=True)
class UdpSocket:
    """Somebody else's bound UDP port."""

    port: int


Foreign = Link | Device | Peer | PeerEndpoint | Address | Route | Rule | ForeignTable | UdpSocket


class _Refused(Exception):
    """The kernel said no."""

    def __init__(self, number: int, hint: str = "") -> None:
        super().__init__(os.strerror(number))
        self.hint = hint


@dataclass(slots=True)
class _Interface:
    """A link and all that lives and dies with it; the first address of a subnet is its primary one."""

    link: Link
    foreign: bool = False
    device: Device | None = None
    peers: dict[PublicKey, Peer] = field(default_factory=dict)
    endpoints: dict[PublicKey, str] = field(default_factory=dict)
    learned: dict[PublicKey, PeerFacts] = field(default_factory=dict)
    addresses: dict[str, None] = field(default_factory=dict)

    def routing(self) -> Iterator[Record]:
        """The part that rtnetlink answers for."""
        yield self.link
        for address in self.addresses:
            yield Address(self.link.name, address)

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


class FakeEvents:
    """An eventfd that counts what changed since the last look."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """For select(2)."""
        return self._descriptor

    def drain(self) -> int:
        """How many changes were queued."""
        try:
            return os.eventfd_read(self._descriptor)
        except BlockingIOError:
            return 0

    def ring(self) -> None:
        """One more change."""
        os.eventfd_write(self._descriptor, 1)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)


class FakeHost:
    """The in-memory machine. Public fields are the knobs of tests; everything else goes through the port.

    applied lists each action in the order it was tried; stop_after names how many may be tried before the
    process is killed. engine is what new links can be made with.
    """

    def __init__(self, engine: str | None = "kernel") -> None:
        self.engine = engine
        self.default_mtu = 1500
        self.path_mtu: dict[str, int] = {}
        self.public_address: str | None = None
        self.sysctls = dict(SYSCTLS)
        self.applied: list[Action] = []
        self.stop_after: int | None = None
        self.observations = 0
        self.counters: dict[str, LinkFacts] = {}
        self._interfaces: dict[str, _Interface] = {}
        self._routes: dict[object, Route] = {}
        self._rules: dict[Rule, None] = {}
        self._tables: dict[str, Table] = {}
        self._foreign: dict[object, Foreign] = {}
        self._refusals: dict[tuple[type[Record], str | None], int] = {}
        self._mute: set[str] = set()
        self._subscribers: list[FakeEvents] = []

    # -- the port --

    def observe(self, questions: Questions = Questions()) -> Observation:  # noqa: B008 (frozen)
        """Our objects as they are; engines that were muted are a problem, and the look is incomplete."""
        self.observations += 1
        ours = [interface for interface in self._interfaces.values() if not interface.foreign]
        answering = [interface for interface in ours if interface.link.name not in self._mute]
        records: list[Record] = [record for interface in ours for record in interface.routing()]
        records += [record for interface in answering for record in interface.wireguard()]
        records += [*self._routes.values(), *self._rules, *self._tables.values()]
        records += [Sysctl(n, self.sysctls[n]) for n in sorted(questions.sysctls) if n in self.sysctls]
        return Observation(
            state_of(records),
            dict(fact for interface in answering for fact in interface.facts()),
            self.engine,
            {path: self.path_mtu.get(path.address, self.default_mtu) for path in questions.paths},
            self.default_mtu,
            tuple(Problem(f"engine of {name} does not answer", "", name) for name in sorted(self._mute)),
            complete=not self._mute,
            links={
                interface.link.name: self.counters.get(interface.link.name, LinkFacts()) for interface in ours
            },
        )

    def apply(self, plan: Plan) -> tuple[Problem, ...]:
        """Try each action; what lies on a link that could not be made is passed over in silence."""
        problems: list[Problem] = []
        without_link: set[str | None] = set()
        for action in plan:
            if action.record.interface in without_link:
                continue
            try:
                self._carry_out(action)
            except _Refused as refusal:
                interface = action.record.interface
                problems.append(
                    Problem(f"{noun_of(action.record)}: {refusal}", refusal.hint, interface or "")
                )
                if isinstance(action.record, Link):
                    without_link.add(interface)
            self._count(action)
        return tuple(problems)

    def survey(self, *, registry: bool = False) -> Survey:  # noqa: ARG002 (this host has none)
        """Everything in use on the host, whoever uses it."""
        addresses = [a for interface in self._interfaces.values() for a in interface.addresses]
        foreign = [r.prefix for r in self._foreign.values() if isinstance(r, Route)]
        routes = [route.prefix for route in self._routes.values()] + foreign
        return Survey(
            frozenset([*map(network_of, addresses), *(r for r in routes if not r.endswith("/0"))]),
            frozenset(self._bound_ports()),
            frozenset(self._interfaces),
            self.public_address,
        )

    def read_foreign(self, interface: str) -> Found:
        """An interface that a test has placed."""
        there = self._interfaces.get(interface)
        if there is None:
            raise NotFound(f"no interface {interface} on this host")
        if not there.foreign:
            raise ConflictError(f"interface {interface} is that of tunnel '{there.link.tunnel}' already")
        return Found(
            index=1,
            link=there.link,
            alias=None,
            device=there.device,
            peers=tuple(there.peers.values()),
            endpoints=dict(there.endpoints),
            addresses=tuple(there.addresses),
            routes=frozenset(
                route
                for route in self._foreign.values()
                if isinstance(route, Route) and route.interface == interface
            ),
        )

    def take_over(self, found: Found, tunnel: str, routes: Iterable[Route]) -> tuple[Problem, ...]:
        """Mark a link and its routes: from now on they are ours."""
        if (Link, found.link.name) in self._refusals:
            raise HostError(os.strerror(self._refusals[Link, found.link.name]))
        there = self._interfaces[found.link.name]
        there.link, there.foreign = replace(there.link, tunnel=tunnel), False
        for thing in (found.link, *(Address(found.link.name, a) for a in found.addresses), *routes):
            del self._foreign[_identity(thing)]
        self._routes.update((route.key, route) for route in routes)
        self._ring()
        return ()

    def events(self) -> FakeEvents:
        """A new subscription; WireGuard's own changes never ring, as netlink is silent about peers."""
        self._subscribers.append(FakeEvents())
        return self._subscribers[-1]

    # -- the world outside --

    def place_foreign(self, *things: Foreign) -> None:
        """Objects of somebody else, without our marks."""
        for thing in things:
            if isinstance(thing, Link):
                self._interfaces[thing.name] = _Interface(thing, foreign=True)
            elif isinstance(thing, Address):
                self._interfaces[thing.interface].addresses[thing.address] = None
            elif isinstance(thing, Device | Peer | PeerEndpoint):
                self._interfaces[thing.interface].be_told(thing)
                continue
            self._foreign[_identity(thing)] = thing
        self._ring()

    def foreign(self) -> dict[object, object]:
        """All that is not ours, to be compared before and after."""
        links: dict[object, object] = {
            name: (*interface.routing(), *interface.wireguard())
            for name, interface in self._interfaces.items()
            if interface.foreign
        }
        return {**self._foreign, **links}

    def tamper(self, *, gone: Record | None = None, there: Record | None = None) -> None:
        """What a person with ip(8), wg(8) and nft(8) does to our objects, under the same kernel rules."""
        if gone is not None:
            self._carry_out(Action("delete", before=gone))
        if there is not None:
            self._carry_out(Action("change" if self._exists(there) else "create", before=there, after=there))

    def kill_engine(self, name: str) -> None:
        """SIGKILL a userspace engine: the TUN device and all on it go with its last descriptor."""
        assert self._interfaces[name].link.engine == "userspace", f"{name} has no process to kill"
        self._remove_link(name)
        self._ring()

    def handshake(self, interface: str, key: PublicKey, endpoint: str, at: float, size: int = 148) -> None:
        """A peer shakes hands from an endpoint, which the engine learns (WireGuard paper, section 2.1)."""
        home = self._interfaces[interface]
        known = home.learned.get(key, PeerFacts())
        home.endpoints[key] = endpoint
        home.learned[key] = PeerFacts(endpoint, at, known.rx_bytes + size, known.tx_bytes + size)

    def refuse(self, kind: type[Record], interface: str | None = None, number: int = errno.EPERM) -> None:
        """Let the kernel refuse a kind of object, on one interface or (None) anywhere."""
        self._refusals[kind, interface] = number

    def mute(self, interface: str) -> None:
        """Let the engine of an interface not answer."""
        self._mute.add(interface)

    def relent(self) -> None:
        """End all refusals and silences."""
        self._refusals.clear()
        self._mute.clear()

    # -- the kernel --

    def _count(self, action: Action) -> None:
        self.applied.append(action)
        if self.stop_after is not None and len(self.applied) >= self.stop_after:
            raise Killed(line_of(action))

    def _ring(self) -> None:
        for subscriber in self._subscribers:
            subscriber.ring()

    def _carry_out(self, action: Action) -> None:
        self._check_foreign(action)
        record = action.record
        for interface in (None, record.interface):
            if (type(record), interface) in self._refusals:
                raise _Refused(self._refusals[type(record), interface])
        match record:
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
        if not isinstance(record, Peer | PeerEndpoint | Device):
            self._ring()

    def _check_foreign(self, action: Action) -> None:
        record = action.record
        if action.verb == "create" and isinstance(record, Link | Route | Rule):
            return  # the kernel refuses this by itself
        on = self._interfaces.get(record.interface or "")
        assert not (on and on.foreign), f"touches a foreign link: {line_of(action)}"
        ours = isinstance(record, Route) and record.key in self._routes
        assert ours or _identity(record) not in self._foreign, f"touches what is not ours: {line_of(action)}"

    def _link(self, action: Action, link: Link) -> None:
        if action.verb == "delete":
            self._existing(link.name)
            self._remove_link(link.name)
        elif action.verb == "change":
            self._change_link(link)
        else:
            self._create_link(link)

    def _create_link(self, link: Link) -> None:
        if len(link.name.encode()) > INTERFACE_MAX or "/" in link.name or not link.name:
            raise _Refused(errno.EINVAL)  # dev_valid_name()
        if link.name in self._interfaces:
            hint = "it exists and is not ours" if self._interfaces[link.name].foreign else ""
            raise _Refused(errno.EEXIST, hint)  # __rtnl_newlink()
        if self.engine != link.engine:
            raise _Refused(errno.EOPNOTSUPP, f"no {link.engine} engine here")
        self._interfaces[link.name] = _Interface(link)

    def _change_link(self, link: Link) -> None:
        interface = self._existing(link.name)
        device = interface.device
        if link.up and not interface.link.up and device and device.listen_port in self._bound_ports():
            raise _Refused(errno.EADDRINUSE)  # wg_open() → wg_socket_init()
        interface.link = link
        if not link.up or link.mtu < IPV6_MIN_MTU:
            # addrconf_ifdown(): without IPv6 on the link its addresses and routes go
            self._drop_addresses(interface, [a for a in interface.addresses if is_v6(a)])
            self._drop_routes(link.name, v6=True)
        if not link.up:
            self._drop_routes(link.name, v6=False)  # fib_disable_ip(); v4 addresses stay

    def _remove_link(self, name: str) -> None:
        self._drop_routes(name, v6=True)
        self._drop_routes(name, v6=False)
        del self._interfaces[name]

    def _device(self, device: Device) -> None:
        interface = self._existing(device.interface)
        held = interface.device.listen_port if interface.device else None
        taken = self._bound_ports() if interface.link.up else set()
        if device.listen_port != held and device.listen_port in taken:
            raise _Refused(errno.EADDRINUSE)  # wg_socket_init() → udp_sock_create()
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

    def _forget_peer(self, interface: _Interface, key: PublicKey) -> None:
        for table in (interface.peers, interface.endpoints, interface.learned):
            table.pop(key, None)

    def _endpoint(self, record: PeerEndpoint) -> None:
        interface = self._existing(record.interface)
        if record.public_key not in interface.peers:
            raise _Refused(errno.ENOENT)
        interface.endpoints[record.public_key] = record.endpoint

    def _address(self, action: Action, record: Address) -> None:
        interface = self._existing(record.interface)
        if action.verb == "delete":
            if record.address not in interface.addresses:
                raise _Refused(errno.EADDRNOTAVAIL)  # inet_rtm_deladdr()
            self._drop_addresses(interface, self._with_secondaries(interface, record.address))
            return
        if record.address in interface.addresses:
            raise _Refused(errno.EEXIST)  # __inet_insert_ifa()
        if is_v6(record.address) and interface.link.mtu < IPV6_MIN_MTU:
            raise _Refused(errno.EINVAL)  # ipv6_find_idev()
        interface.addresses[record.address] = None

    def _with_secondaries(self, interface: _Interface, address: str) -> list[str]:
        """__inet_del_ifa(): a subnet's first address takes the others along, unless promote_secondaries."""
        if is_v6(address):
            return [address]
        subnet = [a for a in interface.addresses if network_of(a) == network_of(address)]
        return subnet if subnet[0] == address else [address]

    def _drop_addresses(self, interface: _Interface, addresses: Iterable[str]) -> None:
        for address in addresses:
            del interface.addresses[address]
        if not any(not is_v6(address) for address in interface.addresses):
            # fib_inetaddr_event(): with its last address a link loses its IPv4 routes
            self._drop_routes(interface.link.name, v6=False)

    def _route(self, action: Action, route: Route) -> None:
        if action.verb == "delete":
            if self._routes.pop(route.key, None) is None:
                raise _Refused(errno.ESRCH)  # fib_table_delete()
            return
        if route.interface is not None and not self._existing(route.interface).link.up:
            raise _Refused(errno.ENETDOWN)  # fib_check_nh()
        if action.verb == "create" and route.key in {*self._routes, *self._other_routes()}:
            raise _Refused(errno.EEXIST)  # fib_table_insert()
        self._routes[route.key] = route

    def _other_routes(self) -> Iterator[object]:
        """Keys of routes that are not ours: other people's, and the kernel's own of each IPv4 subnet."""
        for thing in self._foreign.values():
            if isinstance(thing, Route):
                yield thing.key
        for interface in self._interfaces.values():
            for address in interface.addresses:
                if interface.link.up and not is_v6(address) and not address.endswith("/32"):
                    yield network_of(address), MAIN_TABLE, 0  # fib_add_ifaddr()

    def _drop_routes(self, name: str, *, v6: bool) -> None:
        for routes in (self._routes, self._foreign):
            for key, route in list(routes.items()):
                if isinstance(route, Route) and route.interface == name and is_v6(route.prefix) == v6:
                    del routes[key]

    def _rule(self, action: Action, rule: Rule) -> None:
        if action.verb == "delete":
            if rule not in self._rules:
                raise _Refused(errno.ENOENT)  # fib_nl_delrule()
            del self._rules[rule]
        elif rule in self._rules or _identity(rule) in self._foreign:
            raise _Refused(errno.EEXIST)  # fib_nl_newrule() → rule_exists()
        else:
            self._rules[rule] = None

    def _sysctl(self, record: Sysctl) -> None:
        if record.name not in self.sysctls:
            raise _Refused(errno.ENOENT)
        self.sysctls[record.name] = record.value

    def _table(self, action: Action, table: Table) -> None:
        if action.verb != "delete":
            self._tables[table.family] = table  # one nft transaction replaces all of it
        elif self._tables.pop(table.family, None) is None:
            raise _Refused(errno.ENOENT)

    def _existing(self, name: str) -> _Interface:
        if name not in self._interfaces:
            raise _Refused(errno.ENODEV)
        return self._interfaces[name]

    def _exists(self, record: Record) -> bool:
        return record.key in self.observe(Questions(sysctls=frozenset(self.sysctls))).state.of(type(record))

    def _bound_ports(self) -> set[int]:
        """UDP ports in use: WireGuard binds when the link goes up, and lets go when it goes down."""
        devices = [i.device for i in self._interfaces.values() if i.device and i.link.up]
        sockets = [thing for thing in self._foreign.values() if isinstance(thing, UdpSocket)]
        return {d.listen_port for d in devices if d.listen_port} | {socket.port for socket in sockets}


def _identity(thing: Foreign | Record) -> object:
    """What a record and a foreign object have in common when they are one thing to the kernel."""
    if isinstance(thing, Record):
        return type(thing), thing.key
    return thing
