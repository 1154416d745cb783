"""namespace.connect and namespace.disconnect: running containers into a namespace, and back."""

import msgspec
from msgspec.structs import replace

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.errors import AlreadyExists, ConflictError, HostError, InvalidInput, NotFound
from resource_wireguard.features.isolation import tables
from resource_wireguard.features.isolation.commands import named, require_docker
from resource_wireguard.features.isolation.views import DNS_HINT, NamespaceView, containers_of, namespace_view
from resource_wireguard.host.facts import ContainerFacts
from resource_wireguard.host.render import lines_of
from resource_wireguard.host.state import Attachment
from resource_wireguard.model.specs import AttachedSpec, NamespaceSpec, Specs

WITHOUT_NETWORKS = ("host", "none", "container:")
"""Modes of containers whose network cannot be changed: the host's, none, another container's."""


class Attach(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One container, and the namespace it is to be in."""

    container: str
    name: str


class Detach(Attach, frozen=True, forbid_unknown_fields=True):
    """One container, and the namespace it is to leave."""


class Connected(msgspec.Struct, frozen=True):
    """The namespace after it, with the networks that the container has left or been given back."""

    namespace: NamespaceView
    networks: tuple[str, ...]


def connect(engine: Engine, request: Attach) -> Connected:
    """Attach a container to a namespace, and to nothing else; its other networks are remembered."""
    spec = named(engine.specs(), request.name)
    if spec.kind != "docker":
        hint = f"run programs in it: resource-wireguard namespace exec {spec.name} -- COMMAND"
        raise InvalidInput(f"namespace '{spec.name}' is no Docker network", hint)
    _refuse_held(engine.last_specs, spec, request.container)
    attached = AttachedSpec(container=request.container)
    with engine.change():
        _put(engine, spec, (*spec.attached, attached))
        found = _look_for(engine, spec, request.container)
        before = tuple(sorted(found.networks - {spec.network}))
        _put(engine, spec, (*spec.attached, replace(attached, before=before)))
        engine.journal(spec.name, f"container {found.name} connected" + _away_from(before))
    report = engine.settle(spec.name)
    _require_done(report, spec, request.container)
    after = named(engine.last_specs, spec.name)
    return Connected(namespace_view(after, engine.last_specs, report), before)


def disconnect(engine: Engine, request: Detach) -> Connected:
    """Take a container out of a namespace; it gets back the networks that it had before, if we took it in."""
    report = engine.report()
    spec = named(engine.last_specs, request.name)
    require_docker(report)
    held = next((one for one in spec.attached if one.container == request.container), None)
    before = held.before if held else _others(spec, report, request.container)
    leaving = AttachedSpec(container=request.container, before=before, leaving=True)
    others = tuple(one for one in spec.attached if one is not held)
    with engine.change():
        _put(engine, spec, (*others, leaving))
        engine.journal(spec.name, f"container {request.container} disconnected")
    report = engine.settle(spec.name)
    _require_done(report, spec, request.container)
    with engine.change():  # it is out: from now on it is no concern of ours
        _put(engine, spec, others)
    report = engine.report()
    after = named(engine.last_specs, spec.name)
    return Connected(namespace_view(after, engine.last_specs, report), leaving.before)


COMMANDS = (
    Command("namespace.connect", Attach, connect),
    Command("namespace.disconnect", Detach, disconnect),
)


def _put(engine: Engine, spec: NamespaceSpec, attached: tuple[AttachedSpec, ...]) -> None:
    tables.put(engine.resources.store, replace(spec, attached=attached))


def _look_for(engine: Engine, spec: NamespaceSpec, name: str) -> ContainerFacts:
    """The container of that name, if it can be bound to a namespace at all; a refusal says why not."""
    report = engine.report()
    require_docker(report)
    found = report.observation.docker.containers.get(name)
    if found is None:
        raise NotFound(f"no container named '{name[:60]}'", "see 'docker ps -a'")
    if found.mode.startswith(WITHOUT_NETWORKS):
        raise ConflictError(
            f"container '{name}' was started with --network {found.mode}: it cannot be attached to networks",
            f"make it anew: docker run --network {spec.network} …",
        )
    if found.asks_outside:
        raise ConflictError(
            f"the DNS queries of container '{name}' would leave outside the tunnel: "
            "Docker makes them from the host",
            DNS_HINT,
        )
    return found


def _refuse_held(specs: Specs, spec: NamespaceSpec, container: str) -> None:
    for other in specs.namespaces:
        if all(attached.container != container for attached in other.attached):
            continue
        if other.name == spec.name:
            raise AlreadyExists(f"container '{container}' is in namespace '{spec.name}' already", "")
        raise ConflictError(
            f"container '{container}' is in namespace '{other.name}'",
            f"take it out first: resource-wireguard namespace disconnect {container} {other.name}",
        )


def _others(spec: NamespaceSpec, report: Report, container: str) -> tuple[str, ...]:
    """The further networks of a container that came into the namespace by itself."""
    inside = {found.name: found for found in containers_of(spec, report)}
    if container not in inside:
        raise NotFound(
            f"container '{container[:60]}' is not in namespace '{spec.name}'",
            f"in it are: {', '.join(inside)}" if inside else "nothing is",
        )
    return tuple(sorted(inside[container].networks - {spec.network}))


def _away_from(networks: tuple[str, ...]) -> str:
    return f", away from {', '.join(networks)}" if networks else ""


def _require_done(report: Report, spec: NamespaceSpec, container: str) -> None:
    left = [action for action in report.drift if isinstance(action.record, Attachment)]
    mine = [action for action in left if action.record.key == container]
    if mine:
        problem = next((p for p in report.problems if container in p.message), None)
        raise HostError(
            f"namespace '{spec.name}': {problem.message if problem else lines_of(mine)[0]}",
            (problem.hint if problem else "") or "the agent keeps trying; see 'resource-wireguard plan'",
        )
