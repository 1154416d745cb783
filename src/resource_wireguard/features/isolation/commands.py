"""The namespace.* commands of docs/bus.md."""

from typing import Literal

import msgspec
from msgspec.structs import replace

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.engine.site import site_seed
from resource_wireguard.errors import ConflictError, HostError, InvalidInput
from resource_wireguard.features.isolation import choose, netns, tables
from resource_wireguard.features.isolation.views import NamespaceView, containers_of, namespace_view
from resource_wireguard.host.facts import Survey
from resource_wireguard.host.state import DockerNetwork, Link, NetNamespace
from resource_wireguard.model.names import check_name, not_found
from resource_wireguard.model.specs import NamespaceSpec, Specs, TunnelSpec

Kind = Literal["docker", "netns"]

MTU = 1420
"""Bytes: WireGuard's on Ethernet, for a namespace whose tunnel is not up yet."""


ASKS_OUTSIDE = (
    "here Docker asks for the DNS queries of containers from the host, outside the tunnel, unless they are "
    "started with --dns ADDRESS: see docs/isolation.md"
)


class Create(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new namespace; without a tunnel it has no way out. What is not given is chosen."""

    name: str
    tunnel: str | None = None
    kind: Kind = "docker"
    subnet: str | None = None
    subnet6: str | None = None
    intercontainer: bool = False
    dns: tuple[str, ...] = ()


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One namespace."""

    name: str


class Listing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request without fields."""


class Deleted(msgspec.Struct, frozen=True):
    """The name that is free again."""

    name: str


def create(engine: Engine, request: Create) -> NamespaceView:
    """Store a new namespace and make it."""
    specs = engine.specs()
    check_name(request.name, "namespace")
    choose.refuse_taken_name(specs, request.name)
    tunnel = specs.tunnel(request.tunnel) if request.tunnel is not None else None
    spec = NamespaceSpec(
        name=request.name,
        number=choose.number(specs),
        kind=request.kind,
        tunnel=request.tunnel,
        intercontainer=request.intercontainer,
        mtu=_mtu(engine, tunnel),
        dns=request.dns,
        created_at=engine.resources.clock.now(),
    )
    if spec.kind == "netns":
        netns.refuse(engine, tunnel, spec)
    survey = Survey()
    if spec.kind == "docker":
        engine.progress("asking Docker what is in use")
        survey = engine.resources.host.survey(docker=True)
        spec = _with_network(engine, specs, spec, request, survey)
    with engine.change():
        tables.put(engine.resources.store, spec)
        engine.journal(spec.name, f"namespace stored: through {spec.tunnel or 'nothing'}")
    return replace(_made(engine, spec), notes=(ASKS_OUTSIDE,) if survey.docker_asks_outside else ())


def delete(engine: Engine, request: Named) -> Deleted:
    """Take a namespace down and forget it; refused while anything is in it."""
    report = engine.report()
    spec = named(engine.last_specs, request.name)
    if spec.kind == "docker":
        require_docker(report)
    else:
        netns.refuse_while_used(engine, spec)
    attached = [container.name for container in containers_of(spec, report)]
    if attached:
        raise ConflictError(
            f"namespace '{spec.name}' has containers attached: {', '.join(attached)}",
            f"take them out first: resource-wireguard namespace disconnect {attached[0]} {spec.name}",
        )
    with engine.change():
        tables.delete(engine.resources.store, spec.name)
        engine.journal(spec.name, "namespace deleted")
    report = engine.settle(spec.name)
    if spec.network in report.observation.state.of(DockerNetwork):
        problem = next(iter(report.problems_of("")), None)
        raise HostError(
            f"namespace '{spec.name}' is deleted, but its Docker network is still there"
            + (f": {problem.message}" if problem else ""),
            "nothing gets out of it; the agent keeps trying",
        )
    return Deleted(spec.name)


def status(engine: Engine, request: Named) -> NamespaceView:
    """One namespace as asked for and as it is."""
    report = engine.report()
    spec = named(engine.last_specs, request.name)
    view = namespace_view(spec, engine.last_specs, report)
    if view.netns is None:
        return view
    return replace(view, netns=replace(view.netns, processes=netns.processes(engine, spec)))


def listing(engine: Engine, _: Listing) -> list[NamespaceView]:
    """All namespaces by name."""
    report = engine.report()
    return [namespace_view(spec, engine.last_specs, report) for spec in engine.last_specs.namespaces]


def enter(engine: Engine, request: Named) -> netns.Entrance:
    """What a program needs to run in a network namespace."""
    report = engine.report()
    spec = named(engine.last_specs, request.name)
    if spec.kind != "netns":
        raise InvalidInput(
            f"namespace '{spec.name}' is a Docker network, which holds containers",
            f"start one in it: docker run --network {spec.network} IMAGE",
        )
    if spec.network not in report.observation.state.of(NetNamespace):
        raise HostError(
            f"network namespace {spec.network} is not there",
            f"see 'resource-wireguard namespace status {spec.name}'",
        )
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


def require_docker(report: Report) -> None:
    """HostError where Docker did not answer: what is in a namespace would not be seen."""
    silence = report.observation.docker.silence
    if silence:
        raise HostError(silence.message, silence.hint)


def _with_network(
    engine: Engine, specs: Specs, spec: NamespaceSpec, request: Create, survey: Survey
) -> NamespaceSpec:
    """With prefixes that nobody uses."""
    choose.refuse_taken_network(spec, survey)
    seed = site_seed(engine.resources.store)
    chosen = choose.prefixes(request.subnet, request.subnet6, seed, spec.number, specs, survey)
    return replace(spec, prefixes=chosen)


def _mtu(engine: Engine, tunnel: TunnelSpec | None) -> int:
    """What fits through the tunnel; a Docker network keeps it for its life."""
    if tunnel is None or engine.last is None:
        return MTU
    link = engine.last.observation.state.of(Link).get(tunnel.interface)
    return tunnel.mtu or (link.mtu if link else MTU)


def _made(engine: Engine, spec: NamespaceSpec) -> NamespaceView:
    """Run a pass; HostError if what was made is not there after it."""
    engine.progress(f"making {spec.network}")
    report = engine.settle(spec.name)
    view = namespace_view(spec, engine.last_specs, report)
    if view.state == "down":
        problem = next(iter(view.problems), None)
        raise HostError(
            f"namespace '{spec.name}' is stored, but not made" + (f": {problem.message}" if problem else ""),
            (problem.hint if problem else "") or "the agent keeps trying; see 'resource-wireguard plan'",
        )
    return view
