"""The keys commands: a passphrase is asked for or read from standard input, and goes to the agent alone."""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from resource_wireguard.cli import output
from resource_wireguard.cli.client import call
from resource_wireguard.cli.command import Group
from resource_wireguard.cli.options import format_option, given
from resource_wireguard.cli.outcome import result_lines, show_problems
from resource_wireguard.errors import InvalidInput

WITHIN = 120.0
"""Seconds: a hundred thousand secrets are sealed anew in some ten."""

NOTHING_TO_DO = 2
"""The Vrooli contract's exit code."""

PASSPHRASE_MOST = 4096
"""Characters that are read."""


def vault_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How to get into a Vault. No secret is given here: all can read a command line."""
    for option, metavar, text in reversed(_VAULT_OPTIONS):
        command = click.option(option, metavar=metavar, help=text)(command)
    return command


_VAULT_OPTIONS = (
    ("--address", "URL", "The Vault: https://HOST:8200."),
    ("--token-file", "FILE", "The file with a token; credential:NAME is one that systemd hands over."),
    ("--role-id", "ID", "Or an AppRole: its id, …"),
    ("--secret-id-file", "FILE", "… and the file with its secret id, or credential:NAME."),
    ("--role-mount", "PATH", "Where AppRoles log in.  [default: approle]"),
    ("--namespace", "PATH", "The Vault's namespace."),
    ("--ca", "FILE", "The certificates to trust, where the Vault's is not publicly trusted."),
)


def given_place(place: dict[str, str | None]) -> dict[str, dict[str, str]]:
    """What was said of a Vault, if anything, with the names of files as the agent can find them."""
    request = given(**place)
    for name in ("token_file", "secret_id_file", "ca"):
        if name in request and not request[name].startswith("credential:"):
            request[name] = os.path.abspath(request[name])  # noqa: PTH100 - pathlib takes 10 ms
    return {"place": request} if request else {}


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
    if call("keys.status")["available"]:
        output.note("the keys are not locked")
        return NOTHING_TO_DO
    unlocked = call("keys.unlock", {"passphrase": _passphrase(twice=False)}, within=WITHIN)
    output.show(unlocked, format_, lambda unlocked: ["keys unlocked", *result_lines(unlocked)])
    show_problems(unlocked)
    return 0


@keys.command(examples=("keys rekey", "keys rekey --to passphrase", "keys rekey --to file"))
@click.option(
    "--to",
    type=click.Choice(["file", "credential", "passphrase", "transit"]),
    help="Take the new master key from there, from now on.",
)
@click.option(
    "--transit-key", metavar="NAME", help="The key in a Vault that wraps it.  [default: resource-wireguard]"
)
@click.option("--transit-mount", metavar="PATH", help="The transit engine that has it.  [default: transit]")
@vault_options
@format_option
def rekey(
    to: str | None, transit_key: str | None, transit_mount: str | None, format_: str, **place: str | None
) -> None:
    """Make a new master key, and seal all keys of this host anew with it.

    All of them or none; tunnels do not notice. The old master key opens nothing more. With --to transit the
    key is wrapped by a Vault, which is asked when the agent starts; the options say where it is.
    """
    wanted = to or call("keys.status")["source"]
    request: dict[str, Any] = {
        **given(to=to, transit_key=transit_key, transit_mount=transit_mount),
        **given_place(place),
    }
    if wanted == "passphrase":
        request["passphrase"] = _passphrase(twice=True)
    output.show(call("keys.rekey", request, within=WITHIN), format_, _lines)


@keys.command(
    examples=(
        "keys migrate --to vault --address https://vault.example.net:8200 --path wireguard/gateway"
        " --token-file /etc/wireguard-vault/token",
        "keys migrate --to vault --role-id ID --secret-id-file /etc/wireguard-vault/secret-id",
        "keys migrate --to file",
    )
)
@click.option("--to", type=click.Choice(["vault", "file"]), required=True, help="Where all keys are to lie.")
@click.option("--mount", metavar="PATH", help="The KV engine, version 2.  [default: secret]")
@click.option("--path", metavar="PATH", help="Our path in it, ours alone.  [default: resource-wireguard]")
@vault_options
@format_option
def migrate(to: str, format_: str, **place: str | None) -> None:
    """Move the keys of this host into a Vault (HashiCorp Vault, OpenBao), or back into its own database.

    Each is read back before the other copy goes. Where it breaks off, run it again: it goes on with the
    rest. Tunnels do not notice. Once in a Vault, '--to vault' changes the way in, and nothing else.
    """
    request = {"to": to, **given_place(place)}
    moved = call("keys.migrate", request, within=WITHIN)
    output.show(moved, format_, lambda moved: [f"{moved['moved']} secrets moved", *_lines(moved["keys"])])


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
            *_vault_fields(found["vault"]),
        ]
    )


def _vault_fields(vault: dict[str, Any] | None) -> list[tuple[str, str]]:
    if vault is None:
        return []
    outside = f", {vault['outside']} not" if vault["outside"] else ""
    problem = vault["problem"] or {"message": "", "hint": ""}
    return [
        ("vault", f"{vault['mount']}/{vault['path']} at {vault['address']}"),
        ("namespace", vault["namespace"]),
        ("way in", vault["way_in"]),
        ("in the vault", f"{vault['inside']} secrets{outside}"),
        ("vault problem", output.one_line(problem["message"])),
        ("vault hint", output.one_line(problem["hint"])),
    ]


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
