"""The real host: observe and apply, assembled of one driver for each kind of kernel object."""

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from resource_wireguard.errors import HostError
from resource_wireguard.host.diff import Plan
from resource_wireguard.host.facts import (
    DockerFacts,
    Found,
    LinkFacts,
    Observation,
    PeerFacts,
    Problem,
    Questions,
    Survey,
)
from resource_wireguard.host.facts import Path as NetworkPath
from resource_wireguard.host.ownership import is_our_bridge
from resource_wireguard.host.state import (
    Address,
    DockerNetwork,
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
from resource_wireguard.system import foreign, listening, netlink, places, routing, sysctl
from resource_wireguard.system.apply import Application
from resource_wireguard.system.docker_networks import DockerNetworks
from resource_wireguard.system.engines import Engines
from resource_wireguard.system.events import NetlinkEvents
from resource_wireguard.system.messages import KernelRefused
from resource_wireguard.system.netlink import SeenLink
from resource_wireguard.system.nftables import Nftables
from resource_wireguard.system.places import Place, Places
from resource_wireguard.system.port_registry import reserved_ports
from resource_wireguard.system.survey import survey
from resource_wireguard.system.wireguard import WireGuard

DEFAULT_MTU = 1500
"""Bytes: Ethernet's, where there is no default route to ask."""

GATEWAY_LENGTHS = ("/32", "/128")
"""How our addresses on Docker's bridges end: Docker's own have the length of their network."""

_NOTHING_ASKED = Questions()

T = TypeVar("T")


class LinuxHost:
    """This machine, in the network namespace of the thread that uses it first, and from then on only there.

    It also works in the network namespaces that it made itself (places.py), through sockets opened there: no
    thread of its callers ever leaves. Its sockets stay open between calls. engine_log is the file that
    userspace engines write to.
    """

    def __init__(self, settings: Settings, engine_log: Path | None = None) -> None:
        self._places = Places()
        self._kernel = self._places.here.kernel
        self._wireguard = WireGuard(self._places)
        self._engines = Engines(settings.engine, self._wireguard.has_kernel, engine_log)
        self._nftables = Nftables()
        self._docker = DockerNetworks()
        self._port_registry = settings.port_registry
        self._subscribers: list[NetlinkEvents] = []

    def close(self) -> None:
        """End the conversations with the kernel; tunnels and engines go on."""
        self._places.close()
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
        look.add(look.part(self._places.look, []))
        ours = [link for place in self._places for link in self._look_at_links(look, place, links)]
        self._ask_engines(look, ours)
        look.add(look.part(lambda: list(routing.rules(self._kernel)), []))
        self._follow()
        look.add(look.part(self._nftables.observe, ()))
        look.add(look.part(lambda: list(_sysctls(questions)), []))
        docker = self._look_at_docker(look, questions, links)
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
            docker=docker,
        )

    def apply(self, plan: Plan) -> tuple[Problem, ...]:
        """Carry out a plan in its order; one Problem for each interface or object that failed."""
        return Application(self._places, self._wireguard, self._engines, self._nftables, self._docker).run(
            plan
        )

    def survey(self, *, registry: bool = False, docker: bool = False) -> Survey:
        """What is in use on the host, by whomever; a port registry and Docker are asked if they are to be."""
        found = survey(self._places, reserved_ports(self._port_registry) if registry else {})
        if not docker:
            return found
        return self._docker.survey(found)

    def read_foreign(self, interface: str) -> Found:
        """A WireGuard interface that is not ours, whoever made it."""
        return foreign.read(self._kernel, self._wireguard, self._engines, interface)

    def take_over(self, found: Found, tunnel: str, routes: Iterable[Route]) -> tuple[Problem, ...]:
        """Mark that link and these of its routes as ours."""
        return foreign.take_over(self._kernel, found, tunnel, routes)

    def netns_refusal(self, name: str) -> Problem | None:
        """Why no network namespace of that name can be made."""
        return self._places.refusal(name)

    def netns_processes(self, netns: str) -> dict[int, str]:
        """The processes in a network namespace of ours."""
        return places.processes(netns)

    def events(self) -> NetlinkEvents:
        """Subscribe to changes of links, addresses, routes, rules and nft tables."""
        self._subscribers.append(NetlinkEvents())
        return self._subscribers[-1]

    def handshakes(self, interfaces: Iterable[str]) -> Mapping[tuple[str, PublicKey], float]:
        """The latest handshakes on some of our interfaces, asked of their engines alone."""
        found = [
            link
            for name in interfaces
            for place in self._places
            if (seen := netlink.link(place.kernel, name)) and (link := self._our_link(seen, place))
        ]
        return self._wireguard.handshakes(found)

    def listen(self, interface: str, netns: str | None, address: str, port: int) -> socket.socket | None:
        """A UDP socket that hears one device, wherever that lies."""
        return listening.open_socket(self._places.of(netns), interface, address, port)

    def _follow(self) -> None:
        """Hear from our namespaces, too; where that is not to be had, the pass every 30 s finds it."""
        for events in self._subscribers:
            with suppress(OSError):
                events.follow(self._places.ours)

    def _look_at_links(self, look: "_Look", place: Place, here: list[SeenLink]) -> list[Link]:
        """Our links in one place, with their addresses and routes; here are the links of the host's own."""
        links: list[SeenLink] = look.part(lambda: netlink.links(place.kernel), []) if place.name else here
        ours = [link for seen in links if (link := self._our_link(seen, place))]
        look.add(ours)
        found = {link.name for link in ours}
        names = {seen.index: seen.name for seen in links if seen.name in found}
        look.add(look.part(lambda: list(netlink.addresses(place.kernel, names)), []) if names else ())
        look.counters.update(self._counters(place, names))
        every_name = {link.index: link.name for link in links}
        look.add(look.part(lambda: list(routing.routes(place.kernel, every_name, place.name)), []))
        return ours

    def _ask_engines(self, look: "_Look", ours: Iterable[Link]) -> None:
        """What the engines of our links say."""
        readings, problems = self._wireguard.read(ours)
        look.problems.extend(problems)
        for reading in readings:
            look.add([reading.device] if reading.device else [])
            look.objects.setdefault(Peer, {}).update(reading.peers)
            look.objects.setdefault(PeerEndpoint, {}).update(reading.endpoints)
            look.facts.update(reading.facts)

    def _look_at_docker(self, look: "_Look", questions: Questions, links: list[SeenLink]) -> DockerFacts:
        """Networks, containers, and what lies on our bridges; its silence hides nothing of anybody else's."""
        names = {link.index: link.name for link in links if is_our_bridge(link.name, link.kind)}
        records, facts, problems = self._docker.observe(questions, frozenset(names.values()))
        look.add(records)
        look.problems.extend(problems)
        ours = {record.bridge for record in records if isinstance(record, DockerNetwork)}
        if questions.docker and not facts.answered:
            ours = set(names.values())
        on = {index: name for index, name in names.items() if name in ours}
        found: list[Address] = []
        if on:
            found = look.part(lambda: list(netlink.addresses(self._kernel, on)), found)
        look.add(address for address in found if address.address.endswith(GATEWAY_LENGTHS))
        return facts

    def _counters(self, place: Place, names: dict[int, str]) -> Iterator[tuple[str, LinkFacts]]:
        """Of each link that is still there: a link without counters hides nothing that matters to a plan."""
        for index, name in names.items():
            with suppress(KernelRefused):
                yield name, netlink.counters(place.kernel, index)

    def _our_link(self, seen: SeenLink, place: Place) -> Link | None:
        """A link of ours as a record; tunnel '' if its making was cut off before it had its alias."""
        tunnel = seen.tunnel
        if tunnel is None and seen.kind == "tun" and seen.alias is None and self._engines.is_ours(seen.name):
            tunnel = ""
        if tunnel is None:
            return None
        engine = "kernel" if seen.kind == "wireguard" else "userspace"
        return Link(seen.name, tunnel, engine, seen.mtu, seen.up, place.name)

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
