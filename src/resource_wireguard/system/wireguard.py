"""WireGuard devices and peers, over whichever transport an interface has: netlink or a control socket."""

from collections.abc import Callable, Mapping
from functools import partial

from resource_wireguard.errors import HostError
from resource_wireguard.host.facts import Problem
from resource_wireguard.system import genetlink, uapi
from resource_wireguard.system.messages import KernelRefused, NetlinkSocket
from resource_wireguard.system.reading import Memory, PeerKey, Reading
from resource_wireguard.system.transaction import DeviceChange, Transaction


class WireGuard:
    """Reads and writes the WireGuard part of interfaces; engine is 'kernel' or 'userspace'."""

    def __init__(self) -> None:
        self._kernel: NetlinkSocket | None = None
        self._family: int | None = None
        self._lines: dict[str, Memory[str]] = {}
        self._attributes: dict[str, Memory[bytes]] = {}

    def close(self) -> None:
        """End the conversation with the kernel."""
        if self._kernel is not None:
            self._kernel.close()

    def has_kernel(self) -> bool:
        """Whether this kernel has WireGuard; asked once, and loads the module if there is one."""
        if self._kernel is None:
            self._kernel = NetlinkSocket(genetlink.NETLINK_GENERIC)
            self._family = genetlink.family(self._kernel)
        return self._family is not None

    def read(self, engines: Mapping[str, str]) -> tuple[list[Reading], list[Problem]]:
        """What each interface says; a Problem instead from one that does not answer.

        All userspace engines are asked before the first answer is awaited, so they work at the same time,
        and hung ones do not add up.
        """
        self._forget_all_but(engines)
        return self._answers(engines)

    def handshakes(self, engines: Mapping[str, str]) -> dict[PeerKey, float]:
        """The latest handshakes on some interfaces; none of one that does not answer."""
        readings, _ = self._answers(engines)
        return {
            key: facts.latest_handshake
            for reading in readings
            for key, facts in reading.facts.items()
            if facts.latest_handshake is not None
        }

    def _answers(self, engines: Mapping[str, str]) -> tuple[list[Reading], list[Problem]]:
        problems: list[Problem] = []
        answers: list[tuple[str, Callable[[], Reading]]] = []
        for interface, engine in engines.items():
            try:
                answers.append((interface, self._question(interface, engine)))
            except HostError as error:
                problems.append(_problem(error, interface))
        readings: list[Reading] = []
        for interface, answer in answers:
            try:
                readings.append(answer())
            except HostError as error:
                problems.append(_problem(error, interface))
        return readings, problems

    def write(self, interface: str, engine: str, transaction: Transaction, port_before: int) -> None:
        """Carry out one transaction; port_before is what to go back to where a new port is refused."""
        if engine == "kernel":
            family = self._kernel_family(interface)
            assert self._kernel is not None
            genetlink.write(self._kernel, family, interface, transaction)
            return
        try:
            uapi.write(interface, transaction)
        except KernelRefused:
            # wireguard-go goes on to name a port that it could not bind: make it tell the truth again.
            if transaction.device.listen_port is not None:
                uapi.write(interface, Transaction(DeviceChange(listen_port=port_before)))
            raise

    def _question(self, interface: str, engine: str) -> Callable[[], Reading]:
        if engine == "userspace":
            return partial(uapi.Question(interface).answer, self._lines.setdefault(interface, Memory()))
        family = self._kernel_family(interface)
        kernel = self._kernel
        assert kernel is not None
        memory = self._attributes.setdefault(interface, Memory())
        return partial(genetlink.read, kernel, family, interface, memory)

    def _forget_all_but(self, interfaces: Mapping[str, str]) -> None:
        for memories in (self._lines, self._attributes):
            for interface in memories.keys() - interfaces.keys():
                memories.pop(interface)

    def _kernel_family(self, interface: str) -> int:
        if not self.has_kernel() or self._family is None:
            raise HostError(f"the kernel has a WireGuard interface {interface} but no WireGuard control")
        return self._family


def _problem(error: HostError, interface: str) -> Problem:
    return Problem(error.message, error.hint, interface)
