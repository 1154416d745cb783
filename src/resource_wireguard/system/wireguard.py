"""WireGuard devices and peers, over whichever transport an interface has: netlink or a control socket."""

from collections.abc import Callable, Container, Iterable
from functools import partial

from resource_wireguard.errors import HostError
from resource_wireguard.host.facts import Problem
from resource_wireguard.host.state import Link
from resource_wireguard.system import genetlink, uapi
from resource_wireguard.system.messages import KernelRefused
from resource_wireguard.system.places import Places
from resource_wireguard.system.reading import Memory, PeerKey, Reading
from resource_wireguard.system.transaction import DeviceChange, Transaction


class WireGuard:
    """Reads and writes the WireGuard part of interfaces, wherever they lie."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._asked = False
        self._family: int | None = None
        self._lines: dict[str, Memory[str]] = {}
        self._attributes: dict[str, Memory[bytes]] = {}

    def has_kernel(self) -> bool:
        """Whether this kernel has WireGuard; asked once, and loads the module if there is one."""
        if not self._asked:
            self._family = genetlink.family(self._places.here.generic)
            self._asked = True
        return self._family is not None

    def read(self, links: Iterable[Link]) -> tuple[list[Reading], list[Problem]]:
        """What each interface says; a Problem instead from one that does not answer.

        All userspace engines are asked before the first answer is awaited, so they work at the same time,
        and hung ones do not add up.
        """
        wanted = tuple(links)
        self._forget_all_but({link.name for link in wanted})
        return self._answers(wanted)

    def handshakes(self, links: Iterable[Link]) -> dict[PeerKey, float]:
        """The latest handshakes on some interfaces; none of one that does not answer."""
        readings, _ = self._answers(links)
        return {
            key: facts.latest_handshake
            for reading in readings
            for key, facts in reading.facts.items()
            if facts.latest_handshake is not None
        }

    def _answers(self, links: Iterable[Link]) -> tuple[list[Reading], list[Problem]]:
        problems: list[Problem] = []
        answers: list[tuple[str, Callable[[], Reading]]] = []
        for link in links:
            try:
                answers.append((link.name, self._question(link)))
            except HostError as error:
                problems.append(_problem(error, link.name))
        readings: list[Reading] = []
        for interface, answer in answers:
            try:
                readings.append(answer())
            except HostError as error:
                problems.append(_problem(error, interface))
        return readings, problems

    def write(self, link: Link, transaction: Transaction, port_before: int) -> None:
        """Carry out one transaction; port_before is what to go back to where a new port is refused."""
        interface = link.name
        if link.engine == "kernel":
            kernel = self._places.of(link.netns).generic
            genetlink.write(kernel, self._kernel_family(interface), interface, transaction)
            return
        try:
            uapi.write(interface, transaction)
        except KernelRefused:
            # wireguard-go goes on to name a port that it could not bind: make it tell the truth again.
            if transaction.device.listen_port is not None:
                uapi.write(interface, Transaction(DeviceChange(listen_port=port_before)))
            raise

    def _question(self, link: Link) -> Callable[[], Reading]:
        interface = link.name
        if link.engine == "userspace":
            return partial(uapi.Question(interface).answer, self._lines.setdefault(interface, Memory()))
        family = self._kernel_family(interface)
        kernel = self._places.of(link.netns).generic
        memory = self._attributes.setdefault(interface, Memory())
        return partial(genetlink.read, kernel, family, interface, memory)

    def _forget_all_but(self, interfaces: Container[str]) -> None:
        for memories in (self._lines, self._attributes):
            for interface in [known for known in memories if known not in interfaces]:
                memories.pop(interface)

    def _kernel_family(self, interface: str) -> int:
        if not self.has_kernel() or self._family is None:
            raise HostError(f"the kernel has a WireGuard interface {interface} but no WireGuard control")
        return self._family


def _problem(error: HostError, interface: str) -> Problem:
    return Problem(error.message, error.hint, interface)
