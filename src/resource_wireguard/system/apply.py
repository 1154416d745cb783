"""Carrying out a plan on the real host, in its order and with one Problem for each thing that failed."""

import errno
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby

from resource_wireguard.errors import HostError, ResourceError
from resource_wireguard.host.diff import Action, Plan, Verb
from resource_wireguard.host.facts import Problem
from resource_wireguard.host.ownership import alias_of, is_our_bridge
from resource_wireguard.host.render import noun_of
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
from resource_wireguard.system import netlink, routing, sysctl
from resource_wireguard.system.docker_networks import DockerNetworks
from resource_wireguard.system.engines import Engines
from resource_wireguard.system.messages import KernelRefused
from resource_wireguard.system.netlink import SeenLink
from resource_wireguard.system.nftables import Nftables
from resource_wireguard.system.places import Place, Places
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
        self,
        places: Places,
        wireguard: WireGuard,
        engines: Engines,
        nftables: Nftables,
        docker: DockerNetworks,
    ) -> None:
        self._places = places
        self._kernel = places.here.kernel
        self._wireguard = wireguard
        self._engines = engines
        self._nftables = nftables
        self._docker = docker
        self._protected = True
        self._problems: list[Problem] = []
        self._failed: set[str] = set()

    def run(self, plan: Plan) -> tuple[Problem, ...]:
        """Try all of it; what was refused."""
        for driver, steps in groupby(plan, _driver_of):
            if driver is Table:
                self._protected &= self._try(partial(self._nftables.apply, list(steps)), "nft tables", None)
            elif driver is Device:
                for batch in _batches(steps):
                    self._tell_engines(batch)
            else:
                for action in steps:
                    record, step = action.record, partial(self._step, action)
                    done = self._try(step, noun_of(record), record.interface, vital=driver is Link)
                    self._protected &= done or driver is not Rule
        return tuple(self._problems)

    def _try(self, step: Callable[[], None], noun: str, interface: str | None, vital: bool = False) -> bool:
        """Whether a step was done; if it is vital to its interface and fails, no more is tried there."""
        if interface in self._failed:
            return False
        try:
            step()
        except (ResourceError, OSError) as error:
            self._problems.append(_problem(noun, error, interface or ""))
            if interface is not None and (vital or isinstance(error, _Unusable)):
                self._failed.add(interface)
            return False
        return True

    def _step(self, action: Action) -> None:
        """One action that stands for itself."""
        match action.record:
            case NetNamespace(name) as namespace:
                if action.verb == "delete":
                    self._places.delete(name)
                else:
                    self._places.create(namespace)
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
            case DockerNetwork() | Attachment():
                self._require_protected(action)
                self._docker.apply(action)

    def _require_protected(self, action: Action) -> None:
        """No network, and no container in one, before all rules that bind it are in place."""
        if action.verb == "create" and not self._protected:
            raise HostError("not made, as its protections could not be", "see the other problems")

    # -- links --

    def _link(self, verb: Verb, link: Link) -> None:
        found = self._find(link.name)
        if verb == "delete":
            if found is not None:
                self._require_ours(found[1])
                self._delete_link(*found)
            return
        goal = self._goal(link)
        if found is None:
            self._create_link(link)
        else:
            self._require_ours(found[1])
        place, seen = found or (self._places.here, None)
        self._bring(link, place, goal)
        if link.engine == "userspace" and link.up and not (seen and seen.up):
            self._engines.wait_up(link.name, moved=place is not goal)

    def _goal(self, link: Link) -> Place:
        """Where a link shall lie; without that place it is not made at all, as it would be open elsewhere."""
        try:
            return self._places.of(link.netns)
        except HostError as error:
            raise _Unusable(error.message, error.hint) from None

    def _bring(self, link: Link, place: Place, goal: Place) -> None:
        """Mark, size and switch a link; on its way into a namespace it is down.

        A link is made in the host's namespace and its UDP socket stays there, wherever it goes.
        """
        if place is not goal:
            netlink.set_link(place.kernel, link.name, alias=alias_of(link.tunnel), mtu=link.mtu, up=False)
            netlink.move_link(place.kernel, link.name, goal.descriptor)
        netlink.set_link(goal.kernel, link.name, alias=alias_of(link.tunnel), mtu=link.mtu, up=link.up)

    def _create_link(self, link: Link) -> None:
        if link.engine == "kernel":
            netlink.create_wireguard(self._kernel, link.name)
            return
        self._engines.start(link.name, link.tunnel, lambda: netlink.link(self._kernel, link.name) is not None)

    def _delete_link(self, place: Place, seen: SeenLink) -> None:
        delete = partial(netlink.delete_link, place.kernel, seen.name)
        if seen.kind == "wireguard":
            delete()
        else:
            self._engines.stop(seen.name, delete)

    def _require_ours(self, seen: SeenLink) -> None:
        if is_our_bridge(seen.name, seen.kind):
            return
        if seen.tunnel is None and not self._engines.is_ours(seen.name):
            raise _Unusable(
                f"interface {seen.name} exists and is not ours",
                f"choose another interface name, or remove it: ip link delete {seen.name}",
            )

    def _our_link(self, name: str) -> tuple[Place, SeenLink]:
        found = self._find(name)
        if found is None:
            raise _Unusable(f"interface {name} is gone")
        self._require_ours(found[1])
        return found

    def _find(self, name: str) -> tuple[Place, SeenLink] | None:
        """The link of that name, wherever it lies; of several that is ours."""
        found = [(place, seen) for place in self._places if (seen := netlink.link(place.kernel, name))]
        return min(found, key=lambda entry: entry[1].tunnel is None, default=None)

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
        place, seen = self._our_link(interface)
        engine = "kernel" if seen.kind == "wireguard" else "userspace"
        link = Link(interface, seen.tunnel or "", engine, seen.mtu, seen.up, place.name)
        transaction = transaction_of(actions)
        before = next(
            (action.before.listen_port for action in actions if isinstance(action.before, Device)), 0
        )
        try:
            self._wireguard.write(link, transaction, before)
        except KernelRefused as refusal:
            if refusal.number != errno.EADDRINUSE:
                raise
            raise HostError(
                f"UDP port {transaction.device.listen_port} is in use by somebody else",
                "give the tunnel another port with --port, or end the program that has it: ss -lunp",
            ) from None

    # -- routing --

    def _address(self, verb: Verb, address: Address) -> None:
        place, seen = self._our_link(address.interface)
        if verb == "delete":
            netlink.delete_address(place.kernel, seen.index, address.address)
        else:
            netlink.add_address(place.kernel, seen.index, address.address, bare=address.bare)

    def _route(self, verb: Verb, route: Route) -> None:
        kernel = self._places.of(route.netns).kernel
        link = netlink.link(kernel, route.interface) if route.interface else None
        if route.interface and link is None:
            if verb == "delete":
                return  # it went with its link
            raise _Unusable(f"interface {route.interface} is gone")
        index = link.index if link else None
        if verb == "delete":
            routing.delete_route(kernel, route, index)
            return
        try:
            routing.add_route(kernel, route, index, replace=verb == "change")
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


def _problem(noun: str, error: ResourceError | OSError, interface: str) -> Problem:
    if isinstance(error, HostError):
        return Problem(f"{noun}: {error.message}", error.hint, interface, error.again_in)
    if isinstance(error, ResourceError):
        return Problem(f"{noun}: {error.message}", error.hint, interface)
    return Problem(f"{noun}: {error}", "", interface)


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
