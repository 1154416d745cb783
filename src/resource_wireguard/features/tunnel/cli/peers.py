"""The commands of peers."""

from typing import Any

import click

from resource_wireguard.cli import output
from resource_wireguard.cli.client import call
from resource_wireguard.cli.command import Group, Refusal
from resource_wireguard.cli.files import private_output, read_key
from resource_wireguard.cli.options import (
    Number,
    Or,
    Words,
    confirm,
    flat,
    force_option,
    format_option,
    given,
    keepalive_option,
    output_option,
    show_notes,
    typed,
)
from resource_wireguard.cli.views import peer_lines, peer_table
from resource_wireguard.features.tunnel.cli.configs import (
    config_format_option,
    config_output_option,
    write_config,
)
from resource_wireguard.features.tunnel.cli.links import Listen, Seconds, serve_once

LAPTOP = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
"""The public key of the examples: the one in wg(8)."""


@click.group(cls=Group)
def peer() -> None:
    """The peers of a tunnel: phones, laptops, other sites."""


@peer.command(
    "add",
    examples=(
        "peer add home phone --output phone.conf",
        f"peer add home laptop --public-key {LAPTOP}",
        "peer add home office --route 192.168.7.0/24 --endpoint office.example.org:51820",
    ),
)
@click.argument("tunnel")
@click.argument("name")
@click.option("--public-key", metavar="KEY", help="The peer made its own keys; this is the public one.")
@click.option("--preshared-key-file", metavar="FILE", help="Use the preshared key in FILE; '-' is stdin.")
@click.option("--no-preshared-key", is_flag=True, help="Go without a preshared key.")
@click.option(
    "--address",
    "addresses",
    multiple=True,
    help="The peer's address; the next free one otherwise. May be repeated.",
)
@click.option(
    "--route",
    "routes",
    type=Words(),
    multiple=True,
    metavar="NET",
    help="A network behind the peer. May be repeated.",
)
@click.option(
    "--endpoint", metavar="HOST:PORT", help="Where this host reaches the peer; without it the peer calls."
)
@keepalive_option
@click.option(
    "--allowed-ips",
    type=Words(),
    multiple=True,
    envvar="WIREGUARD_ALLOWED_IPS",
    show_envvar=True,
    metavar="NETS",
    help="What the peer sends into the tunnel. May be repeated.",
)
@click.option(
    "--dns",
    type=Words(),
    envvar="WIREGUARD_DNS",
    show_envvar=True,
    metavar="ADDRESSES",
    help="Resolvers for the peer's config.",
)
@click.option(
    "--forget-key", is_flag=True, help="Do not keep the peer's private key: its config is printed this once."
)
@output_option
@format_option
def add_(
    path: str | None,
    format_: str,
    preshared_key_file: str | None,
    no_preshared_key: bool,
    forget_key: bool,
    **fields: Any,
) -> None:
    """Add a peer and print its config, which wg-quick and the phone apps take as it is.

    Without --public-key the keys are made here. The new peer is reachable at once.
    """
    if preshared_key_file and no_preshared_key:
        raise click.UsageError(
            "--preshared-key-file and --no-preshared-key exclude each other", click.get_current_context()
        )
    if path and fields["public_key"]:
        raise Refusal(
            "--output has nothing to write where the peer made its own keys",
            "leave one of --output and --public-key out; 'peer config' prints what the peer needs",
            click.get_current_context(),
        )
    psk = "none" if no_preshared_key else read_key(preshared_key_file) if preshared_key_file else None
    fields = {**fields, "routes": flat(fields["routes"]), "allowed_ips": flat(fields["allowed_ips"])}
    request = given(**fields, preshared_key=psk, keep_key=False if forget_key else None)
    with private_output(path) as write:
        added = call("peer.add", request)
        if format_ == "text" or path:
            write(added["config"] or "")
    if format_ != "text":
        output.show(added, format_, peer_lines)
    elif path or not added["config"]:
        output.note(f"peer '{fields['name']}' is added to tunnel '{fields['tunnel']}'")
    show_notes(added)


@peer.command(
    "set",
    examples=(
        "peer set home office --endpoint office.example.org:51820",
        "peer set home office --route 192.168.7.0/24 --route 192.168.8.0/24",
        "peer set home phone --allowed-ips 0.0.0.0/0,::/0 --dns 9.9.9.9 --keepalive auto",
    ),
)
@click.argument("tunnel")
@click.argument("name")
@click.option(
    "--endpoint",
    type=Or("none", click.STRING),
    metavar="HOST:PORT",
    help="Where this host reaches the peer; none: the peer calls.",
)
@click.option(
    "--keepalive",
    type=Or("auto", Number(0, 65535)),
    help="Seconds between signs of life, of both ends; 0 turns them off, auto gives the default back.",
)
@click.option(
    "--route",
    "routes",
    type=Or("none", Words()),
    multiple=True,
    metavar="NET",
    help="The networks behind the peer, in place of those it has, or none. May be repeated.",
)
@click.option(
    "--allowed-ips",
    type=Or("auto", Words()),
    multiple=True,
    metavar="NETS",
    help="What the peer sends into the tunnel; auto gives the default back. May be repeated.",
)
@click.option(
    "--dns",
    type=Or("auto", Words()),
    metavar="ADDRESSES",
    help="Resolvers for the peer's config; auto gives the tunnel's back.",
)
@format_option
@click.pass_context
def set_(ctx: click.Context, /, tunnel: str, name: str, format_: str, **fields: Any) -> None:
    """Change a peer; its session lives on.

    What is not given stays. A note says so if the config that the peer has is out of date by it.
    """
    fields = {**fields, "routes": flat(fields["routes"]), "allowed_ips": flat(fields["allowed_ips"])}
    changes = typed(ctx, **fields)
    if not changes:
        raise Refusal("nothing to change is given", f"give one of {', '.join(_CHANGES)}", ctx)
    changed = call("peer.change", {"tunnel": tunnel, "name": name, **changes})
    output.show(changed, format_, peer_lines)
    show_notes(changed)


_CHANGES = ("--endpoint", "--keepalive", "--route", "--allowed-ips", "--dns")


@peer.command("remove", examples=("peer remove home phone",))
@click.argument("tunnel")
@click.argument("name")
@force_option
def remove_(tunnel: str, name: str, force: bool) -> None:
    """Remove a peer; its config stops working at once."""
    if not force:
        call("peer.show", {"tunnel": tunnel, "name": name})  # a wrong name comes before the question
    confirm(f"Remove peer '{name}' from tunnel '{tunnel}'?", force)
    call("peer.remove", {"tunnel": tunnel, "name": name})
    output.note(f"peer '{name}' is removed from tunnel '{tunnel}'")


@peer.command("list", examples=("peer list home", "peer list home --format json"))
@click.argument("tunnel")
@format_option
def peer_list(tunnel: str, format_: str) -> None:
    """List a tunnel's peers, and which of them are online."""
    output.show(call("peer.list", {"tunnel": tunnel}), format_, peer_table)


@peer.command("show", examples=("peer show home phone",))
@click.argument("tunnel")
@click.argument("name")
@format_option
def peer_show(tunnel: str, name: str, format_: str) -> None:
    """Show one peer."""
    output.show(call("peer.show", {"tunnel": tunnel, "name": name}), format_, peer_lines)


@peer.command(
    "config",
    examples=(
        "peer config home phone --qr",
        "peer config home phone --output phone.conf",
        "peer config home phone --format png --output phone.png",
        "peer config home phone --once --listen 192.168.1.5:8080",
    ),
)
@click.argument("tunnel")
@click.argument("name")
@config_format_option
@config_output_option
@click.option("--qr", is_flag=True, help="The same as --format qr.")
@click.option("--once", is_flag=True, help="Serve it as a web page, to the first who presses its button.")
@click.option(
    "--listen",
    type=Listen(),
    metavar="ADDRESS[:PORT]",
    help="Where --once listens; this host's own address and a free port otherwise.",
)
@click.option(
    "--expires",
    type=Seconds(),
    default="10m",
    show_default=True,
    help="When --once ends unread, e.g. 90s.",
)
@click.option("--old", is_flag=True, help="While keys are rotated: the config with the old ones.")
def peer_config(
    tunnel: str,
    name: str,
    format_: str,
    path: str | None,
    qr: bool,
    once: bool,
    listen: tuple[str, int] | None,
    expires: int,
    old: bool,
) -> int:
    """Print the config of a peer whose keys were made here, or hand it out by a link that works once.

    With --once the exit code is 0 if it was fetched, and 1 if it was not.
    """
    if once and (path or qr or old):
        raise click.UsageError(
            "--once goes without --output, --qr and --old: the page has both forms",
            click.get_current_context(),
        )
    if once:
        return serve_once(tunnel, name, listen, expires)
    request = given(tunnel=tunnel, name=name, old=old or None)
    write_config("peer.config", request, "qr" if qr else format_, path)
    return 0


@peer.command("enable", examples=("peer enable home phone",))
@click.argument("tunnel")
@click.argument("name")
def enable(tunnel: str, name: str) -> None:
    """Let a disabled peer in again."""
    call("peer.enable", {"tunnel": tunnel, "name": name})
    output.note(f"peer '{name}' of tunnel '{tunnel}' is enabled")


@peer.command("disable", examples=("peer disable home phone",))
@click.argument("tunnel")
@click.argument("name")
def disable(tunnel: str, name: str) -> None:
    """Shut a peer out and keep its keys and addresses."""
    call("peer.disable", {"tunnel": tunnel, "name": name})
    output.note(f"peer '{name}' of tunnel '{tunnel}' is disabled")
