"""What another program needs to reach the tunnels of this host."""

import re
from collections.abc import Iterator
from typing import Any

import click

from resource_wireguard.cli import output
from resource_wireguard.cli.client import call
from resource_wireguard.cli.command import Command
from resource_wireguard.errors import NotFound

MASKED = "(hidden: ask with --show-secrets)"


@click.command(cls=Command, examples=("credentials", "credentials --format env --show-secrets"))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json", "env"]),
    default="text",
    show_default=True,
    help="How to print them; env is for a shell to read.",
)
@click.option("--show-secrets", is_flag=True, help="Print the private keys, too.")
def credentials(format_: str, show_secrets: bool) -> None:
    """What another program needs to reach this host's tunnels. Exit code 2: there are no tunnels."""
    tunnels = [_credentials(tunnel, show_secrets) for tunnel in call("tunnel.list")]
    if not tunnels:
        hint = "make a tunnel with 'resource-wireguard interface create home'"
        raise NotFound("there are no tunnels, so there is nothing to connect to", hint)
    if format_ == "env":
        print("\n".join(_variables(tunnels)))
    else:
        output.show({"tunnels": tunnels}, format_, _lines)


def _credentials(tunnel: dict[str, Any], show_secrets: bool) -> dict[str, Any]:
    same = {
        name: tunnel[name]
        for name in ("name", "interface", "endpoint", "listen_port", "public_key", "addresses")
    }
    key = _private_key(tunnel["name"]) if show_secrets else MASKED
    return {**same, "networks": _networks(tunnel["addresses"]), "private_key": key}


def _private_key(name: str) -> str:
    """The one line of the tunnel's own config that has it."""
    text: str = call("tunnel.config", {"name": name, "show_secrets": True})["config"]
    return next(line for line in text.splitlines() if line.startswith("PrivateKey")).partition("= ")[2]


def _networks(addresses: list[str]) -> list[str]:
    from ipaddress import ip_interface

    return [str(ip_interface(address).network) for address in addresses]


def _lines(found: dict[str, Any]) -> Iterator[str]:
    for number, tunnel in enumerate(found["tunnels"]):
        if number:
            yield ""
        yield from output.fields((name.replace("_", " "), _words(value)) for name, value in tunnel.items())


def _words(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value if value is not None else "")


def _variables(tunnels: list[dict[str, Any]]) -> Iterator[str]:
    """Lines for sh(1): all tunnels' names, then WIREGUARD_<TUNNEL>_<FIELD>; a masked key is left out."""
    from shlex import quote

    yield f"WIREGUARD_TUNNELS={quote(' '.join(tunnel['name'] for tunnel in tunnels))}"
    prefixes: set[str] = set()
    for tunnel in tunnels:
        prefix = _free(re.sub(r"[^A-Z0-9]", "_", tunnel["name"].upper()), prefixes)
        for name, value in tunnel.items():
            if value != MASKED:
                text = " ".join(value) if isinstance(value, list) else _words(value)
                yield f"WIREGUARD_{prefix}_{name.upper()}={quote(text)}"


def _free(prefix: str, taken: set[str]) -> str:
    """A prefix of its own also for 'a-b' beside 'a.b'."""
    number = 2
    wanted = prefix
    while wanted in taken:
        wanted, number = f"{prefix}_{number}", number + 1
    taken.add(wanted)
    return wanted
