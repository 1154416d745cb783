"""The commands that look back: undo, confirm, the journal, and what to do about the doings of others."""

import math
from typing import Any, Literal

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command, Nothing
from resource_wireguard.engine.history import Change, Pending
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.engine.views import ProblemView, iso_time, problem_views
from resource_wireguard.errors import NotFound
from resource_wireguard.host.render import lines_of


class Undo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Take back the last change, or only say what that would do."""

    dry_run: bool = False


class Undone(msgspec.Struct, frozen=True):
    """The change that was taken back, and the plan that came of it; drift is what is still to be done."""

    change: str
    actor: str
    at: str | None
    actions: tuple[str, ...]
    drift: tuple[str, ...] = ()
    problems: tuple[ProblemView, ...] = ()


class Confirmed(msgspec.Struct, frozen=True):
    """The change that stays."""

    change: str


class Since(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last lines of the journal, or those from a time on (Unix seconds)."""

    tail: int | None = 50
    since: float | None = None


class Drift(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for the mode, or set it."""

    mode: Literal["enforce", "report"] | None = None


def undo(engine: Engine, request: Undo) -> Undone:
    """Take back the last change; an undo is a change too, so a second one takes back the first."""
    change = engine.history.last()

    def work() -> None:
        engine.take_back(change, f"undone: {change.text}")

    if request.dry_run:
        _, report = engine.rehearse(work)
        return _undone(change, lines_of(report.drift))
    work()
    report = engine.settle("undo")
    return _undone(change, lines_of(report.done), report)


def confirm(engine: Engine, _: Nothing) -> Confirmed:
    """Keep the change that waits; NotFound where none does, such as after its deadline."""
    pending = engine.history.pending()
    if pending is None:
        raise NotFound("nothing waits to be confirmed", "see 'resource-wireguard journal'")
    with engine.resources.store.transaction():
        engine.history.forget_pending()
        engine.journal("", f"confirmed: {pending.change.text}")
    return Confirmed(pending.change.text)


def journal(engine: Engine, request: Since) -> list[dict[str, str | None]]:
    """Who did what to which tunnel, when, and with which result: oldest first."""
    return [
        {"at": iso_time(at), "actor": actor, "subject": subject, "text": text, "result": result}
        for at, actor, subject, text, result in engine.journal_lines(request.tail, request.since)
    ]


def drift(engine: Engine, request: Drift) -> dict[str, Any]:
    """Whether foreign changes of our objects are repaired or only reported; enforce repairs at once."""
    if request.mode is not None and request.mode != engine.drift:
        with engine.resources.store.transaction():
            engine.drift = request.mode
            engine.journal("", f"drift: {request.mode}")
        if request.mode == "enforce":
            engine.settle("drift")
    return {"mode": engine.drift}


COMMANDS = (
    Command("undo", Undo, undo),
    Command("confirm", Nothing, confirm),
    Command("journal", Since, journal),
    Command("drift", Drift, drift),
)


class PendingView(msgspec.Struct, frozen=True):
    """A change that waits to be confirmed, and for how many seconds still."""

    change: str
    deadline: str | None
    seconds_left: int


def pending_view(pending: Pending, now: float) -> PendingView:
    """As status shows it; a second that has begun counts."""
    left = max(0, math.ceil(pending.deadline - now))
    return PendingView(pending.change.text, iso_time(pending.deadline), left)


def _undone(change: Change, actions: list[str], report: Report | None = None) -> Undone:
    return Undone(
        change=change.text,
        actor=change.actor,
        at=iso_time(change.at),
        actions=tuple(actions),
        drift=tuple(lines_of(report.drift)) if report else (),
        problems=problem_views(report.problems) if report else (),
    )
