"""The health of the service as named checks. Codes are stable: docs/troubleshooting.md explains each."""

from collections.abc import Iterable, Iterator, Sequence

from resource_wireguard.engine.feature import Check
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.engine.views import TunnelView, problem_views
from resource_wireguard.errors import KeysUnavailable
from resource_wireguard.host.render import lines_of

CODES = (
    *("engine-available", "observation-complete", "keys-available", "host-in-sync"),
    *("tunnel-up", "tunnel-in-sync"),
)
"""Every code there is; the tunnel's two come once a tunnel."""

SHOWN = 3
"""Lines of drift that a message quotes; status and plan show all."""


def checks_of(
    report: Report,
    tunnels: Sequence[TunnelView],
    keys_away: KeysUnavailable | None = None,
    answered_for: Iterable[str] = (),
) -> tuple[Check, ...]:
    """The checks of the host, then those of its tunnels; other owners are answered for elsewhere."""
    return (
        _engine_available(report),
        _observation_complete(report),
        _keys_available(keys_away),
        _host_in_sync(report, {*(tunnel.name for tunnel in tunnels), *answered_for}),
        *(check for tunnel in tunnels for check in _tunnel(tunnel)),
    )


def _engine_available(report: Report) -> Check:
    engine = report.observation.engine
    if engine:
        return Check("engine-available", True, f"WireGuard engine: {engine}")
    hint = "load the kernel's wireguard module, or install wireguard-go; see 'resource-wireguard doctor'"
    return Check("engine-available", False, "no WireGuard engine on this host", hint)


def _observation_complete(report: Report) -> Check:
    if report.observation.complete:
        return Check("observation-complete", True, "every part of the host answered")
    problem = next(iter(problem_views(report.observation.problems)), None)
    reason = f": {problem.message}" if problem else ""
    hint = (problem.hint if problem else "") or "see 'resource-wireguard doctor'"
    return Check("observation-complete", False, f"a part of the host did not answer{reason}", hint)


def _keys_available(away: KeysUnavailable | None) -> Check:
    if away is None:
        return Check("keys-available", True, "the keys can be opened")
    return Check("keys-available", False, f"keys are not available: {away.message}", away.hint)


def _host_in_sync(report: Report, answered_for: set[str]) -> Check:
    """What nobody else answers for: tables, settings, left-overs, and what the host as a whole refused."""
    owners = {report.owner_of(action) for action in report.drift} - answered_for
    drift = [line for owner in sorted(owners) for line in lines_of(report.drift_of(owner))]
    problems = problem_views(report.problems_of(""))
    if not drift and not problems:
        return Check("host-in-sync", True, "nothing of ours is out of place")
    message = "; ".join([problem.message for problem in problems] or _some(drift))
    hint = next((problem.hint for problem in problems if problem.hint), "") or "see 'resource-wireguard plan'"
    return Check("host-in-sync", False, message, hint)


def _tunnel(tunnel: TunnelView) -> Iterator[Check]:
    trouble = [problem.message for problem in tunnel.problems] or _some(tunnel.drift)
    hint = next((problem.hint for problem in tunnel.problems if problem.hint), "")
    if tunnel.state == "down":
        reason = f": {trouble[0]}" if tunnel.problems else ""
        hint = hint or "see 'resource-wireguard doctor' and the agent's log"
        yield Check("tunnel-up", False, f"tunnel '{tunnel.name}' is down{reason}", hint)
        return
    if tunnel.active:
        yield Check("tunnel-up", True, f"tunnel '{tunnel.name}' is up")
    if trouble:
        hint = hint or "see 'resource-wireguard plan' and the agent's log"
        yield Check("tunnel-in-sync", False, f"tunnel '{tunnel.name}': {'; '.join(trouble)}", hint)
    elif tunnel.active:
        yield Check("tunnel-in-sync", True, f"tunnel '{tunnel.name}' is as specified")


def _some(lines: Sequence[str]) -> list[str]:
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
