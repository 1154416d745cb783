"""namespace: programs that reach the world through one tunnel only."""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from resource_wireguard.cli import enter, output
from resource_wireguard.cli.client import call
from resource_wireguard.cli.command import Group
from resource_wireguard.cli.options import confirm, force_option, format_option, given, show_notes

WITHIN = 90.0
"""Seconds that a change may take: Docker is slow where the host is busy."""


@click.group(cls=Group)
def namespace() -> None:
    """Programs that reach the world through one tunnel only."""


@namespace.command(examples=("namespace create private home", "namespace create sealed"))
@click.argument("name")
@click.argument("tunnel", required=False)
@click.option("--subnet", metavar="NET", help="IPv4 network of its containers; a free one otherwise.")
@click.option("--subnet6", metavar="NET", help="IPv6 network of its containers; a free one otherwise.")
@click.option("--allow-intercontainer", is_flag=True, help="Let its containers speak to each other.")
@click.option("--netns", is_flag=True, help="A Linux network namespace for programs, without Docker.")
@click.option("--dns", multiple=True, metavar="IP", help="With --netns: whom its programs ask for names.")
@format_option
def create(name: str, tunnel: str | None, netns: bool, format_: str, **more: Any) -> None:
    """Make a Docker network wg-NAME whose containers reach the world only through TUNNEL.

    Without TUNNEL they do not reach it at all. Start containers in it with 'docker run --network wg-NAME'.
    With --netns it is for programs: start them with 'namespace exec'.
    """
    wanted = {option: value for option, value in more.items() if value}
    _refuse_mixed(netns, wanted)
    if netns:
        enter.require_common_mounts()
    wanted["intercontainer"] = bool(wanted.pop("allow_intercontainer", False))
    kind = "netns" if netns else "docker"
    request = given(name=name, tunnel=tunnel, kind=kind, **wanted)
    made = call("namespace.create", request, within=WITHIN)
    output.show(made, format_, namespace_lines)
    show_notes(made)


@namespace.command(
    "exec",
    examples=("namespace exec work -- curl https://example.com",),
    context_settings={"allow_interspersed_args": False},
)
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, command: tuple[str, ...]) -> None:
    """Run a program in a namespace made with --netns, as the user who called sudo; its exit code is ours."""
    enter.require_common_mounts()
    command = command[1:] if command[0] == "--" else command
    enter.become(command, **call("namespace.enter", {"name": name}))


@namespace.command(examples=("namespace connect web private",))
@click.argument("container")
@click.argument("name")
@format_option
def connect(container: str, name: str, format_: str) -> None:
    """Move a container into a namespace: away from all other networks, which would be ways out."""
    answer = call("namespace.connect", {"container": container, "name": name}, within=WITHIN)
    if answer["networks"]:
        output.note(f"container '{container}' has left: {', '.join(answer['networks'])}")
    output.show(answer["namespace"], format_, namespace_lines)


@namespace.command(examples=("namespace disconnect web private",))
@click.argument("container")
@click.argument("name")
@format_option
def disconnect(container: str, name: str, format_: str) -> None:
    """Take a container out of a namespace; it gets its former networks back."""
    answer = call("namespace.disconnect", {"container": container, "name": name}, within=WITHIN)
    has = ", ".join(answer["networks"]) or "no network"
    output.note(f"container '{container}' is out, and has {has} now")
    output.show(answer["namespace"], format_, namespace_lines)


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
    call("namespace.delete", {"name": name}, within=WITHIN)
    output.note(f"namespace '{name}' is deleted")


def namespace_table(namespaces: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One line a namespace."""
    if not namespaces:
        output.note("no namespaces yet: make one with 'resource-wireguard namespace create private home'")
        return
    head = ("NAMESPACE", "STATE", "KIND", "TUNNEL", "SUBNETS", "CONTAINERS")
    yield from output.table(head, [_row(one) for one in namespaces])


def namespace_lines(namespace: dict[str, Any]) -> Iterator[str]:
    """One namespace in full."""
    yield from output.fields(
        [
            ("namespace", namespace["name"]),
            ("state", namespace["state"]),
            ("kind", namespace["kind"]),
            ("tunnel", namespace["tunnel"] or "none: no way out"),
            ("network", namespace["network"] or ""),
            ("subnets", ", ".join(namespace["prefixes"])),
            ("between containers", "allowed" if namespace["intercontainer"] else ""),
            *(_netns_fields(namespace["netns"]) if namespace["netns"] else ()),
        ]
    )
    for container in namespace["containers"]:
        yield f"container {container['name']}: {', '.join(_traits(container))}"
    for problem in namespace["problems"]:
        yield f"problem: {output.one_line(problem['message'])}"
        if problem["hint"]:
            yield f"  hint: {output.one_line(problem['hint'])}"
    for line in namespace["drift"]:
        yield f"still to be done: {line}"


def _refuse_mixed(netns: bool, wanted: dict[str, Any]) -> None:
    """UsageError for an option that says nothing about the kind of namespace that is wanted."""
    others = ("subnet", "subnet6", "allow_intercontainer") if netns else ("dns",)
    for option in others:
        if option in wanted:
            kind = "a Docker network" if netns else "a namespace with --netns"
            raise click.UsageError(f"--{option.replace('_', '-')} is for {kind}")


def _netns_fields(netns: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "interface", netns["interface"] or "none: closed"
    yield "reaches", ", ".join(netns["reaches"]) or "nothing"
    yield "dns", " ".join(netns["dns"]) or "none"
    running = [f"{process['pid']} ({output.one_line(process['command'])})" for process in netns["processes"]]
    yield "processes", ", ".join(running) or "none"


def _row(namespace: dict[str, Any]) -> tuple[str, ...]:
    return (
        namespace["name"],
        namespace["state"],
        namespace["kind"],
        namespace["tunnel"] or "-",
        ", ".join(namespace["prefixes"]) or "-",
        str(len(namespace["containers"])),
    )


def _traits(container: dict[str, Any]) -> Iterator[str]:
    yield "running" if container["running"] else "stopped"
    yield "DNS through the tunnel" if container["dns"] == "tunnel" else "DNS OUTSIDE the tunnel"
    if container["other_networks"]:
        yield f"ALSO IN {', '.join(container['other_networks'])}"
    if container["connected"]:
        yield "moved here by 'namespace connect'"
