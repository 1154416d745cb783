"""The commands of tunnels and peers: interface and content (two doors to the tunnel), and peer."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from resource_wireguard.cli import output, placement
from resource_wireguard.cli.client import call
from resource_wireguard.cli.command import Group
from resource_wireguard.cli.options import (
    PORT,
    Decorator,
    Number,
    Words,
    confirm,
    flat,
    force_option,
    format_option,
    given,
    keepalive_option,
    show_notes,
)
from resource_wireguard.cli.views import peer_lines, peer_table, show_tunnel, tunnel_lines, tunnel_table
from resource_wireguard.errors import ConflictError, InvalidInput
from resource_wireguard.features.tunnel.cli.changes import Changes
from resource_wireguard.features.tunnel.cli.configs import (
    DRAWN,
    config_format_option,
    config_output_option,
    write_config,
)
from resource_wireguard.features.tunnel.cli.imports import call_with_file, import_file, stem_of

MTU = (576, 65535)
"""Bytes: RFC 791's smallest reassembly buffer, and the largest IPv4 packet."""

LAPTOP = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
"""The public key of the examples: the one in wg(8)."""


def tunnel_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a new tunnel may be told."""
    for option in reversed(TUNNEL_OPTIONS):
        command = option(command)
    return command


TUNNEL_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--address",
        "addresses",
        multiple=True,
        metavar="ADDRESS",
        help="Own address with prefix length, e.g. 10.13.13.1/24. May be repeated.",
    ),
    click.option(
        "--network",
        metavar="NET",
        help="Take the addresses from this network.  [env var: WIREGUARD_NETWORK]",
    ),
    click.option("--port", type=PORT, help="UDP port to listen on.  [env var: WIREGUARD_PORT]"),
    click.option(
        "--mtu",
        type=Number(*MTU, or_word="auto"),
        envvar="WIREGUARD_MTU",
        show_envvar=True,
        help="Bytes a packet may have, or auto.",
    ),
    click.option("--exit", "exit_", is_flag=True, help="Let peers reach the internet through this host."),
    click.option(
        "--endpoint",
        metavar="HOST[:PORT]",
        help="Where peers reach this host: a name or address, and the port if it differs.",
    ),
    click.option(
        "--dns",
        type=Words(),
        metavar="ADDRESSES",
        envvar="WIREGUARD_DNS",
        show_envvar=True,
        help="Resolvers for the peers' configs.",
    ),
    click.option(
        "--interface", metavar="NAME", help="Name of the network interface; made from the tunnel's otherwise."
    ),
)


# interface ------------------------------------------------------------------------------------------


@click.group(cls=Group)
def interface() -> None:
    """Tunnels as running interfaces: create, change, look, delete."""


@interface.command(examples=("interface create home --exit --endpoint vpn.example.org",))
@click.argument("name")
@tunnel_options
@format_option
def create(name: str, format_: str, **options: Any) -> None:
    """Create a tunnel and bring it up. What is not given is chosen."""
    tunnel = _create(name, True, options)
    show_tunnel(tunnel, format_)


@interface.command(examples=("interface delete home",))
@click.argument("name")
@force_option
def delete(name: str, force: bool) -> None:
    """Take a tunnel down and forget it, with its keys and all its peers."""
    _delete_tunnel(name, force)


@interface.command(
    examples=("interface adopt wg0 --file /etc/wireguard/wg0.conf", "interface adopt wg0 --name home")
)
@click.argument("interface")
@click.option("--name", help="Name of the tunnel; the interface's otherwise.")
@click.option(
    "--file", "path", metavar="FILE", help="The config it was made from: names of peers and hosts, and DNS."
)
@format_option
def adopt(interface: str, name: str | None, path: str | None, format_: str) -> None:
    """Take over a live WireGuard interface that wg-quick or a person made, without losing a packet."""
    adopted = call_with_file("tunnel.adopt", given(interface=interface, name=name), path)
    show_tunnel(adopted["tunnel"], format_)
    show_notes(adopted)


@interface.command("list", examples=("interface list --format json",))
@click.option("--filter", "pattern", help="Only names that match, e.g. 'site-*'.")
@format_option
def list_(pattern: str | None, format_: str) -> None:
    """List all tunnels."""
    found = placement.placed(call("tunnel.list", given(filter=pattern)))
    output.show(found, format_, tunnel_table)


@interface.command("status", examples=("interface status home",))
@click.argument("name")
@format_option
def status_(name: str, format_: str) -> int:
    """Show one tunnel and its peers. Exit code: 0 as asked for, 1 not so."""
    (tunnel,) = placement.placed([call("tunnel.show", {"name": name})])
    peers = call("peer.list", {"tunnel": name})
    whole = {**tunnel, "peer_list": peers}
    output.show(whole, format_, lambda _: [*tunnel_lines(tunnel), "", *peer_table(peers)])
    return 0 if tunnel["state"] in ("up", "inactive") else 1


class ConfigGroup(Group):
    """'config NAME [--mtu 1380]' and 'config NAME add-peer KEY': options may stand before and after NAME."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Everything up to the second-level word is this command's; the rest is that word's."""
        ctx.allow_interspersed_args = True
        at = next((i for i, word in enumerate(args) if i and word in self.commands), len(args))
        return super().parse_args(ctx, [*args[:at], "--", *args[at:]])


@interface.group("config", cls=ConfigGroup, invoke_without_command=True)
@click.argument("name")
@click.option("--show-secrets", is_flag=True, help="Print the keys, too.")
@click.option("--port", type=PORT, help="Change the UDP port.")
@click.option("--mtu", type=Number(*MTU), help="Change the MTU, in bytes.")
@click.option("--endpoint", metavar="HOST[:PORT]", help="Change where peers reach this host.")
@click.option("--dns", type=Words(), help="Change the resolvers of the peers' configs.")
@click.option(
    "--exit/--no-exit", "exit_", default=None, help="Let peers reach the internet through this host, or not."
)
@click.pass_context
def config(ctx: click.Context, /, name: str, show_secrets: bool, exit_: bool | None, **fields: Any) -> None:
    """Print a tunnel's config for wg-quick, or change the tunnel.

    Without options: the config, keys masked. With --port, --mtu, --endpoint, --dns, --exit or --no-exit:
    the change is made while the tunnel runs.
    """
    changes = given(exit=exit_, **fields)
    ctx.obj = name
    if ctx.invoked_subcommand:
        if changes or show_secrets:
            raise click.UsageError(f"give the options of {ctx.invoked_subcommand} after it", ctx)
    elif changes:
        for line in tunnel_lines(call("tunnel.change", {"name": name, **changes})):
            print(line)
    else:
        text = call("tunnel.config", {"name": name, "show_secrets": show_secrets})["config"]
        sys.stdout.write(text)


@config.command(
    "add-peer", examples=(f"interface config home add-peer {LAPTOP} 192.0.2.1:51820 --name laptop",)
)
@click.argument("public_key", metavar="PUBLIC-KEY")
@click.argument("endpoint", required=False, metavar="[ENDPOINT]")
@click.option("--name", "peer_name", help="Name of the peer; made from its key otherwise.")
@click.option(
    "--address", "addresses", multiple=True, help="The peer's address; the next free one otherwise."
)
@click.option(
    "--route", "--allowed-ips", "routes", type=Words(), multiple=True, help="Networks behind the peer."
)
@keepalive_option
@format_option
@click.pass_obj
def add_peer(
    tunnel: str, /, public_key: str, endpoint: str | None, peer_name: str | None, format_: str, **fields: Any
) -> None:
    """Add a peer that made its own keys."""
    name = peer_name or f"peer-{''.join(filter(str.isalnum, public_key))[:8]}"
    fields["routes"] = flat(fields["routes"])
    request = given(tunnel=tunnel, name=name, public_key=public_key, endpoint=endpoint, **fields)
    added = call("peer.add", request)
    output.show(added["peer"], format_, peer_lines)
    show_notes(added)


@config.command("remove-peer", examples=(f"interface config home remove-peer {LAPTOP}",))
@click.argument("public_key", metavar="PUBLIC-KEY")
@force_option
@click.pass_obj
def remove_peer(tunnel: str, /, public_key: str, force: bool) -> None:
    """Remove the peer with this public key."""
    confirm(f"Remove peer {public_key[:8]}… from tunnel '{tunnel}'?", force)
    removed = call("peer.remove", {"tunnel": tunnel, "public_key": public_key})
    output.note(f"peer '{removed['name']}' is removed from tunnel '{tunnel}'")


# content --------------------------------------------------------------------------------------------


@click.group(cls=Group)
def content() -> None:
    """Tunnels as stored content: add stores one, execute brings it up."""


def one_name(name: str | None, by_option: str | None, otherwise: str = "") -> str:
    """The name that was given in one of two ways, or the other one; a usage error where there is none."""
    if name and by_option and name != by_option:
        raise click.UsageError(
            f"two names are given: '{name}' and '{by_option}'", click.get_current_context()
        )
    if not (name or by_option or otherwise):
        raise click.UsageError("missing argument 'NAME'", click.get_current_context())
    return name or by_option or otherwise


def named(command: Callable[..., Any]) -> Callable[..., Any]:
    """NAME as an argument or, as the Vrooli contract has it, with --name."""

    @wraps(command)
    def with_one_name(name: str | None, by_option: str | None, **rest: Any) -> Any:
        return command(name=one_name(name, by_option), **rest)

    option = click.option("--name", "by_option", metavar="NAME", help="The same as the argument.")
    return click.argument("name", required=False)(option(with_one_name))


@content.command(
    examples=("content add home --exit", "content add --file /etc/wireguard/wg0.conf --ignore-hooks")
)
@click.argument("name", required=False)
@click.option("--name", "by_option", metavar="NAME", help="The same as the argument.")
@click.option("--file", "path", metavar="FILE", help="Read a wg-quick config from FILE; '-' is stdin.")
@click.option(
    "--type",
    "type_",
    type=click.Choice(["tunnel", "wg-quick"]),
    help="What is stored: a new tunnel, or the one in a wg-quick file.",
)
@click.option("--ignore-hooks", is_flag=True, help="Leave out PostUp and its kind, which are never run.")
@tunnel_options
@format_option
def add(path: str | None, type_: str | None, ignore_hooks: bool, format_: str, **options: Any) -> None:
    """Store a tunnel, new or from a wg-quick file, without bringing it up.

    With --file the name is the file's unless another is given.
    """
    given_name, by_option = options.pop("name"), options.pop("by_option")
    if path is None:
        if type_ == "wg-quick" or ignore_hooks:
            raise click.UsageError("the config to read is missing: --file", click.get_current_context())
        show_tunnel(_create(one_name(given_name, by_option), False, options), format_)
        return
    if type_ == "tunnel":
        raise click.UsageError("--file is for --type wg-quick", click.get_current_context())
    imported = import_file(path, one_name(given_name, by_option, stem_of(path)), ignore_hooks)
    show_tunnel(imported["tunnel"], format_)
    show_notes(imported)


content.add_command(list_, "list")


@content.command(
    examples=(
        "content get home",
        "content get home --show-secrets --output wg0.conf",
        "content get home --show-secrets --format networkd --output /etc/systemd/network",
    )
)
@named
@config_format_option
@config_output_option
@click.option("--show-secrets", is_flag=True, help="Print the keys, too.")
def get(name: str, format_: str, path: str | None, show_secrets: bool) -> None:
    """Print a tunnel's config for wg-quick or another program, keys masked unless --show-secrets."""
    if format_ in DRAWN and not show_secrets:
        raise InvalidInput("a QR code without the keys is of no use", "add --show-secrets")
    write_config("tunnel.config", {"name": name, "show_secrets": show_secrets}, format_, path)


@content.command("remove", examples=("content remove home --force",))
@named
@force_option
def remove_content(name: str, force: bool) -> None:
    """Take a tunnel down and forget it, with its keys and all its peers."""
    _delete_tunnel(name, force)


@content.command(examples=("content execute home", "content execute home --options mtu=1380,exit=yes"))
@named
@click.option(
    "--options", type=Changes(), metavar="LIST", help="Change this first: port, mtu, endpoint, exit."
)
@format_option
def execute(name: str, format_: str, options: dict[str, Any] | None) -> None:
    """Bring a stored tunnel up."""
    if options:
        call("tunnel.change", {"name": name, **options})
    show_tunnel(call("tunnel.activate", {"name": name}), format_)


@content.command(examples=("content deactivate home",))
@named
@format_option
def deactivate(name: str, format_: str) -> None:
    """Take a tunnel down and keep it stored."""
    show_tunnel(call("tunnel.deactivate", {"name": name}), format_)


# what they share ------------------------------------------------------------------------------------


def _create(name: str, activate: bool, options: dict[str, Any]) -> Any:
    """Ask for a tunnel.

    WIREGUARD_PORT and WIREGUARD_NETWORK are first wishes, not orders: where taken, the agent chooses.
    """
    options["exit"] = options.pop("exit_") or None
    request = {"name": name, "activate": activate, **given(**options)}
    wishes = given(port=_port_wish(), network=os.environ.get("WIREGUARD_NETWORK") or None)
    if options["addresses"]:
        wishes.pop("network", None)
    if wishes.keys() <= request.keys():
        return call("tunnel.create", request)
    try:
        return call("tunnel.create", {**wishes, **request})
    except ConflictError:
        return call("tunnel.create", request)


def _port_wish() -> int | None:
    text = os.environ.get("WIREGUARD_PORT")
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise InvalidInput(f"WIREGUARD_PORT '{text[:20]}' is not a UDP port", "use a number from 1 to 65535")
    return int(text)


def _delete_tunnel(name: str, force: bool) -> None:
    if not force:
        call("tunnel.show", {"name": name})  # a wrong name comes before the question
    question = f"Delete tunnel '{name}' with its keys and all its peers?"
    confirm(question, force)
    call("tunnel.delete", {"name": name})
    output.note(f"tunnel '{name}' is deleted")
