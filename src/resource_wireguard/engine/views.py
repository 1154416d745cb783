"""What the bus shows of tunnels and peers: specs beside what the kernel shows of them.

The fields are those of docs/bus.md and part of the interface: add, never rename.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from resource_wireguard.engine.reconcile import Report
from resource_wireguard.host.facts import PeerFacts, Problem, peer_state
from resource_wireguard.host.render import lines_of
from resource_wireguard.host.state import Link
from resource_wireguard.model.specs import DeviceSpec, PeerSpec, TunnelSpec


class ProblemView(msgspec.Struct, frozen=True):
    """What went wrong, and the way out."""

    message: str
    hint: str = ""


class DeviceView(msgspec.Struct, frozen=True):
    """A further device of a tunnel; successor: it is to take the first one's place."""

    interface: str
    listen_port: int
    public_key: str
    successor: bool
    state: str


class TunnelView(msgspec.Struct, frozen=True, kw_only=True):
    """A tunnel as asked for and as it is; drift holds the lines of 'plan' that concern it.

    netns is the network namespace in which the kernel shows its interface, None for the host's own.
    """

    name: str
    interface: str
    active: bool
    engine: str | None
    state: str
    listen_port: int
    public_key: str
    addresses: tuple[str, ...]
    mtu: int | None
    exit: bool
    endpoint: str | None
    dns: tuple[str, ...]
    peers: int
    peers_online: int
    drift: tuple[str, ...]
    problems: tuple[ProblemView, ...]
    further: tuple[DeviceView, ...] = ()
    netns: str | None = None


class PeerView(msgspec.Struct, frozen=True, kw_only=True):
    """A peer as asked for and as the device sees it; latest_handshake is ISO 8601 in UTC.

    unresolved: the endpoint is a name for which no resolver gave an address yet, so nothing is sent there.
    """

    name: str
    public_key: str
    enabled: bool
    state: str
    addresses: tuple[str, ...]
    allowed_ips: tuple[str, ...]
    endpoint: str | None
    keepalive: int
    latest_handshake: str | None
    rx_bytes: int
    tx_bytes: int
    preshared_key: bool
    config_held: bool
    unresolved: bool = False


def tunnel_view(tunnel: TunnelSpec, report: Report) -> TunnelView:
    """One tunnel beside its interface; engine is None where the kernel shows no interface."""
    link = report.observation.state.of(Link).get(tunnel.interface)
    devices = report.specs.further(tunnel.name).devices
    left = report.drift_of(tunnel.name)
    drift, shared = tuple(lines_of(left)), any(action.record.interface is None for action in left)
    of_host = report.problems_of("") if shared else ()
    interfaces = (tunnel.interface, *(device.interface for device in devices))
    of_it = (problem for interface in interfaces for problem in report.problems_of(interface))
    problems = problem_views((*of_it, *of_host))
    return TunnelView(
        name=tunnel.name,
        interface=tunnel.interface,
        active=tunnel.active,
        engine=link.engine if link else None,
        state=_tunnel_state(tunnel.active, link, bool(drift or problems)),
        listen_port=tunnel.listen_port,
        public_key=str(tunnel.public_key),
        addresses=tunnel.addresses,
        mtu=link.mtu if link else tunnel.mtu,
        exit=tunnel.exit,
        endpoint=str(tunnel.endpoint) if tunnel.endpoint else None,
        dns=tunnel.dns,
        peers=len(tunnel.peers),
        peers_online=sum(_state_of(tunnel, peer, report) == "online" for peer in tunnel.peers),
        drift=drift,
        problems=problems,
        further=tuple(_device_view(tunnel, device, report) for device in devices),
        netns=link.netns if link else None,
    )


def _device_view(tunnel: TunnelSpec, device: DeviceSpec, report: Report) -> DeviceView:
    link = report.observation.state.of(Link).get(device.interface)
    state = _tunnel_state(tunnel.active, link, bool(report.problems_of(device.interface)))
    return DeviceView(device.interface, device.listen_port, str(device.public_key), device.successor, state)


def peer_view(tunnel: TunnelSpec, peer: PeerSpec, report: Report) -> PeerView:
    """One peer beside its facts; a learned endpoint comes before the one we were told."""
    facts = _facts_of(tunnel, peer, report) or PeerFacts()
    told = str(peer.endpoint) if peer.endpoint else None
    return PeerView(
        name=peer.name,
        public_key=str(peer.public_key),
        enabled=peer.enabled,
        state=_state_of(tunnel, peer, report),
        addresses=peer.addresses,
        allowed_ips=tuple(sorted(peer.allowed_ips)),
        endpoint=facts.endpoint or told,
        keepalive=peer.keepalive,
        latest_handshake=iso_time(facts.latest_handshake),
        rx_bytes=facts.rx_bytes,
        tx_bytes=facts.tx_bytes,
        preshared_key=peer.preshared_key is not None,
        config_held=peer.has_private_key,
        unresolved=_is_unresolved(tunnel, peer, report) and facts.endpoint is None,
    )


def _is_unresolved(tunnel: TunnelSpec, peer: PeerSpec, report: Report) -> bool:
    endpoint = peer.endpoint if tunnel.active and peer.enabled else None
    return endpoint is not None and endpoint.is_name and endpoint.host not in report.facts.resolved


def problem_views(problems: Iterable[Problem]) -> tuple[ProblemView, ...]:
    """Problems as the bus shows them, each once."""
    return tuple(dict.fromkeys(ProblemView(problem.message, problem.hint) for problem in problems))


def iso_time(seconds: float | None) -> str | None:
    """Unix seconds as '2025-06-01T12:00:00Z'."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _tunnel_state(active: bool, link: Link | None, troubled: bool) -> str:
    if not active:
        return "inactive"
    if link is None:
        return "down"
    return "degraded" if troubled else "up"


def _facts_of(tunnel: TunnelSpec, peer: PeerSpec, report: Report) -> PeerFacts | None:
    """Where it shook hands last, with the bytes of all its places."""
    places = report.specs.places(tunnel, peer)
    seen = report.observation.peers
    if len(places) == 1:
        return seen.get(places[0])
    known = [facts for place in places if (facts := seen.get(place))]
    where = seen.get(places[report.facts.latest(places)])
    return where and msgspec.structs.replace(
        where,
        rx_bytes=sum(facts.rx_bytes for facts in known),
        tx_bytes=sum(facts.tx_bytes for facts in known),
    )


def _state_of(tunnel: TunnelSpec, peer: PeerSpec, report: Report) -> str:
    return peer_state(peer.enabled, _facts_of(tunnel, peer, report), report.facts.now)
