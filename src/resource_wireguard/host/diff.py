"""The diff of two host states: a plan, in an order in which it can be carried out."""

from collections.abc import Iterator
from typing import Literal

import msgspec
from msgspec.structs import replace

from resource_wireguard.host.state import KINDS, Device, HostState, Key, Link, Record, Route

Verb = Literal["create", "change", "delete"]

ANY_PORT = 0
"""A device told to listen on port 0 takes a free one (wg(8), ListenPort)."""


class Action(msgspec.Struct, frozen=True):
    """One step on one object. before is what is there now, after what shall be."""

    verb: Verb
    before: Record | None = None
    after: Record | None = None

    @property
    def record(self) -> Record:
        """The object that is acted on."""
        record = self.after or self.before
        assert record is not None
        return record


Plan = tuple[Action, ...]


def diff(desired: HostState, actual: HostState, *, complete: bool = True) -> Plan:
    """The steps from actual to desired; without a complete observation nothing is deleted.

    Routes leave doomed links for others that are there, so that no packet goes astray meanwhile. Then doomed
    links go (their ports and addresses must be free for others) and take all that lies on them along; then
    ports that change hands are let go; then everything is made in the order of KINDS; what is left over goes
    last, backwards.
    """
    doomed = _doomed(desired, actual, complete)
    steps = list(_rerouted(desired, actual, doomed))
    actual = _after(steps, actual)
    steps.extend(Action("delete", before=link) for link in doomed.values())
    steps.extend(_freed_ports(desired, actual, doomed))
    for kind in KINDS:
        steps.extend(_made(kind, desired, actual, doomed))
    if complete:
        for kind in reversed(KINDS):
            steps.extend(_left_over(kind, desired, actual, doomed))
    return tuple(steps)


def _doomed(desired: HostState, actual: HostState, complete: bool) -> dict[Key, Link]:
    """Links that nobody wants, or that must be made anew: with another engine, or in another namespace.

    A link could be moved, but loses its session, addresses and routes on the way, and a userspace engine
    may miss that its TUN device is up again.
    """
    wanted = desired.of(Link)
    return {
        name: link
        for name, link in actual.of(Link).items()
        if (name not in wanted and complete) or (name in wanted and _is_another(wanted[name], link))
    }


def _rerouted(desired: HostState, actual: HostState, doomed: dict[Key, Link]) -> Iterator[Action]:
    there = actual.of(Link).keys() - doomed.keys()
    for key, before in actual.of(Route).items():
        after = desired.of(Route).get(key)
        if before.interface in doomed and after is not None and after.interface in there:
            yield Action("change", before=before, after=after)


def _after(steps: list[Action], actual: HostState) -> HostState:
    """The state as the routes that were led elsewhere leave it."""
    if not steps:
        return actual
    routes = {**actual.of(Route), **{step.record.key: step.record for step in steps}}
    return replace(actual, objects={**actual.objects, Route: routes})


def _is_another(wanted: Link, found: Link) -> bool:
    return (wanted.engine, wanted.netns) != (found.engine, found.netns)


def _freed_ports(desired: HostState, actual: HostState, doomed: dict[Key, Link]) -> Iterator[Action]:
    """Devices that hold a port which another one is to have take any port first: two may swap theirs."""
    wanted = {device.listen_port: name for name, device in desired.of(Device).items()}
    for name, before in actual.of(Device).items():
        taker = wanted.get(before.listen_port, name)
        if taker != name and name not in doomed and name in desired.of(Device):
            yield Action("change", before=before, after=replace(before, listen_port=ANY_PORT))


def _made(
    kind: type[Record], desired: HostState, actual: HostState, doomed: dict[Key, Link]
) -> Iterator[Action]:
    found = actual.of(kind)
    for key, after in desired.of(kind).items():
        before = found.get(key)
        if before is None or before.interface in doomed:
            yield Action("create", after=after)
        elif before != after:
            yield Action("change", before=before, after=after)


def _left_over(
    kind: type[Record], desired: HostState, actual: HostState, doomed: dict[Key, Link]
) -> Iterator[Action]:
    if not kind.removable or kind is Link:
        return
    wanted = desired.of(kind)
    for key, before in actual.of(kind).items():
        if key not in wanted and before.interface not in doomed:
            yield Action("delete", before=before)
