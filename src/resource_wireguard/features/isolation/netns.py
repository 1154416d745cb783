"""Namespaces of kind 'netns': what is refused, what is shown, and what a program there gets."""

import ipaddress
from collections.abc import Iterable, Iterator

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.errors import ConflictError, HostError, InvalidInput
from resource_wireguard.host.facts import Problem
from resource_wireguard.host.state import Link
from resource_wireguard.model.net import covers, is_address
from resource_wireguard.model.specs import NamespaceSpec, Specs, TunnelSpec

NAMED_MOST = 5
"""Processes that are named where a namespace cannot be deleted because of them."""


class Process(msgspec.Struct, frozen=True):
    """A program that runs in a namespace."""

    pid: int
    command: str


class NetnsView(msgspec.Struct, frozen=True, kw_only=True):
    """A network namespace as the host shows it.

    interface is the one that lies in it; reaches are the prefixes that lead through the tunnel; dns is what
    its programs ask: servers, then search domains.
    """

    interface: str | None
    reaches: tuple[str, ...]
    dns: tuple[str, ...]
    processes: tuple[Process, ...] = ()


class Entrance(msgspec.Struct, frozen=True):
    """What a program needs to run in a namespace: the name under /run/netns, and its resolv.conf(5)."""

    netns: str
    resolv_conf: str


def refuse(engine: Engine, tunnel: TunnelSpec | None, spec: NamespaceSpec) -> None:
    """HostError where this host makes no network namespaces, InvalidInput for what makes no sense there."""
    if refusal := engine.resources.host.netns_refusal(spec.network):
        raise HostError(refusal.message, refusal.hint)
    if tunnel and tunnel.exit:
        raise InvalidInput(
            f"tunnel '{tunnel.name}' is an exit for its peers, so its interface must stay with the host",
            "use another tunnel, or a namespace without --netns",
        )
    for word in spec.dns:
        if not is_address(word):
            raise InvalidInput(f"DNS server {word!r} is not an address", "for example: --dns 10.64.0.1")


def refuse_while_used(engine: Engine, spec: NamespaceSpec) -> None:
    """ConflictError while processes are in it, or while its tunnel would become the way of the whole host."""
    if found := processes(engine, spec):
        named = [f"{process.pid} ({process.command})" for process in found]
        more = f" and {len(named) - NAMED_MOST} more" if len(named) > NAMED_MOST else ""
        raise ConflictError(
            f"processes run in namespace '{spec.name}': {', '.join(named[:NAMED_MOST])}{more}",
            "end them first",
        )
    tunnel = tunnel_of(spec, engine.last_specs)
    if tunnel and tunnel.active and any(prefix.endswith("/0") for prefix in _reached(tunnel)):
        raise ConflictError(
            f"without namespace '{spec.name}', tunnel '{tunnel.name}' would carry all traffic of this host",
            f"take it down first: resource-wireguard content deactivate {tunnel.name}",
        )


def view(spec: NamespaceSpec, specs: Specs, report: Report) -> NetnsView:
    """What the host shows of a namespace, but for the processes."""
    tunnel = tunnel_of(spec, specs)
    link = report.observation.state.of(Link).get(tunnel.interface) if tunnel else None
    inside = link is not None and link.netns == spec.network
    return NetnsView(
        interface=link.name if link and inside else None,
        reaches=_reached(tunnel) if tunnel and inside else (),
        dns=dns_of(spec, tunnel),
    )


def processes(engine: Engine, spec: NamespaceSpec) -> tuple[Process, ...]:
    """Those that run in a namespace, by their pids."""
    found = engine.resources.host.netns_processes(spec.network)
    return tuple(Process(pid, found[pid]) for pid in sorted(found))


def problems(spec: NamespaceSpec, specs: Specs) -> Iterator[Problem]:
    """What stands in the way of a program there, though all is as it was asked for."""
    tunnel = tunnel_of(spec, specs)
    servers = [word for word in dns_of(spec, tunnel) if is_address(word)]
    if tunnel and not servers:
        yield Problem("no DNS server is known, so names do not resolve there", "make it with --dns ADDRESS")
    for server in servers:
        if tunnel and not any(covers(prefix, _host_prefix(server)) for prefix in _reached(tunnel)):
            yield Problem(
                f"DNS server {server} does not lie behind tunnel '{tunnel.name}'",
                "name one that does with --dns, or route it: peer update … --routes",
            )


def entrance(spec: NamespaceSpec, specs: Specs) -> Entrance:
    """For a namespace that is there."""
    words = dns_of(spec, tunnel_of(spec, specs))
    lines = [f"# For programs in namespace '{spec.name}' of resource-wireguard."]
    lines += [f"nameserver {word}" for word in words if is_address(word)]
    if search := [word for word in words if not is_address(word)]:
        lines.append(f"search {' '.join(search)}")
    return Entrance(spec.network, "".join(f"{line}\n" for line in lines))


def dns_of(spec: NamespaceSpec, tunnel: TunnelSpec | None) -> tuple[str, ...]:
    """What programs in a namespace ask: its own servers, else what its tunnel came with."""
    return spec.dns or (tunnel.host_dns or tunnel.dns if tunnel else ())


def tunnel_of(spec: NamespaceSpec, specs: Specs) -> TunnelSpec | None:
    """Its tunnel; None for a namespace that has none, or whose tunnel was deleted."""
    return next((tunnel for tunnel in specs.tunnels if tunnel.name == spec.tunnel), None)


def _reached(tunnel: TunnelSpec) -> tuple[str, ...]:
    return tuple(sorted(frozenset[str]().union(*_allowed(tunnel))))


def _allowed(tunnel: TunnelSpec) -> Iterable[frozenset[str]]:
    return (peer.allowed_ips for peer in tunnel.peers if peer.enabled)


def _host_prefix(address: str) -> str:
    return str(ipaddress.ip_network(address))
