"""The commands that look: status and stats."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import click

from resource_wireguard.cli import output, placement
from resource_wireguard.cli.client import call
from resource_wireguard.cli.command import Command
from resource_wireguard.cli.options import format_option
from resource_wireguard.cli.views import endpoint_words, tunnel_table
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
    tunnels = placement.placed(found["tunnels"])
    shown = {**found, "tunnels": tunnels, "running": True, "healthy": healthy, **placement.described()}
    if verbose and format_ != "text":
        shown["stats"] = peers
    output.show(shown, format_, lambda _: _status_lines(found, peers, verbose))
    if format_ == "text":
        placement.note_closed_ports(tunnels)
    return HEALTHY if healthy else UNHEALTHY


@click.command(cls=Command, examples=("stats", "stats home --watch", "stats --format json"))
@click.argument("tunnel", required=False)
@format_option
@click.option("--watch", is_flag=True, help="Again every two seconds, until Ctrl-C.")
def stats(tunnel: str | None, format_: str, watch: bool) -> None:
    """What the tunnels and peers have carried, and carry now.

    Totals outlive restarts of the service and of its engines; rates are averages of the time since the look
    before. Errors and drops are packets that an interface could not carry since it was made.
    """
    request = {"tunnel": tunnel} if tunnel else {}
    output.show(call("stats", request, within=WITHIN), format_, _stats_lines)
    while watch:
        sys.stdout.flush()
        time.sleep(EVERY)
        found = call("stats", request, within=WITHIN)
        if format_ == "text" and sys.stdout.isatty():
            click.clear()
        output.show(found, format_, _stats_lines)


def _show_stopped(format_: str, stopped: ServiceNotRunning) -> int:
    lines = output.fields([("service", "stopped"), ("health", "unknown"), ("runtime", placement.words())])
    shown = {**STOPPED, "running": False, "healthy": False, **placement.described()}
    output.show(shown, format_, lambda _: lines)
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
            ("runtime", placement.words()),
            ("drift", "only reported" if service.get("drift") == "report" else ""),
            ("unconfirmed", _pending_words(service.get("pending"))),
        ]
    )
    yield ""
    yield from _tunnel_table(tunnels)
    for tunnel in peers:
        yield from ["", f"peers of {tunnel['name']}:", *_peer_table(tunnel["peers"])]
    checks = service["checks"] if verbose else [check for check in service["checks"] if not check["ok"]]
    if checks:
        yield ""
    for check in checks:
        yield from _check_lines(check)
    yield from _drift_lines(tunnels)


def _tunnel_table(tunnels: list[dict[str, Any]]) -> Iterator[str]:
    if not tunnels:
        yield from tunnel_table(tunnels)  # says how to make one
        return
    head = (
        "TUNNEL",
        "STATE",
        "INTERFACE",
        "PORT",
        "ENDPOINT",
        "ADDRESSES",
        "ONLINE",
        "HANDSHAKE",
        "IN",
        "OUT",
    )
    yield from output.table(head, [_tunnel_row(tunnel) for tunnel in tunnels])


def _tunnel_row(tunnel: dict[str, Any]) -> tuple[str, ...]:
    return (
        tunnel["name"],
        tunnel["state"],
        tunnel["interface"],
        str(tunnel["listen_port"]),
        tunnel["endpoint"] or "-",
        ", ".join(tunnel["addresses"]),
        f"{tunnel['peers_online']} of {tunnel['peers']}",
        output.ago(tunnel["latest_handshake"]),
        _rate(tunnel["rx_rate"]),
        _rate(tunnel["tx_rate"]),
    )


def _peer_table(peers: list[dict[str, Any]]) -> Iterator[str]:
    head = ("PEER", "STATE", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT", "IN", "OUT")
    yield from output.table(head, [_peer_row(peer) for peer in peers])


def _peer_row(peer: dict[str, Any]) -> tuple[str, ...]:
    handshake = output.ago(peer["latest_handshake"])
    return (peer["name"], peer["state"], endpoint_words(peer) or "-", handshake, *_carried(peer))


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


def _stats_lines(found: dict[str, Any]) -> Iterator[str]:
    rows = []
    for tunnel in found["tunnels"]:
        lost = tuple(str(tunnel[f"rx_{kind}"] + tunnel[f"tx_{kind}"]) for kind in ("errors", "dropped"))
        rows.append((tunnel["name"], "", tunnel["state"], *_carried(tunnel), *lost))
        rows += [("", peer["name"], peer["state"], *_carried(peer), "", "") for peer in tunnel["peers"]]
    head = ("TUNNEL", "PEER", "STATE", "RECEIVED", "SENT", "IN", "OUT", "ERRORS", "DROPPED")
    yield from output.table(head, rows)
    agent = found["agent"]
    up, memory = output.duration(agent["uptime_seconds"]), output.size(agent["rss_bytes"])
    percent = agent["cpu_percent"]
    now = f", {percent:g} % now" if percent is not None else ""
    yield ""
    yield f"agent {agent['pid']}: up {up}, {agent['cpu_seconds']:.1f} s of CPU{now}, {memory} of memory"


def _carried(thing: dict[str, Any]) -> tuple[str, ...]:
    """Totals and rates of a tunnel or a peer."""
    sizes = (output.size(thing["rx_total"]), output.size(thing["tx_total"]))
    return (*sizes, _rate(thing["rx_rate"]), _rate(thing["tx_rate"]))


def _rate(bytes_a_second: float | None) -> str:
    return "-" if bytes_a_second is None else f"{output.size(bytes_a_second)}/s"
