"""Options and questions that several commands share."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import click

from resource_wireguard.cli import output
from resource_wireguard.errors import InvalidInput

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

format_option: Decorator = click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json", "yaml"]),
    default="text",
    show_default=True,
    help="How to print the result.",
)

force_option: Decorator = click.option("--force", is_flag=True, help="Do not ask.")


output_option: Decorator = click.option(
    "--output", "path", metavar="FILE", help="Write to FILE, readable by you alone; '-' is stdout."
)

KEEPALIVE = click.IntRange(0, 65535)


class Words(click.ParamType[list[str]]):
    """Several values in one: separated by commas or spaces."""

    name = "list"

    def convert(self, value: Any, _: click.Parameter | None, __: click.Context | None) -> Any:
        """'10.0.0.1, fd00::1' → both."""
        return value.replace(",", " ").split() if isinstance(value, str) else value


def given(**fields: Any) -> dict[str, Any]:
    """A request of the fields that were given: what is None or empty stays with the agent's default."""
    return {name: value for name, value in fields.items() if value is not None and value != ()}


def confirm(question: str, force: bool) -> None:
    """Ask on a terminal; without one, refuse unless --force was given. Returns only for a yes."""
    if force:
        return
    if not sys.stdin.isatty():
        raise InvalidInput(f"this needs a yes: {question}", "there is no terminal to ask on; add --force")
    if not click.confirm(question, err=True):
        raise InvalidInput("nothing was changed", "")


def flat(lists: Iterable[list[str]]) -> tuple[str, ...]:
    """The values of a repeated option as one tuple."""
    return tuple(word for words in lists for word in words)


def show_notes(answer: dict[str, Any]) -> None:
    """The sentences for a person that came with an answer."""
    for note in answer.get("notes", ()):
        output.note(f"note: {note}")
