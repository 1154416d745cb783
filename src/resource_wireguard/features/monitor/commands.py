"""What the bus answers to 'status' and 'stats'."""

import os
import resource
from pathlib import Path

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command, Feature
from resource_wireguard.engine.recall import PendingView, pending_view
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.engine.views import PeerView, TunnelView, peer_view, tunnel_view
from resource_wireguard.features.monitor.checks import Check, checks_of
from resource_wireguard.model.specs import TunnelSpec


class StatusRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request without fields."""


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


class Status(msgspec.Struct, frozen=True):
    """What 'status' answers."""

    service: Service
    tunnels: tuple[TunnelView, ...]


class TunnelStats(msgspec.Struct, frozen=True):
    """Bytes of one tunnel: the sums over its peers, and the peers."""

    name: str
    state: str
    rx_bytes: int
    tx_bytes: int
    peers: tuple[PeerView, ...]


class AgentStats(msgspec.Struct, frozen=True):
    """What the agent itself takes from the host."""

    pid: int
    uptime_seconds: float
    cpu_seconds: float
    rss_bytes: int


class Stats(msgspec.Struct, frozen=True):
    """What 'stats' answers."""

    tunnels: tuple[TunnelStats, ...]
    agent: AgentStats


def status(engine: Engine, _: StatusRequest) -> Status:
    """A fresh look at the host, and what it means for the service."""
    report = engine.report()
    specs = engine.last_specs
    tunnels = tuple(tunnel_view(tunnel, report) for tunnel in specs.tunnels)
    checks = checks_of(report, tunnels)
    health = "healthy" if all(check.ok for check in checks) else "unhealthy"
    waiting, now = engine.history.pending(), engine.resources.clock.now()
    pending = pending_view(waiting, now) if waiting else None
    service = Service("running", health, report.observation.engine, checks, engine.drift, pending)
    return Status(service, tunnels)


def stats(engine: Engine, request: StatsRequest) -> Stats:
    """Counters of all tunnels or of one, and what the agent takes."""
    report = engine.report()
    specs = engine.last_specs
    tunnels = [specs.tunnel(request.tunnel)] if request.tunnel else specs.tunnels
    return Stats(tuple(_stats_of(tunnel, report) for tunnel in tunnels), _agent_stats())


def feature() -> Feature:
    """Only words on the bus: monitoring wants nothing of the host."""
    commands = (Command("status", StatusRequest, status), Command("stats", StatsRequest, stats))
    return Feature("monitor", commands=commands)


def _stats_of(tunnel: TunnelSpec, report: Report) -> TunnelStats:
    peers = tuple(peer_view(tunnel, peer, report) for peer in tunnel.peers)
    return TunnelStats(
        name=tunnel.name,
        state=tunnel_view(tunnel, report).state,
        rx_bytes=sum(peer.rx_bytes for peer in peers),
        tx_bytes=sum(peer.tx_bytes for peer in peers),
        peers=peers,
    )


def _agent_stats() -> AgentStats:
    used = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return AgentStats(
        pid=os.getpid(),
        uptime_seconds=round(_uptime(), 3),
        cpu_seconds=round(used.ru_utime + used.ru_stime, 3),
        rss_bytes=pages * resource.getpagesize(),
    )


def _uptime() -> float:
    """Seconds since this process began (proc(5): starttime, in ticks since boot, is the 22nd field)."""
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    since_boot = float(Path("/proc/uptime").read_text().split()[0])
    return since_boot - int(after_name[19]) / os.sysconf("SC_CLK_TCK")
