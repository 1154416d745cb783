"""The real host: observe and apply, assembled of one driver for each kind of kernel object."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from resource_wireguard.errors import HostError
from resource_wireguard.host.diff import Plan
from resource_wireguard.host.facts import Found, LinkFacts, Observation, PeerFacts, Problem, Questions, Survey
from resource_wireguard.host.facts import Path as NetworkPath
from resource_wireguard.host.state import (
    HostState,
    Key,
    Link,
    Peer,
    PeerEndpoint,
    Record,
    Route,
    Sysctl,
)
from resource_wireguard.model.keys import PublicKey
from resource_wireguard.model.settings import Settings
from resource_wireguard.system import foreign, netlink, routing, sysctl
from resource_wireguard.system.apply import Application
from resource_wireguard.system.engines import Engines
from resource_wireguard.system.events import NetlinkEvents
from resource_wireguard.system.messages import KernelRefused, NetlinkSocket
from resource_wireguard.system.netlink import SeenLink
from resource_wireguard.system.nftables import Nftables
from resource_wireguard.system.port_registry import reserved_ports
from resource_wireguard.system.survey import survey
from resource_wireguard.system.wireguard import WireGuard

DEFAULT_MTU = 1500
"""Bytes: Ethernet's, where there is no default route to ask."""

_NOTHING_ASKED = Questions()

T = TypeVar("T")


class LinuxHost:
    """This machine, in the network namespace of the thread that uses it first, and from then on only there.

    Its netlink sockets stay open between calls. engine_log is the file that userspace engines write to.
    """

    def __init__(self, settings: Settings, engine_log: Path | None = None) -> None:
        self._kernel = NetlinkSocket(netlink.NETLINK_ROUTE)
        self._wireguard = WireGuard()
        self._engines = Engines(settings.engine, self._wireguard.has_kernel, engine_log)
        self._nftables = Nftables()
        self._port_registry = settings.port_registry

    def close(self) -> None:
        """End the conversations with the kernel; tunnels and engines go on."""
        self._kernel.close()
        self._wireguard.close()
        self._nftables.close()

    def observe(self, questions: Questions = _NOTHING_ASKED) -> Observation:
        """Look at all our objects.

        Where a dump of the kernel fails the observation is incomplete, so nothing is deleted. An engine that
        does not answer only lacks its device and peers: what is not seen is never deleted, and telling it
        once more what it knows already resets no session.
        """
        self._engines.reap()
        look = _Look()
        links: list[SeenLink] = look.part(lambda: netlink.links(self._kernel), [])
        self._look_at_links(look, links)
        self._look_at_routing(look, links)
        look.add(look.part(self._nftables.observe, ()))
        look.add(look.part(lambda: list(_sysctls(questions)), []))
        mtu = {link.index: link.mtu for link in links}
        return Observation(
            state=HostState(look.objects),
            peers=look.facts,
            engine=look.part(self._engines.available, None),
            path_mtu=look.part(lambda: self._path_mtus(questions, mtu), {}),
            default_mtu=look.part(lambda: self._default_mtu(mtu), DEFAULT_MTU),
            problems=tuple(look.problems),
            complete=look.complete,
            links=look.counters,
        )

    def apply(self, plan: Plan) -> tuple[Problem, ...]:
        """Carry out a plan in its order; one Problem for each interface or object that failed."""
        return Application(self._kernel, self._wireguard, self._engines, self._nftables).run(plan)

    def survey(self, *, registry: bool = False) -> Survey:
        """What is in use on the host, by whomever; registry runs a program to ask a port registry too."""
        return survey(self._kernel, reserved_ports(self._port_registry) if registry else {})

    def read_foreign(self, interface: str) -> Found:
        """A WireGuard interface that is not ours, whoever made it."""
        return foreign.read(self._kernel, self._wireguard, self._engines, interface)

    def take_over(self, found: Found, tunnel: str, routes: Iterable[Route]) -> tuple[Problem, ...]:
        """Mark that link and these of its routes as ours."""
        return foreign.take_over(self._kernel, found, tunnel, routes)

    def events(self) -> NetlinkEvents:
        """Subscribe to changes of links, addresses, routes, rules and nft tables."""
        return NetlinkEvents()

    def handshakes(self, interfaces: Iterable[str]) -> Mapping[tuple[str, PublicKey], float]:
        """The latest handshakes on some of our interfaces, asked of their engines alone."""
        engines = {}
        for name in interfaces:
            seen = netlink.link(self._kernel, name)
            if seen and (ours := self._our_link(seen)):
                engines[name] = ours.engine
        return self._wireguard.handshakes(engines)

    def _look_at_links(self, look: "_Look", links: list[SeenLink]) -> None:
        """Our links, the addresses on them, and what their engines say."""
        ours = [link for seen in links if (link := self._our_link(seen))]
        look.add(ours)
        names = {seen.index: seen.name for seen in links if (Link, seen.name) in look}
        look.add(look.part(lambda: list(netlink.addresses(self._kernel, names)), []) if names else ())
        look.counters.update(self._counters(names))
        readings, problems = self._wireguard.read({link.name: link.engine for link in ours})
        look.problems.extend(problems)
        for reading in readings:
            look.add([reading.device] if reading.device else [])
            look.objects.setdefault(Peer, {}).update(reading.peers)
            look.objects.setdefault(PeerEndpoint, {}).update(reading.endpoints)
            look.facts.update(reading.facts)

    def _counters(self, names: dict[int, str]) -> Iterator[tuple[str, LinkFacts]]:
        """Of each link that is still there: a link without counters hides nothing that matters to a plan."""
        for index, name in names.items():
            with suppress(KernelRefused):
                yield name, netlink.counters(self._kernel, index)

    def _look_at_routing(self, look: "_Look", links: list[SeenLink]) -> None:
        names = {link.index: link.name for link in links}
        look.add(look.part(lambda: list(routing.routes(self._kernel, names)), []))
        look.add(look.part(lambda: list(routing.rules(self._kernel)), []))

    def _our_link(self, seen: SeenLink) -> Link | None:
        """A link of ours as a record; tunnel '' if its making was cut off before it had its alias."""
        tunnel = seen.tunnel
        if tunnel is None and seen.kind == "tun" and seen.alias is None and self._engines.is_ours(seen.name):
            tunnel = ""
        if tunnel is None:
            return None
        engine = "kernel" if seen.kind == "wireguard" else "userspace"
        return Link(seen.name, tunnel, engine, seen.mtu, seen.up)

    def _path_mtus(self, questions: Questions, mtu: dict[int, int]) -> dict[NetworkPath, int]:
        found: dict[NetworkPath, int] = {}
        for asked in questions.paths:
            way = routing.path(self._kernel, asked.address, asked.fwmark)
            if way is not None:
                found[asked] = way.mtu or mtu.get(way.index, DEFAULT_MTU)
        return found

    def _default_mtu(self, mtu: dict[int, int]) -> int:
        way = routing.default_route(self._kernel)
        return (way.mtu or mtu.get(way.index, DEFAULT_MTU)) if way else DEFAULT_MTU


class _Look:
    """An observation in the making."""

    def __init__(self) -> None:
        self.objects: dict[type[Record], dict[Key, Record]] = {}
        self.facts: dict[tuple[str, PublicKey], PeerFacts] = {}
        self.counters: dict[str, LinkFacts] = {}
        self.problems: list[Problem] = []
        self.complete = True

    def __contains__(self, entry: tuple[type[Record], Key]) -> bool:
        kind, key = entry
        return key in self.objects.get(kind, {})

    def part(self, ask: Callable[[], T], otherwise: T) -> T:
        """The answer, or otherwise a Problem and an incomplete observation."""
        try:
            return ask()
        except HostError as error:
            self.problems.append(Problem(error.message, error.hint))
        except OSError as error:
            self.problems.append(Problem(str(error)))
        self.complete = False
        return otherwise

    def add(self, records: Iterable[Record]) -> None:
        """Keep records by kind and key."""
        for record in records:
            self.objects.setdefault(type(record), {})[record.key] = record


def _sysctls(questions: Questions) -> Iterable[Sysctl]:
    for name in sorted(questions.sysctls):
        value = sysctl.read(name)
        if value is not None:
            yield Sysctl(name, value)
