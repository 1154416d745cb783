"""The keys commands: a passphrase is asked for or read from standard input, and goes to the agent alone."""

import sys
from collections.abc import Iterator
from typing import Any

import click

from resource_wireguard.cli import output
from resource_wireguard.cli.client import call
from resource_wireguard.cli.command import Group
from resource_wireguard.cli.options import format_option
from resource_wireguard.cli.outcome import result_lines, show_problems
from resource_wireguard.errors import InvalidInput

WITHIN = 120.0
"""Seconds: a hundred thousand secrets are sealed anew in some ten."""

NOTHING_TO_DO = 2
"""The Vrooli contract's exit code."""

PASSPHRASE_MOST = 4096
"""Characters that are read."""


@click.group(cls=Group)
def keys() -> None:
    """Where the keys of this host lie, and what opens them."""


@keys.command(examples=("keys status", "keys status --format json"))
@format_option
def status(format_: str) -> int:
    """Where the master key comes from, when it was made, and whether keys can be opened.

    Exit code: 0 if they can, 1 if not.
    """
    found = call("keys.status")
    output.show(found, format_, _lines)
    return int(not found["available"])


@keys.command(examples=("keys unlock", "systemd-ask-password 'WireGuard:' | resource-wireguard keys unlock"))
@format_option
def unlock(format_: str) -> int:
    """Open keys that are locked with a passphrase, and do what had to wait for them.

    The passphrase is asked for, or read from standard input. After a wrong one the next has to wait, each
    time twice as long, up to five minutes. Exit code 2: they are not locked.
    """
    unlocked = call("keys.unlock", {"passphrase": _passphrase(twice=False)}, within=WITHIN)
    if not unlocked["changed"]:
        output.note("the keys are not locked")
        return NOTHING_TO_DO
    output.show(unlocked, format_, lambda unlocked: ["keys unlocked", *result_lines(unlocked)])
    show_problems(unlocked)
    return 0


@keys.command(examples=("keys rekey", "keys rekey --to passphrase", "keys rekey --to file"))
@click.option(
    "--to",
    type=click.Choice(["file", "credential", "passphrase"]),
    help="Take the new master key from there, from now on.",
)
@format_option
def rekey(to: str | None, format_: str) -> None:
    """Make a new master key, and seal all keys of this host anew with it.

    All of them or none; tunnels do not notice. The old master key opens nothing more.
    """
    wanted = to or call("keys.status")["source"]
    request = {"to": to} if to else {}
    if wanted == "passphrase":
        request["passphrase"] = _passphrase(twice=True)
    output.show(call("keys.rekey", request, within=WITHIN), format_, _lines)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    problem = found["problem"] or {"message": "", "hint": ""}
    yield from output.fields(
        [
            ("source", found["source"]),
            ("master key", found["place"]),
            ("made", output.ago(found["master_made_at"]) if found["master_made_at"] else ""),
            ("secrets", str(found["secrets"])),
            ("available", "yes" if found["available"] else f"no: {output.one_line(problem['message'])}"),
            ("hint", output.one_line(problem["hint"])),
        ]
    )


def _passphrase(*, twice: bool) -> str:
    """From a person, or the first line of standard input; never from the command line, which all can read."""
    if sys.stdin.isatty():
        asked: str = click.prompt("passphrase", hide_input=True, confirmation_prompt=twice, err=True)
        return asked
    try:
        line = sys.stdin.readline(PASSPHRASE_MOST).rstrip("\r\n")
    except UnicodeDecodeError:
        line = ""
    if not line:
        raise InvalidInput("there is no passphrase on standard input", "give it as one line of UTF-8 text")
    return line
