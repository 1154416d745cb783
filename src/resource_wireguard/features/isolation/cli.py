"""namespace: programs that reach the world through one tunnel only."""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from resource_wireguard.cli import output
from resource_wireguard.cli.client import call
from resource_wireguard.cli.command import Group
from resource_wireguard.cli.options import confirm, force_option, format_option, given


@click.group(cls=Group)
def namespace() -> None:
    """Programs that reach the world through one tunnel only."""


@namespace.command(examples=("namespace create private home", "namespace create sealed"))
@click.argument("name")
@click.argument("tunnel", required=False)
@format_option
def create(name: str, tunnel: str | None, format_: str) -> None:
    """Make a namespace whose only way out is TUNNEL; without one it has no way out."""
    made = call("namespace.create", given(name=name, tunnel=tunnel))
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
        ]
    )
    for problem in namespace["problems"]:
        yield f"problem: {output.one_line(problem['message'])}"
        if problem["hint"]:
            yield f"  hint: {output.one_line(problem['hint'])}"
    for line in namespace["drift"]:
        yield f"still to be done: {line}"
