"""WireGuard interfaces of others: read as they are, and marked as ours where a user asks for it by name."""

from collections.abc import Iterable

from resource_wireguard.errors import ConflictError, HostError, InvalidInput, NotFound
from resource_wireguard.host.facts import Found, Problem
from resource_wireguard.host.ownership import alias_of
from resource_wireguard.host.render import noun_of
from resource_wireguard.host.state import Link, Route
from resource_wireguard.system import netlink, routing, uapi
from resource_wireguard.system.engines import Engines
from resource_wireguard.system.messages import NetlinkSocket
from resource_wireguard.system.netlink import SeenLink
from resource_wireguard.system.wireguard import WireGuard


def read(kernel: NetlinkSocket, wireguard: WireGuard, engines: Engines, interface: str) -> Found:
    """All of one interface; NotFound, ConflictError, InvalidInput or HostError as the port says."""
    seen = netlink.link(kernel, interface)
    if seen is None:
        raise NotFound(f"no interface {interface} on this host", "see 'wg show interfaces'")
    if seen.tunnel is not None or (seen.kind == "tun" and engines.is_ours(interface)):
        raise ConflictError(
            f"interface {interface} is that of tunnel '{seen.tunnel or ''}' already", "see 'interface list'"
        )
    engine = _engine_of(seen)
    link = Link(interface, "", engine, seen.mtu, seen.up)
    readings, problems = wireguard.read([link])
    if problems:
        raise HostError(problems[0].message, problems[0].hint)
    (said,) = readings
    return Found(
        index=seen.index,
        link=link,
        alias=seen.alias,
        device=said.device,
        peers=tuple(said.peers.values()),
        endpoints={key: record.endpoint for (_, key), record in said.endpoints.items()},
        addresses=tuple(a.address for a in netlink.addresses(kernel, {seen.index: interface})),
        routes=frozenset(routing.plain_routes(kernel, seen.index, interface)),
    )


def take_over(
    kernel: NetlinkSocket, found: Found, tunnel: str, routes: Iterable[Route]
) -> tuple[Problem, ...]:
    """Mark the link by its alias, and each route by our protocol in one message that replaces it."""
    seen = netlink.link(kernel, found.link.name)
    if seen is None or seen.index != found.index or seen.tunnel is not None:
        raise HostError(f"interface {found.link.name} is not what it was a moment ago", "look, and try again")
    netlink.set_alias(kernel, found.index, alias_of(tunnel))
    problems: list[Problem] = []
    for route in routes:
        try:
            routing.add_route(kernel, route, found.index, replace=True)
        except HostError as error:
            problems.append(Problem(f"{noun_of(route)}: {error.message}", error.hint, found.link.name))
    return tuple(problems)


def _engine_of(seen: SeenLink) -> str:
    if seen.kind == "wireguard":
        return "kernel"
    client = uapi.connect(seen.name) if seen.kind == "tun" else None
    if client is None:
        raise InvalidInput(
            f"interface {seen.name} runs no WireGuard", "'wg show interfaces' lists those that do"
        )
    client.close()
    return "userspace"
