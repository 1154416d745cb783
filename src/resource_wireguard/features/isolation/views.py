"""What the bus shows of a namespace: the spec beside what the host shows, and what is wrong with it."""

from collections.abc import Iterator, Sequence

import msgspec

from resource_wireguard.engine.feature import Check
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.engine.views import ProblemView, problem_views
from resource_wireguard.features.isolation import netns
from resource_wireguard.features.isolation.netns import NetnsView
from resource_wireguard.host.facts import ContainerFacts, Problem
from resource_wireguard.host.render import lines_of
from resource_wireguard.host.state import DockerNetwork, Link, NetNamespace
from resource_wireguard.model.specs import NamespaceSpec, Specs

CODES = ("namespace-in-sync", "namespace-closed")
"""Every check of a namespace."""


DNS_HINT = "start it with --dns ADDRESS, or set 'dns' in /etc/docker/daemon.json: those are asked from inside"


class ContainerView(msgspec.Struct, frozen=True, kw_only=True):
    """A container in a namespace; dns is 'tunnel', or 'host' where Docker asks for it, outside.

    other_networks are further ways out that it has. connected says that 'namespace connect' put it here.
    """

    name: str
    running: bool
    dns: str
    other_networks: tuple[str, ...]
    connected: bool


class NamespaceView(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace as asked for and as it is; drift holds the lines of 'plan' that concern it.

    state is 'up', 'isolated' (no way out: no tunnel, or none that runs), 'degraded' (what holds it in, or its
    network, is not as it should be), 'leaking' (something in it has another way out) or 'down'. network names
    its Docker network or network namespace. notes are for whoever made it.
    """

    name: str
    kind: str
    tunnel: str | None
    state: str
    network: str | None
    prefixes: tuple[str, ...]
    intercontainer: bool
    containers: tuple[ContainerView, ...]
    drift: tuple[str, ...]
    problems: tuple[ProblemView, ...]
    notes: tuple[str, ...] = ()
    netns: NetnsView | None = None


def namespace_view(spec: NamespaceSpec, specs: Specs, report: Report) -> NamespaceView:
    """One namespace beside what the host shows of it."""
    left = report.drift_of(spec.owner)
    leaks = list(_leaks(spec, report))
    inside = spec.kind == "netns"
    told = [*leaks, *_without_tunnel(spec, specs), *(report.problems_of("") if left else ())]
    told += netns.problems(spec, specs) if inside else ()
    return NamespaceView(
        name=spec.name,
        kind=spec.kind,
        tunnel=spec.tunnel,
        state=_state(spec, specs, report, bool(left), bool(leaks)),
        network=spec.network,
        prefixes=spec.prefixes,
        intercontainer=spec.intercontainer,
        containers=tuple(_container(spec, container) for container in containers_of(spec, report)),
        drift=tuple(lines_of(left)),
        problems=problem_views(told),
        netns=netns.view(spec, specs, report) if inside else None,
    )


def containers_of(spec: NamespaceSpec, report: Report) -> list[ContainerFacts]:
    """What is attached to its network, by name; stopped ones too, which come back to it when they start."""
    known = report.observation.docker.containers
    return [known[name] for name in sorted(known) if spec.network in known[name].networks]


def checks(specs: Specs, report: Report) -> Sequence[Check]:
    """Whether each namespace is as specified, and whether it is closed."""
    return [check for spec in specs.namespaces for check in _checks(spec, specs, report)]


def _checks(spec: NamespaceSpec, specs: Specs, report: Report) -> Iterator[Check]:
    view, hint = namespace_view(spec, specs, report), f"see 'resource-wireguard namespace status {spec.name}'"
    if view.drift:
        yield Check("namespace-in-sync", False, f"namespace '{spec.name}': {view.drift[0]}", hint)
    else:
        yield Check("namespace-in-sync", True, f"namespace '{spec.name}' is as specified")
    leaks = list(_leaks(spec, report))
    if leaks:
        yield Check("namespace-closed", False, f"namespace '{spec.name}': {leaks[0].message}", leaks[0].hint)
    else:
        yield Check("namespace-closed", True, f"namespace '{spec.name}' has no other way out")


def _leaks(spec: NamespaceSpec, report: Report) -> Iterator[Problem]:
    """What gets out beside the tunnel though all of ours is in place: it is not ours to change."""
    ours = {attached.container for attached in spec.attached}
    for container in containers_of(spec, report):
        others = sorted(container.networks - {spec.network})
        if others and container.name not in ours:
            yield Problem(
                f"container '{container.name}' has another way out: network {', '.join(others)}",
                f"docker network disconnect {others[0]} {container.name}",
            )
        if container.asks_outside:
            yield Problem(
                f"the DNS queries of container '{container.name}' leave outside the tunnel: "
                "Docker makes them from the host",
                DNS_HINT,
            )


def _without_tunnel(spec: NamespaceSpec, specs: Specs) -> Iterator[Problem]:
    """A tunnel that went away is told of: nobody said that the namespace should have none."""
    if spec.tunnel and all(tunnel.name != spec.tunnel for tunnel in specs.tunnels):
        hint = "create the tunnel again, or delete the namespace"
        yield Problem(f"tunnel '{spec.tunnel}' does not exist any more: nothing gets out", hint)


def _state(spec: NamespaceSpec, specs: Specs, report: Report, drift: bool, leaks: bool) -> str:
    if leaks:
        return "leaking"
    state = report.observation.state
    inside = spec.kind == "netns"
    if spec.network not in (state.of(NetNamespace) if inside else state.of(DockerNetwork)):
        return "down"
    if drift:
        return "degraded"
    running = [tunnel for tunnel in specs.tunnels if tunnel.name == spec.tunnel and tunnel.active]
    link = state.of(Link).get(running[0].interface) if running else None
    return "up" if link and link.netns == (spec.network if inside else None) else "isolated"


def _container(spec: NamespaceSpec, container: ContainerFacts) -> ContainerView:
    return ContainerView(
        name=container.name,
        running=container.running,
        dns="host" if container.asks_outside else "tunnel",
        other_networks=tuple(sorted(container.networks - {spec.network})),
        connected=any(attached.container == container.name for attached in spec.attached),
    )
