"""The commands that look: status and stats."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import click

from resource_wireguard.cli import output
from resource_wireguard.cli.client import call
from resource_wireguard.cli.command import Command
from resource_wireguard.cli.options import format_option
from resource_wireguard.cli.views import peer_table, tunnel_table
from resource_wireguard.errors import ServiceNotRunning

WITHIN = 10.0
"""Seconds: what the Vrooli contract grants status."""

EVERY = 2.0
"""Seconds between two looks of --watch."""

HEALTHY, UNHEALTHY, NOT_RUNNING = 0, 1, 2
"""Exit codes of status, as the Vrooli contract has them."""

STOPPED = {"service": {"state": "stopped", "health": "unknown", "engine": None, "checks": []}, "tunnels": []}


@click.command(cls=Command, examples=("status", "status --verbose", "status --format json"))
@format_option
@click.option("--verbose", is_flag=True, help="List all checks, and all peers.")
@click.option("--fast", is_flag=True, expose_value=False, help="Accepted for Vrooli; status is always quick.")
def status(format_: str, verbose: bool) -> int:
    """What runs, and what is wrong.

    Exit code: 0 healthy, 1 unhealthy, 2 not running.
    """
    try:
        found = call("status", within=WITHIN)
    except ServiceNotRunning as stopped:
        return _show_stopped(format_, stopped)
    healthy = found["service"]["health"] == "healthy"
    peers = call("stats", within=WITHIN)["tunnels"] if verbose else []
    shown = {**found, "running": True, "healthy": healthy}
    if verbose and format_ != "text":
        shown["stats"] = peers
    output.show(shown, format_, lambda _: _status_lines(found, peers, verbose))
    return HEALTHY if healthy else UNHEALTHY


@click.command(cls=Command, examples=("stats", "stats home --watch", "stats --format json"))
@click.argument("tunnel", required=False)
@format_option
@click.option("--watch", is_flag=True, help="Again every two seconds, with rates, until Ctrl-C.")
def stats(tunnel: str | None, format_: str, watch: bool) -> None:
    """What the tunnels and peers have carried since their engine started."""
    request = {"tunnel": tunnel} if tunnel else {}
    found = call("stats", request, within=WITHIN)
    output.show(found, format_, lambda found: _stats_lines(found, None, EVERY))
    while watch:
        time.sleep(EVERY)
        before, found = found, call("stats", request, within=WITHIN)
        if format_ == "text" and sys.stdout.isatty():
            click.clear()
        output.show(found, format_, lambda found, before=before: _stats_lines(found, before, EVERY))  # type: ignore[misc]
        sys.stdout.flush()


def _show_stopped(format_: str, stopped: ServiceNotRunning) -> int:
    lines = output.fields([("service", "stopped"), ("health", "unknown")])
    output.show({**STOPPED, "running": False, "healthy": False}, format_, lambda _: lines)
    if format_ == "text":
        output.error(stopped.message, stopped.hint)
    return NOT_RUNNING


def _status_lines(found: dict[str, Any], peers: Iterable[dict[str, Any]], verbose: bool) -> Iterator[str]:
    service, tunnels = found["service"], found["tunnels"]
    yield from output.fields(
        [
            ("service", service["state"]),
            ("health", service["health"]),
            ("engine", service.get("engine") or "none"),
            ("drift", "only reported" if service.get("drift") == "report" else ""),
            ("unconfirmed", _pending_words(service.get("pending"))),
        ]
    )
    yield ""
    yield from tunnel_table(tunnels)
    for tunnel in peers:
        yield from ["", f"peers of {tunnel['name']}:", *peer_table(tunnel["peers"])]
    checks = service["checks"] if verbose else [check for check in service["checks"] if not check["ok"]]
    if checks:
        yield ""
    for check in checks:
        yield from _check_lines(check)
    yield from _drift_lines(tunnels)


def _pending_words(pending: dict[str, Any] | None) -> str:
    if not pending:
        return ""
    return f"{pending['change']} (taken back in {pending['seconds_left']} s; 'confirm' keeps it)"


def _check_lines(check: dict[str, Any]) -> Iterator[str]:
    word = output.coloured("ok" if check["ok"] else "failed")
    yield f"{word} {check['code']}: {output.one_line(check['message'])}"
    if not check["ok"] and check["hint"]:
        yield f"  hint: {output.one_line(check['hint'])}"


def _drift_lines(tunnels: list[dict[str, Any]]) -> Iterator[str]:
    drift = [f"  {line}" for tunnel in tunnels for line in tunnel["drift"]]
    if drift:
        yield from ["", "still to be done:", *drift]


def _stats_lines(found: dict[str, Any], before: dict[str, Any] | None, seconds: float) -> Iterator[str]:
    earlier = _by_peer(before) if before else {}
    rows = []
    for tunnel in found["tunnels"]:
        rows.append(_stats_row(tunnel["name"], "", tunnel, earlier.get((tunnel["name"], "")), seconds))
        for peer in tunnel["peers"]:
            key = (tunnel["name"], peer["name"])
            rows.append(_stats_row("", peer["name"], peer, earlier.get(key), seconds))
    yield from output.table(("TUNNEL", "PEER", "STATE", "RECEIVED", "SENT", "IN", "OUT"), rows)
    agent = found["agent"]
    up, memory = output.duration(agent["uptime_seconds"]), output.size(agent["rss_bytes"])
    yield ""
    yield f"agent {agent['pid']}: up {up}, {agent['cpu_seconds']:.1f} s of CPU, {memory} of memory"


def _stats_row(
    tunnel: str, peer: str, now: dict[str, Any], before: dict[str, Any] | None, seconds: float
) -> tuple[str, ...]:
    sizes = (output.size(now["rx_bytes"]), output.size(now["tx_bytes"]))
    return (
        tunnel,
        peer,
        now["state"],
        *sizes,
        *(_rate(now, before, key, seconds) for key in ("rx_bytes", "tx_bytes")),
    )


def _rate(now: dict[str, Any], before: dict[str, Any] | None, key: str, seconds: float) -> str:
    """Bytes per second; a counter that went back was started anew, and counts from zero."""
    if before is None:
        return "-"
    grown = now[key] - before[key]
    return f"{output.size((grown if grown >= 0 else now[key]) / seconds)}/s"


def _by_peer(found: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    tunnels = {(tunnel["name"], ""): tunnel for tunnel in found["tunnels"]}
    peers = {(tunnel["name"], peer["name"]): peer for tunnel in found["tunnels"] for peer in tunnel["peers"]}
    return tunnels | peers
