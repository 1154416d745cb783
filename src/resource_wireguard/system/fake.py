"""A host in memory that obeys the kernel's rules, so that tests of plans and passes mean something.

It answers to the same port as the real host, and its rules are in fake_kernel.py. Foreign objects
(`place_foreign`) are never part of an observation.
"""

import errno
import os
import socket
from collections.abc import Iterable

from msgspec.structs import replace

from resource_wireguard.errors import ConflictError, HostError, NotFound
from resource_wireguard.host.diff import Action, Plan
from resource_wireguard.host.facts import Found, LinkFacts, Observation, PeerFacts, Problem, Questions, Survey
from resource_wireguard.host.render import line_of, noun_of
from resource_wireguard.host.state import (
    Address,
    Device,
    Link,
    NetNamespace,
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
from resource_wireguard.model.net import network_of
from resource_wireguard.system.fake_events import FakeEvents
from resource_wireguard.system.fake_kernel import (
    FakeKernel,
    Foreign,
    Interface,
    Refused,
    identity,
)


class Killed(BaseException):
    """The process died here: BaseException, as no `except Exception` outlives a SIGKILL."""


class FakeHost(FakeKernel):
    """The in-memory machine. Public fields are the knobs of tests; everything else goes through the port.

    applied lists each action in the order it was tried; stop_after names how many may be tried before the
    process is killed. engine is what new links can be made with.
    """

    def __init__(self, engine: str | None = "kernel") -> None:
        super().__init__(engine)
        self.default_mtu = 1500
        self.path_mtu: dict[str, int] = {}
        self.public_address: str | None = None
        self.applied: list[Action] = []
        self.stop_after: int | None = None
        self.observations = 0
        self.counters: dict[str, LinkFacts] = {}
        self.no_netns: Problem | None = None
        self.processes: dict[str, dict[int, str]] = {}
        self.ears: dict[tuple[str, str | None, str, int], socket.socket] = {}
        self._mute: set[str] = set()

    # -- the port --

    def observe(self, questions: Questions = Questions()) -> Observation:  # noqa: B008 (frozen)
        """Our objects as they are; engines that were muted are a problem, and the look is incomplete."""
        self.observations += 1
        ours = [interface for interface in self.interfaces.values() if not interface.foreign]
        answering = [interface for interface in ours if interface.link.name not in self._mute]
        bridges = frozenset(interface.link.name for interface in ours if interface.bridge)
        of_docker, docker, problems = self.docker.observe(questions, bridges)
        records: list[Record] = [record for interface in ours for record in interface.routing()]
        records += [record for interface in answering for record in interface.wireguard()]
        records += [*self.namespaces.values(), *self.routes.values(), *self.rules, *self.tables.values()]
        records += of_docker
        records += [Sysctl(n, self.sysctls[n]) for n in sorted(questions.sysctls) if n in self.sysctls]
        return Observation(
            state_of(records),
            dict(fact for interface in answering for fact in interface.facts()),
            self.engine,
            {path: self.path_mtu.get(path.address, self.default_mtu) for path in questions.paths},
            self.default_mtu,
            (
                *(Problem(f"engine of {name} does not answer", "", name) for name in sorted(self._mute)),
                *problems,
            ),
            complete=not self._mute,
            links={
                interface.link.name: self.counters.get(interface.link.name, LinkFacts()) for interface in ours
            },
            docker=docker,
        )

    def apply(self, plan: Plan) -> tuple[Problem, ...]:
        """Try each action; what lies on a link that could not be made is passed over in silence."""
        problems: list[Problem] = []
        without_link: set[str | None] = set()
        self.protected = True
        for action in plan:
            if action.record.interface in without_link:
                continue
            try:
                self.carry_out(action)
            except Refused as refusal:
                interface = action.record.interface
                problems.append(
                    Problem(f"{noun_of(action.record)}: {refusal}", refusal.hint, interface or "")
                )
                self.protected &= not isinstance(action.record, Table | Rule)
                if isinstance(action.record, Link):
                    without_link.add(interface)
            self._count(action)
        return tuple(problems)

    def survey(self, *, registry: bool = False, docker: bool = False) -> Survey:  # noqa: ARG002 (it has none)
        """Everything in use on the host, whoever uses it."""
        if docker and self.docker.refusal:
            raise self.docker.refusal
        addresses = [a for interface in self.interfaces.values() for a in interface.addresses]
        foreign = [r.prefix for r in self.others.values() if isinstance(r, Route)]
        routes = [route.prefix for route in self.routes.values()] + foreign
        ours = [prefix for network in self.docker.networks.values() for prefix in network.prefixes]
        pools = [*ours, *self.docker.foreign.values()] if docker else []
        return Survey(
            frozenset([*map(network_of, addresses), *(r for r in routes if not r.endswith("/0")), *pools]),
            frozenset(self.bound_ports()),
            frozenset(self.interfaces),
            self.public_address,
            docker_networks=frozenset({*self.docker.networks, *self.docker.foreign} if docker else ()),
            docker_asks_outside=self.docker.asks_outside,
        )

    def handshakes(self, interfaces: Iterable[str]) -> dict[tuple[str, PublicKey], float]:
        """As the engines of our interfaces have them."""
        wanted = set(interfaces) - self._mute
        return {
            (name, key): facts.latest_handshake
            for name, there in self.interfaces.items()
            if name in wanted and not there.foreign
            for key, facts in there.learned.items()
            if facts.latest_handshake is not None
        }

    def listen(self, interface: str, netns: str | None, address: str, port: int) -> socket.socket | None:
        """One that hears nobody, noted in ears, while the interface lies there and has the address."""
        if netns is not None and netns not in self.namespaces:
            raise HostError(f"there is no network namespace {netns} of ours")
        there = self.interfaces.get(interface)
        if there is None or there.link.netns != netns:
            return None
        if address not in {held.partition("/")[0] for held in there.addresses}:
            raise HostError(os.strerror(errno.EADDRNOTAVAIL))
        self.ears[interface, netns, address, port] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        return self.ears[interface, netns, address, port]

    def read_foreign(self, interface: str) -> Found:
        """An interface that a test has placed."""
        there = self.interfaces.get(interface)
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
                for route in self.others.values()
                if isinstance(route, Route) and route.interface == interface
            ),
        )

    def take_over(self, found: Found, tunnel: str, routes: Iterable[Route]) -> tuple[Problem, ...]:
        """Mark a link and its routes: from now on they are ours."""
        if (Link, found.link.name) in self.refusals:
            raise HostError(os.strerror(self.refusals[Link, found.link.name]))
        there = self.interfaces[found.link.name]
        there.link, there.foreign = replace(there.link, tunnel=tunnel), False
        for thing in (found.link, *(Address(found.link.name, a) for a in found.addresses), *routes):
            del self.others[identity(thing)]
        self.routes.update((route.key, route) for route in routes)
        self.ring()
        return ()

    def netns_refusal(self, name: str) -> Problem | None:
        """What a test has set, or that the name is taken."""
        taken = (NetNamespace, name) in self.others
        return Problem(f"network namespace {name} exists and is not ours") if taken else self.no_netns

    def netns_processes(self, netns: str) -> dict[int, str]:
        """What a test has placed there."""
        return self.processes.get(netns, {})

    def events(self) -> FakeEvents:
        """A new subscription; WireGuard's own changes never ring, as netlink is silent about peers."""
        self.subscribers.append(FakeEvents())
        return self.subscribers[-1]

    # -- the world outside --

    def place_foreign(self, *things: Foreign) -> None:
        """Objects of somebody else, without our marks."""
        for thing in things:
            if isinstance(thing, Link):
                self.interfaces[thing.name] = Interface(thing, foreign=True)
            elif isinstance(thing, Address):
                self.interfaces[thing.interface].addresses[thing.address] = thing.bare
            elif isinstance(thing, Device | Peer | PeerEndpoint):
                self.interfaces[thing.interface].be_told(thing)
                continue
            self.others[identity(thing)] = thing
        self.ring()

    def foreign(self) -> dict[object, object]:
        """All that is not ours, to be compared before and after."""
        links: dict[object, object] = {
            name: (*interface.routing(), *interface.wireguard())
            for name, interface in self.interfaces.items()
            if interface.foreign
        }
        return {**self.others, **links}

    def tamper(self, *, gone: Record | None = None, there: Record | None = None) -> None:
        """What a person with ip(8), wg(8) and nft(8) does to our objects, under the same kernel rules."""
        if gone is not None:
            self.carry_out(Action("delete", before=gone))
        if there is not None:
            self.carry_out(Action("change" if self._exists(there) else "create", before=there, after=there))

    def kill_engine(self, name: str) -> None:
        """SIGKILL a userspace engine: the TUN device and all on it go with its last descriptor."""
        assert self.interfaces[name].link.engine == "userspace", f"{name} has no process to kill"
        self.remove_link(name)
        self.ring()

    def handshake(self, interface: str, key: PublicKey, endpoint: str, at: float, size: int = 148) -> None:
        """A peer shakes hands from an endpoint, which the engine learns (WireGuard paper, section 2.1)."""
        home = self.interfaces[interface]
        known = home.learned.get(key, PeerFacts())
        home.endpoints[key] = endpoint
        home.learned[key] = PeerFacts(endpoint, at, known.rx_bytes + size, known.tx_bytes + size)

    def refuse(self, kind: type[Record], interface: str | None = None, number: int = errno.EPERM) -> None:
        """Let the kernel refuse a kind of object, on one interface or (None) anywhere."""
        self.refusals[kind, interface] = number

    def mute(self, interface: str) -> None:
        """Let the engine of an interface not answer."""
        self._mute.add(interface)

    def relent(self) -> None:
        """End all refusals and silences."""
        self.refusals.clear()
        self._mute.clear()

    def _count(self, action: Action) -> None:
        self.applied.append(action)
        if self.stop_after is not None and len(self.applied) >= self.stop_after:
            raise Killed(line_of(action))

    def _exists(self, record: Record) -> bool:
        return record.key in self.observe(Questions(sysctls=frozenset(self.sysctls))).state.of(type(record))
