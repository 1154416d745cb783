"""What the bus answers to 'status' and 'stats'."""

import os
import resource
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Check, Command, Feature, Nothing
from resource_wireguard.engine.recall import PendingView, pending_view
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.engine.views import PeerView, TunnelView, iso_time, peer_view, tunnel_view
from resource_wireguard.features.monitor.checks import checks_of
from resource_wireguard.features.monitor.monitor import Monitor, cpu_seconds
from resource_wireguard.features.monitor.tables import MIGRATIONS
from resource_wireguard.host.facts import LinkFacts
from resource_wireguard.model.specs import TunnelSpec


class StatsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All tunnels, or one."""

    tunnel: str | None = None


class Service(msgspec.Struct, frozen=True):
    """The service as a whole; health is 'healthy' or 'unhealthy', drift 'enforce' or 'report'.

    pending is the change that is taken back unless it is confirmed, if there is one.
    """

    state: str
    health: str
    engine: str | None
    checks: tuple[Check, ...]
    drift: str = "enforce"
    pending: PendingView | None = None


class TunnelStatus(TunnelView, frozen=True, kw_only=True):
    """A tunnel with its latest handshake (ISO 8601) and its rates: bytes a second, None while unknown."""

    latest_handshake: str | None
    rx_rate: float | None
    tx_rate: float | None


class Status(msgspec.Struct, frozen=True):
    """What 'status' answers."""

    service: Service
    tunnels: tuple[TunnelStatus, ...]


class PeerStats(PeerView, frozen=True, kw_only=True):
    """A peer with all bytes there ever were, and its rates in bytes a second, None while unknown."""

    rx_total: int
    tx_total: int
    rx_rate: float | None
    tx_rate: float | None


class TunnelStats(msgspec.Struct, frozen=True, kw_only=True):
    """One tunnel: sums over its peers, and packets that its interface could not carry since it was made."""

    name: str
    interface: str
    state: str
    rx_bytes: int
    tx_bytes: int
    rx_total: int
    tx_total: int
    rx_rate: float | None
    tx_rate: float | None
    rx_errors: int
    tx_errors: int
    rx_dropped: int
    tx_dropped: int
    peers: tuple[PeerStats, ...]


class AgentStats(msgspec.Struct, frozen=True):
    """What the agent itself takes from the host; cpu_percent is of one CPU, None while unknown."""

    pid: int
    uptime_seconds: float
    cpu_seconds: float
    cpu_percent: float | None
    rss_bytes: int


class Stats(msgspec.Struct, frozen=True):
    """What 'stats' answers; rates are averages of the latest rate_seconds."""

    tunnels: tuple[TunnelStats, ...]
    rate_seconds: float | None
    agent: AgentStats


def status(monitor: Monitor, engine: Engine, _: Nothing) -> Status:
    """A fresh look at the host, and what it means for the service."""
    report = engine.report()
    tunnels = tuple(_status_of(monitor, tunnel, report) for tunnel in engine.last_specs.tunnels)
    specs, keys_away = engine.last_specs, engine.resources.secrets.unavailable()
    checks = (
        *checks_of(report, tunnels, keys_away, [namespace.owner for namespace in specs.namespaces]),
        *(check for f in engine.features if f.checks for check in f.checks(specs, report)),
    )
    health = "healthy" if all(check.ok for check in checks) else "unhealthy"
    waiting, now = engine.history.pending(), engine.resources.clock.now()
    pending = pending_view(waiting, now) if waiting else None
    service = Service("running", health, report.observation.engine, checks, engine.drift, pending)
    return Status(service, tunnels)


def stats(monitor: Monitor, engine: Engine, request: StatsRequest) -> Stats:
    """Counters of all tunnels or of one, and what the agent takes."""
    report = engine.report()
    specs = engine.last_specs
    tunnels = [specs.tunnel(request.tunnel)] if request.tunnel else specs.tunnels
    shown = tuple(_stats_of(monitor, tunnel, report) for tunnel in tunnels)
    return Stats(shown, _rounded(monitor.rates.seconds), _agent_stats(monitor))


def feature() -> Feature:
    """Monitoring wants nothing of the host: it only sees what is seen anyway, and answers."""
    monitor = Monitor()
    return Feature(
        "monitor",
        migrations=MIGRATIONS,
        recorded=("traffic",),
        commands=(
            Command("status", Nothing, partial(status, monitor)),
            Command("stats", StatsRequest, partial(stats, monitor)),
        ),
        observed=monitor.observed,
        ending=monitor.ending,
    )


def _status_of(monitor: Monitor, tunnel: TunnelSpec, report: Report) -> TunnelStatus:
    keys = [place for peer in tunnel.peers for place in report.specs.places(tunnel, peer)]
    seen = [facts for key in keys if (facts := report.observation.peers.get(key))]
    rates = [monitor.rates.of(key) for key in keys]
    return TunnelStatus(
        **msgspec.structs.asdict(tunnel_view(tunnel, report)),
        latest_handshake=iso_time(
            max((f.latest_handshake for f in seen if f.latest_handshake), default=None)
        ),
        rx_rate=_sum([received for received, _ in rates]),
        tx_rate=_sum([sent for _, sent in rates]),
    )


def _stats_of(monitor: Monitor, tunnel: TunnelSpec, report: Report) -> TunnelStats:
    peers = []
    for peer in tunnel.peers:
        places = report.specs.places(tunnel, peer)
        rates = [monitor.rates.of(place) for place in places]
        peers.append(
            PeerStats(
                **msgspec.structs.asdict(peer_view(tunnel, peer, report)),
                rx_total=sum(monitor.totals[place].rx_total for place in places),
                tx_total=sum(monitor.totals[place].tx_total for place in places),
                rx_rate=_sum([received for received, _ in rates]),
                tx_rate=_sum([sent for _, sent in rates]),
            )
        )
    return TunnelStats(
        name=tunnel.name,
        interface=tunnel.interface,
        state=tunnel_view(tunnel, report).state,
        rx_bytes=sum(peer.rx_bytes for peer in peers),
        tx_bytes=sum(peer.tx_bytes for peer in peers),
        rx_total=sum(peer.rx_total for peer in peers),
        tx_total=sum(peer.tx_total for peer in peers),
        rx_rate=_sum([peer.rx_rate for peer in peers]),
        tx_rate=_sum([peer.tx_rate for peer in peers]),
        peers=tuple(peers),
        **_counters(tunnel, report),
    )


def _counters(tunnel: TunnelSpec, report: Report) -> dict[str, int]:
    """What all interfaces of a tunnel could not carry."""
    devices = report.specs.further(tunnel.name).devices
    names = (tunnel.interface, *(device.interface for device in devices))
    seen = [report.observation.links.get(name, LinkFacts()) for name in names]
    return {field: sum(getattr(one, field) for one in seen) for field in LinkFacts.__struct_fields__}


def _sum(rates: Sequence[float | None]) -> float | None:
    """None while no rate is known; a tunnel without peers carries nothing."""
    return None if None in rates else _rounded(sum(rate for rate in rates if rate))


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 1)


def _agent_stats(monitor: Monitor) -> AgentStats:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    percent = monitor.rates.cpu_percent()
    return AgentStats(
        pid=os.getpid(),
        uptime_seconds=round(_uptime(), 3),
        cpu_seconds=round(cpu_seconds(), 3),
        cpu_percent=None if percent is None else round(percent, 2),
        rss_bytes=pages * resource.getpagesize(),
    )


def _uptime() -> float:
    """Seconds since this process began (proc(5): starttime, in ticks since boot, is the 22nd field)."""
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    since_boot = float(Path("/proc/uptime").read_text().split()[0])
    return since_boot - int(after_name[19]) / os.sysconf("SC_CLK_TCK")
