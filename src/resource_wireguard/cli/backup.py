"""Back-ups: the file and the passphrase are handled here, keys and rows by the agent."""

import os
import sys
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator
from typing import Any

import click

from resource_wireguard.cli import output
from resource_wireguard.cli.client import call
from resource_wireguard.cli.command import Group
from resource_wireguard.cli.files import read_bytes, write_private
from resource_wireguard.cli.options import format_option
from resource_wireguard.cli.outcome import result_lines, show_problems
from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.counts import counted

VARIABLE = "WIREGUARD_BACKUP_PASSPHRASE"

ARCHIVE_MOST = 11 * 1024 * 1024
"""Bytes: what the agent takes in one request, less a third for base64."""

WITHIN = 120.0
"""Seconds: the passphrase costs half of one, ten thousand peers some more."""

passphrase_option = click.option(
    "--passphrase-file",
    metavar="FILE",
    help=f"Its first line is the passphrase; else {VARIABLE} is, else it is asked for.",
)


@click.group(cls=Group)
def backup() -> None:
    """Everything in one encrypted file, and back: tunnels, peers, all keys, settings."""


@backup.command(
    examples=("backup create wireguard.backup", "backup create /mnt/wg.backup --passphrase-file secret")
)
@click.argument("path", metavar="FILE")
@passphrase_option
def create(path: str, passphrase_file: str | None) -> None:
    """Write everything into FILE, encrypted; only you can read the file.

    Without the passphrase nobody can open it, you included.
    """
    made = call("backup.create", {"passphrase": _passphrase(passphrase_file, twice=True)}, within=WITHIN)
    archive = a2b_base64(made["archive"])
    write_private(path, archive)
    tunnels, peers = counted(made["tunnels"], "tunnel"), counted(made["peers"], "peer")
    output.note(f"{path}: {tunnels}, {peers}, {output.size(len(archive))}")


@backup.command(examples=("backup restore wireguard.backup --dry-run", "backup restore wireguard.backup"))
@click.argument("path", metavar="FILE")
@passphrase_option
@click.option("--dry-run", is_flag=True, help="Open it and say what would happen; change nothing.")
@click.option("--force", is_flag=True, help="Replace the tunnels that are here already.")
@format_option
def restore(path: str, passphrase_file: str | None, dry_run: bool, force: bool, format_: str) -> None:
    """Make this host's tunnels those of FILE: same keys, same addresses, running.

    All of it or nothing: a file that is damaged, foreign or newer is refused, and so are interfaces and
    ports that others use here.
    """
    archive = read_bytes(path, ARCHIVE_MOST + 1, "name a file made by 'backup create'")
    if len(archive) > ARCHIVE_MOST:
        raise InvalidInput(
            f"{path} is no back-up: it is larger than any", "name a file made by 'backup create'"
        )
    request = {
        "archive": b2a_base64(archive, newline=False).decode(),
        "passphrase": _passphrase(passphrase_file, twice=False),
        "dry_run": dry_run,
        "force": force,
    }
    restored = call("backup.restore", request, within=WITHIN)
    output.show(restored, format_, lambda restored: _lines(restored, dry_run))
    show_problems(restored)


def _lines(restored: dict[str, Any], dry_run: bool) -> Iterator[str]:
    verb = "would restore" if dry_run else "restored"
    yield f"{verb} the back-up of {restored['made_at']}: {', '.join(restored['tunnels']) or 'no tunnels'}"
    yield from result_lines(restored)


def _passphrase(file: str | None, *, twice: bool) -> str:
    """From a file, the environment or a person; never from the command line, which everybody can read."""
    if file is not None:
        first = read_bytes(file, 4096, "give it a file that you can read").split(b"\n")[0]
        return _text(first.rstrip(b"\r"), file)
    if VARIABLE in os.environ:
        return os.environ[VARIABLE]
    if not sys.stdin.isatty():
        raise InvalidInput(
            "there is no passphrase, and no terminal to ask on", f"use --passphrase-file, or set {VARIABLE}"
        )
    given: str = click.prompt("passphrase", hide_input=True, confirmation_prompt=twice, err=True)
    return given


def _text(line: bytes, file: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise InvalidInput(
            f"the passphrase in {file} is not UTF-8 text", "its first line is what counts"
        ) from None
