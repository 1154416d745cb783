"""namespace: programs that reach the world through one tunnel only."""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from resource_wireguard.cli import enter, output
from resource_wireguard.cli.client import call
from resource_wireguard.cli.command import Group
from resource_wireguard.cli.options import confirm, force_option, format_option, given


@click.group(cls=Group)
def namespace() -> None:
    """Programs that reach the world through one tunnel only."""


@namespace.command(examples=("namespace create private home", "namespace create sealed"))
@click.argument("name")
@click.argument("tunnel", required=False)
@click.option(
    "--netns", is_flag=True, help="A Linux network namespace for programs, instead of a Docker network."
)
@click.option(
    "--dns", multiple=True, help="A DNS server that its programs ask; default: the tunnel's. [--netns]"
)
@format_option
def create(name: str, tunnel: str | None, netns: bool, dns: tuple[str, ...], format_: str) -> None:
    """Make a namespace whose only way out is TUNNEL; without one it has no way out."""
    if dns and not netns:
        raise click.UsageError("--dns goes with --netns: Docker asks the tunnel's servers by itself")
    kind = "netns" if netns else "docker"
    if netns:
        enter.require_common_mounts()
    made = call("namespace.create", given(name=name, tunnel=tunnel, kind=kind, dns=dns or None))
    output.show(made, format_, namespace_lines)


@namespace.command("list", examples=("namespace list --format json",))
@format_option
def list_(format_: str) -> None:
    """List all namespaces."""
    output.show(call("namespace.list"), format_, namespace_table)


@namespace.command(examples=("namespace status private",))
@click.argument("name")
@format_option
def status(name: str, format_: str) -> None:
    """What is in a namespace, and whether all of it is as it should be."""
    output.show(call("namespace.status", {"name": name}), format_, namespace_lines)


@namespace.command(examples=("namespace delete private",))
@click.argument("name")
@force_option
def delete(name: str, force: bool) -> None:
    """Delete a namespace in which nothing runs any more."""
    confirm(f"Delete namespace '{name}'?", force)
    call("namespace.delete", {"name": name})
    output.note(f"namespace '{name}' is deleted")


@namespace.command(
    "exec",
    examples=("namespace exec work -- curl https://example.com",),
    context_settings={"allow_interspersed_args": False},
)
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, command: tuple[str, ...]) -> None:
    """Run a program in a network namespace, as the user who called sudo; its exit code is ours."""
    enter.require_common_mounts()
    command = command[1:] if command[0] == "--" else command
    enter.become(command, **call("namespace.enter", {"name": name}))


def namespace_table(namespaces: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One line a namespace."""
    if not namespaces:
        output.note("no namespaces yet: make one with 'resource-wireguard namespace create private home'")
        return
    head = ("NAMESPACE", "STATE", "KIND", "TUNNEL")
    rows = [(one["name"], one["state"], one["kind"], one["tunnel"] or "-") for one in namespaces]
    yield from output.table(head, rows)


def namespace_lines(namespace: dict[str, Any]) -> Iterator[str]:
    """One namespace in full."""
    yield from output.fields(
        [
            ("namespace", namespace["name"]),
            ("state", namespace["state"]),
            ("kind", namespace["kind"]),
            ("tunnel", namespace["tunnel"] or "none: no way out"),
            *(_netns_fields(namespace["netns"]) if namespace["netns"] else ()),
        ]
    )
    for problem in namespace["problems"]:
        yield f"problem: {output.one_line(problem['message'])}"
        if problem["hint"]:
            yield f"  hint: {output.one_line(problem['hint'])}"
    for line in namespace["drift"]:
        yield f"still to be done: {line}"


def _netns_fields(netns: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What there is of a network namespace."""
    yield "netns", netns["name"]
    yield "interface", netns["interface"] or "none: closed"
    yield "reaches", ", ".join(netns["reaches"]) or "nothing"
    yield "dns", " ".join(netns["dns"]) or "none"
    running = [f"{process['pid']} ({output.one_line(process['command'])})" for process in netns["processes"]]
    yield "processes", ", ".join(running) or "none"
