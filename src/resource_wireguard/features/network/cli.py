"""export and apply: the whole network as one file."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import click

from resource_wireguard.cli import output
from resource_wireguard.cli.client import call
from resource_wireguard.cli.command import Command
from resource_wireguard.cli.files import private_output, read_bytes
from resource_wireguard.cli.options import Number, confirm, format_option, output_option
from resource_wireguard.cli.outcome import result_lines, show_pending, show_problems
from resource_wireguard.errors import InvalidInput
from resource_wireguard.features.network import marked_yaml

HEADER = """\
# The WireGuard network of this host, written by 'resource-wireguard export'.
# Private and preshared keys are not in it: they stay in the store of this host ('resource-wireguard backup').
# Change it and put it in force with: resource-wireguard apply -f network.yaml
"""

WITHIN = 300.0
"""Seconds for an apply: ten thousand new peers take the agent some ten of them."""

INVALID = 1
"""Exit code for a file with faults."""


@click.command(cls=Command, examples=("export > network.yaml", "export --output network.yaml"))
@output_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(["yaml", "json"]),
    default="yaml",
    show_default=True,
    help="Its form.",
)
def export(path: str | None, format_: str) -> None:
    """All tunnels and peers as one file, without their private and preshared keys.

    Put back with 'apply' on the same host, it changes nothing.
    """
    document = call("network.export")
    with private_output(path) as write:
        if format_ == "json":
            write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        else:
            write("\n".join([HEADER, *output.yaml_lines(document)]) + "\n")


@click.command(
    cls=Command,
    examples=(
        "apply -f network.yaml --dry-run",
        "apply -f network.yaml --confirm 60",
        "apply -f network.yaml --prune --yes",
    ),
)
@click.option("-f", "--file", "path", metavar="FILE", required=True, help="The file; '-' is standard input.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option(
    "--confirm",
    "seconds",
    type=Number(1, 86400),
    metavar="SECONDS",
    help="Take it back by itself unless 'resource-wireguard confirm' comes in time.",
)
@click.option("--prune", is_flag=True, help="Remove tunnels and peers that are not in the file.")
@click.option("--yes", "--force", "yes", is_flag=True, help="Do not ask, even if something is removed.")
@format_option
def apply(path: str, dry_run: bool, seconds: int | None, prune: bool, yes: bool, format_: str) -> int:
    """Make all tunnels and peers as a file says, in one change: all of it or nothing.

    The file is checked whole first; each fault is told with its line. What the file does not speak of is left
    alone unless it says 'prune: true'. Running sessions go on.
    """
    content = read_bytes(path, marked_yaml.SIZE_MOST + 1, "make one with 'resource-wireguard export'")
    try:
        marked = marked_yaml.parse(content)
    except marked_yaml.NotUnderstood as error:
        line, column = error.place
        raise InvalidInput(f"{path}:{line}:{column}: {error.message}", error.hint) from None
    request = {"document": marked.value, "prune": prune}
    planned = call("network.plan", request, within=WITHIN)
    if planned["faults"]:
        _show_faults(path, marked, planned["faults"])
        return INVALID
    if dry_run or not planned["changes"]:
        output.show(planned, format_, lambda planned: _plan_lines(planned))
        _notes(planned, format_)
        return 0
    _ask(planned, yes)
    confirmation = {} if seconds is None else {"confirm": seconds}
    applied = call("network.apply", request | confirmation, within=WITHIN)
    output.show(applied, format_, lambda applied: [*_change_lines(applied), *result_lines(applied)])
    _notes(applied, format_)
    show_problems(applied)
    show_pending(applied["pending"])
    return 0


def _show_faults(path: str, marked: marked_yaml.Marked, faults: Sequence[dict[str, Any]]) -> None:
    """Each as file:line:column, in the order of the file."""
    placed = [(marked.place(tuple(fault["path"]), fault["at_key"]), fault) for fault in faults]
    for (line, column), fault in sorted(placed, key=lambda one: one[0]):
        output.error(f"{path}:{line}:{column}: {fault['message']}", fault["hint"])


def _ask(planned: dict[str, Any], yes: bool) -> None:
    """Only where something goes for good: a tunnel or a peer, with its keys."""
    removed = [change["text"] for change in planned["changes"] if change["verb"] == "delete"]
    if removed and not yes:
        for line in _change_lines(planned):
            output.note(line)
        confirm(f"{len(removed)} of these remove a tunnel or peer; go on?", False)


def _plan_lines(planned: dict[str, Any]) -> Iterator[str]:
    yield from _change_lines(planned)
    if planned["changes"] and planned["actions"]:
        yield "on the host:"
    yield from (f"  {line}" for line in planned["actions"])


def _change_lines(planned: dict[str, Any]) -> list[str]:
    return [change["text"] for change in planned["changes"]]


def _notes(outcome: dict[str, Any], format_: str) -> None:
    if outcome["left_alone"] and format_ == "text":
        some, more = outcome["left_alone"][:5], len(outcome["left_alone"]) - 5
        listing = ", ".join([*some, *([f"and {more} more"] if more > 0 else [])])
        output.note(f"not in the file, left alone: {listing} (--prune removes)")
    if not outcome["changes"] and format_ == "text":
        output.note("nothing to do: all is as the file says")
