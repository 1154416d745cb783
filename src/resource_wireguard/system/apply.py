"""Carrying out a plan on the real host, in its order and with one Problem for each thing that failed."""

import errno
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby

from resource_wireguard.errors import HostError
from resource_wireguard.host.diff import Action, Plan, Verb
from resource_wireguard.host.facts import Problem
from resource_wireguard.host.ownership import alias_of
from resource_wireguard.host.render import noun_of
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
)
from resource_wireguard.system import netlink, routing, sysctl
from resource_wireguard.system.engines import Engines
from resource_wireguard.system.messages import KernelRefused, NetlinkSocket
from resource_wireguard.system.netlink import SeenLink
from resource_wireguard.system.nftables import Nftables
from resource_wireguard.system.transaction import transaction_of
from resource_wireguard.system.wireguard import WireGuard


class _Unusable(HostError):
    """An interface is gone or not ours: whatever else there is to do on it would fail alike."""


class Application:
    """One plan being carried out.

    An interface whose link or WireGuard part failed is left alone for the rest of it: one Problem, not ten.
    A single address or route that is refused stands in nobody else's way.
    """

    def __init__(
        self, kernel: NetlinkSocket, wireguard: WireGuard, engines: Engines, nftables: Nftables
    ) -> None:
        self._kernel = kernel
        self._wireguard = wireguard
        self._engines = engines
        self._nftables = nftables
        self._problems: list[Problem] = []
        self._failed: set[str] = set()

    def run(self, plan: Plan) -> tuple[Problem, ...]:
        """Try all of it; what was refused."""
        for driver, steps in groupby(plan, _driver_of):
            if driver is Table:
                self._try(partial(self._nftables.apply, list(steps)), "nft tables", None)
            elif driver is Device:
                for batch in _batches(steps):
                    self._tell_engines(batch)
            else:
                for action in steps:
                    record, step = action.record, partial(self._step, action)
                    self._try(step, noun_of(record), record.interface, vital=driver is Link)
        return tuple(self._problems)

    def _try(self, step: Callable[[], None], noun: str, interface: str | None, vital: bool = False) -> None:
        """Carry out a step; if it is vital to its interface and fails, nothing more is tried there."""
        if interface in self._failed:
            return
        try:
            step()
        except (HostError, OSError) as error:
            message, hint = (error.message, error.hint) if isinstance(error, HostError) else (str(error), "")
            self._problems.append(Problem(f"{noun}: {message}", hint, interface or ""))
            if interface is not None and (vital or isinstance(error, _Unusable)):
                self._failed.add(interface)

    def _step(self, action: Action) -> None:
        """One action that stands for itself."""
        match action.record:
            case Link() as link:
                self._link(action.verb, link)
            case Address() as address:
                self._address(action.verb, address)
            case Route() as route:
                self._route(action.verb, route)
            case Rule() as rule:
                self._rule(action.verb, rule)
            case Sysctl(name, value):
                sysctl.write(name, value)

    # -- links --

    def _link(self, verb: Verb, link: Link) -> None:
        seen = netlink.link(self._kernel, link.name)
        if verb == "delete":
            if seen is not None:
                self._require_ours(seen)
                self._delete_link(seen)
            return
        if seen is None:
            self._create_link(link)
        else:
            self._require_ours(seen)
        netlink.set_link(self._kernel, link.name, alias=alias_of(link.tunnel), mtu=link.mtu, up=link.up)
        if link.engine == "userspace" and link.up and not (seen and seen.up):
            self._engines.wait_up(link.name)

    def _create_link(self, link: Link) -> None:
        if link.engine == "kernel":
            netlink.create_wireguard(self._kernel, link.name)
            return
        self._engines.start(link.name, link.tunnel, lambda: netlink.link(self._kernel, link.name) is not None)

    def _delete_link(self, seen: SeenLink) -> None:
        delete = partial(netlink.delete_link, self._kernel, seen.name)
        if seen.kind == "wireguard":
            delete()
        else:
            self._engines.stop(seen.name, delete)

    def _require_ours(self, seen: SeenLink) -> None:
        if seen.tunnel is None and not self._engines.is_ours(seen.name):
            raise _Unusable(
                f"interface {seen.name} exists and is not ours",
                f"choose another interface name, or remove it: ip link delete {seen.name}",
            )

    def _our_link(self, name: str) -> SeenLink:
        seen = netlink.link(self._kernel, name)
        if seen is None:
            raise _Unusable(f"interface {name} is gone")
        self._require_ours(seen)
        return seen

    # -- WireGuard --

    def _tell_engines(self, steps: list[Action]) -> None:
        """All actions of one interface as one transaction, whatever other interfaces stand in between."""
        by_interface: dict[str, list[Action]] = {}
        for action in steps:
            assert action.record.interface is not None
            by_interface.setdefault(action.record.interface, []).append(action)
        for interface, actions in by_interface.items():
            step = partial(self._tell_engine, interface, actions)
            self._try(step, f"WireGuard of {interface}", interface, vital=True)

    def _tell_engine(self, interface: str, actions: list[Action]) -> None:
        engine = "kernel" if self._our_link(interface).kind == "wireguard" else "userspace"
        transaction = transaction_of(actions)
        before = next(
            (action.before.listen_port for action in actions if isinstance(action.before, Device)), 0
        )
        try:
            self._wireguard.write(interface, engine, transaction, before)
        except KernelRefused as refusal:
            if refusal.number != errno.EADDRINUSE:
                raise
            raise HostError(
                f"UDP port {transaction.device.listen_port} is in use by somebody else",
                "give the tunnel another port with --port, or end the program that has it: ss -lunp",
            ) from None

    # -- routing --

    def _address(self, verb: Verb, address: Address) -> None:
        index = self._our_link(address.interface).index
        if verb == "delete":
            netlink.delete_address(self._kernel, index, address.address)
        else:
            netlink.add_address(self._kernel, index, address.address, bare=address.bare)

    def _route(self, verb: Verb, route: Route) -> None:
        link = netlink.link(self._kernel, route.interface) if route.interface else None
        if route.interface and link is None:
            if verb == "delete":
                return  # it went with its link
            raise _Unusable(f"interface {route.interface} is gone")
        index = link.index if link else None
        if verb == "delete":
            routing.delete_route(self._kernel, route, index)
            return
        try:
            routing.add_route(self._kernel, route, index, replace=verb == "change")
        except KernelRefused as refusal:
            if refusal.number != errno.EEXIST:
                raise
            raise HostError(
                "a route of this prefix, table and metric exists and is not ours",
                f"remove it (ip route show {route.prefix}), or use another prefix",
            ) from None

    def _rule(self, verb: Verb, rule: Rule) -> None:
        if verb == "delete":
            routing.delete_rule(self._kernel, rule)
            return
        routing.add_rule(self._kernel, rule)


def _batches(steps: Iterable[Action]) -> Iterator[list[Action]]:
    """Cut where a device comes up again: what it is told first must be done before what it is told next."""
    batch: list[Action] = []
    devices: set[str | None] = set()
    for action in steps:
        if isinstance(action.record, Device):
            if action.record.interface in devices:
                yield batch
                batch, devices = [], set()
            devices.add(action.record.interface)
        batch.append(action)
    yield batch


def _driver_of(action: Action) -> type[Record]:
    """The kind that stands for all kinds which are carried out together."""
    kind = type(action.record)
    return Device if kind in (Peer, PeerEndpoint) else kind
