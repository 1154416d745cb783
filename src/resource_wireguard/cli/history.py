"""Looking back and taking back: undo, confirm, journal, and the mode for the doings of others."""

import time
from collections.abc import Iterator
from typing import Any

import click

from resource_wireguard.cli import output
from resource_wireguard.cli.client import call
from resource_wireguard.cli.command import Command
from resource_wireguard.cli.moments import moment
from resource_wireguard.cli.options import Number, format_option, given
from resource_wireguard.cli.outcome import show_problems


@click.command(cls=Command, examples=("undo --dry-run", "undo"))
@click.option("--dry-run", is_flag=True, help="Say what would be taken back, and change nothing.")
@format_option
def undo(dry_run: bool, format_: str) -> None:
    """Take back the last change of tunnels and peers, whoever made it.

    An undo is a change too: a second one takes back the first. The last twenty changes are kept.
    """
    undone = call("undo", {"dry_run": dry_run})
    output.show(undone, format_, lambda undone: _undo_lines(undone, dry_run))
    show_problems(undone)


@click.command(cls=Command, examples=("confirm",))
def confirm() -> None:
    """Keep the change that was applied with --confirm.

    Exit code: 2 if none waits, such as after its time has run out.
    """
    output.note(f"kept: {call('confirm')['change']}")


@click.command(cls=Command, examples=("journal", "journal --since 2h", "journal --tail 500 --format json"))
@click.option("--tail", type=Number(1, 1_000_000), metavar="N", help="The last N lines.  [default: 50]")
@click.option("--since", metavar="TIME", help="Only from this time on: 10m, 2h, yesterday, 2025-06-01T12:00.")
@format_option
def journal(tail: int | None, since: str | None, format_: str) -> None:
    """Who changed what, when, and with which result. Times are UTC; keys are never in it."""
    request = given(since=moment(since, time.time()) if since else None)
    if tail is not None or since:
        request["tail"] = tail
    lines = call("journal", request)
    output.show(lines, format_, lambda lines: map(_journal_line, lines))


@click.command(cls=Command, examples=("drift", "drift report", "drift enforce"))
@click.argument("mode", required=False, type=click.Choice(["enforce", "report"]))
@format_option
def drift(mode: str | None, format_: str) -> None:
    """Show or set what is done when others change what is ours.

    enforce puts it back at once. report only tells of it, in status and plan; commands still carry out
    what they are asked for, and nothing else.
    """
    output.show(call("drift", given(mode=mode)), format_, lambda found: [found["mode"]])


def _undo_lines(undone: dict[str, Any], dry_run: bool) -> Iterator[str]:
    yield f"{'would take back' if dry_run else 'taken back'}: {undone['change']}"
    yield f"  by {undone['actor']}, {output.ago(undone['at'])}"
    yield from (f"  {line}" for line in undone["actions"])
    if undone["drift"]:
        yield "still to be done:"
    yield from (f"  {line}" for line in undone["drift"])


def _journal_line(line: dict[str, Any]) -> str:
    subject = f"{line['subject']}: " if line["subject"] else ""
    result = "" if line["result"] == "done" else f" ({line['result']})"
    return output.one_line(f"{line['at']}  {line['actor']}  {subject}{line['text']}{result}")
