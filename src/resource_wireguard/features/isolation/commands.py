"""The namespace.* commands of docs/bus.md."""

from typing import Literal

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.engine.views import ProblemView
from resource_wireguard.errors import AlreadyExists, HostError, InvalidInput
from resource_wireguard.features.isolation import netns, tables
from resource_wireguard.features.isolation.netns import NetnsView
from resource_wireguard.host.render import lines_of
from resource_wireguard.model.names import check_name, not_found
from resource_wireguard.model.specs import NamespaceSpec, Specs

Kind = Literal["docker", "netns"]


class Create(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new namespace; without a tunnel it has no way out."""

    name: str
    tunnel: str | None = None
    kind: Kind = "docker"
    dns: tuple[str, ...] = ()


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One namespace."""

    name: str


class Listing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request without fields."""


class NamespaceView(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace as asked for and as it is; drift holds the lines of 'plan' that concern it.

    state is 'up', 'isolated' (no way out: no tunnel, or none that runs), 'degraded' or 'down'.
    """

    name: str
    kind: str
    tunnel: str | None
    state: str
    drift: tuple[str, ...] = ()
    problems: tuple[ProblemView, ...] = ()
    netns: NetnsView | None = None


class Deleted(msgspec.Struct, frozen=True):
    """The name that is free again."""

    name: str


def create(engine: Engine, request: Create) -> NamespaceView:
    """Store a new namespace and make it."""
    specs = engine.specs()
    check_name(request.name, "namespace")
    _refuse_taken_name(specs, request.name)
    if request.tunnel is not None:
        specs.tunnel(request.tunnel)
    spec = NamespaceSpec(
        name=request.name,
        number=_number(specs),
        kind=request.kind,
        tunnel=request.tunnel,
        dns=request.dns,
        created_at=engine.resources.clock.now(),
    )
    if spec.kind == "netns":
        netns.refuse(engine, specs, spec)
    with engine.change():
        tables.put(engine.resources.store, spec)
        engine.journal(spec.name, f"namespace stored: through {spec.tunnel or 'nothing'}")
    return namespace_view(engine, spec, engine.settle(spec.name))


def delete(engine: Engine, request: Named) -> Deleted:
    """Take a namespace down and forget it."""
    spec = named(engine.specs(), request.name)
    if spec.kind == "netns":
        netns.refuse_while_used(engine, spec)
    with engine.change():
        tables.delete(engine.resources.store, spec.name)
        engine.journal(spec.name, "namespace deleted")
    engine.settle(spec.name)
    return Deleted(spec.name)


def status(engine: Engine, request: Named) -> NamespaceView:
    """One namespace as asked for and as it is."""
    spec = named(engine.specs(), request.name)
    return namespace_view(engine, spec, engine.report())


def listing(engine: Engine, _: Listing) -> list[NamespaceView]:
    """All namespaces by name."""
    report = engine.report()
    return [namespace_view(engine, spec, report) for spec in engine.last_specs.namespaces]


def enter(engine: Engine, request: Named) -> netns.Entrance:
    """What a program needs to run in a namespace."""
    spec = named(engine.specs(), request.name)
    if spec.kind != "netns":
        raise InvalidInput(
            f"namespace '{spec.name}' is a Docker network, which holds containers",
            f"start one in it: docker run --network wg-{spec.name} IMAGE",
        )
    report = engine.report()
    if namespace_view(engine, spec, report).state == "down":
        raise HostError(f"network namespace wg-{spec.name} is not there", "see 'resource-wireguard status'")
    return netns.entrance(spec, engine.last_specs)


COMMANDS = (
    Command("namespace.create", Create, create),
    Command("namespace.delete", Named, delete),
    Command("namespace.status", Named, status),
    Command("namespace.list", Listing, listing),
    Command("namespace.enter", Named, enter),
)


def named(specs: Specs, name: str) -> NamespaceSpec:
    """The namespace of that name; NotFound with the nearest name."""
    for spec in specs.namespaces:
        if spec.name == name:
            return spec
    raise not_found("namespace", name, [spec.name for spec in specs.namespaces], "namespace list")


def namespace_view(engine: Engine, spec: NamespaceSpec, report: Report) -> NamespaceView:
    """One namespace beside what the host shows of it."""
    drift = tuple(lines_of(report.drift_of(spec.name)))
    if spec.kind == "netns":
        return NamespaceView(
            name=spec.name,
            kind=spec.kind,
            tunnel=spec.tunnel,
            state=netns.state(spec, engine.last_specs, report, bool(drift)),
            drift=drift,
            problems=tuple(netns.problems(spec, engine.last_specs)),
            netns=netns.view(engine, spec, report),
        )
    return NamespaceView(
        name=spec.name,
        kind=spec.kind,
        tunnel=spec.tunnel,
        state="degraded" if drift else "up" if spec.tunnel else "isolated",
        drift=drift,
    )


def _number(specs: Specs) -> int:
    """The lowest free one, from 1."""
    taken = {spec.number for spec in specs.namespaces}
    return next(n for n in range(1, len(taken) + 2) if n not in taken)


def _refuse_taken_name(specs: Specs, name: str) -> None:
    if any(spec.name == name for spec in specs.namespaces):
        raise AlreadyExists(
            f"namespace '{name}' exists already",
            f"see 'resource-wireguard namespace status {name}', or choose another name",
        )
