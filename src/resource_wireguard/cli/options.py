"""Options and questions that several commands share."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import click

from resource_wireguard.cli import output
from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.spans import SECONDS

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


class Number(click.ParamType[int]):
    """A whole number within bounds, and perhaps one word beside, which stands for 'not given'."""

    name = "number"

    def __init__(self, least: int, most: int, or_word: str = "") -> None:
        self.least, self.most, self.or_word = least, most, or_word

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; None for the word."""
        if isinstance(value, int):
            return value
        if self.or_word and value == self.or_word:
            return None
        if not value.isascii() or not value.isdecimal() or not self.least <= int(value) <= self.most:
            beside = f" or '{self.or_word}'" if self.or_word else ""
            self.fail(f"'{value[:20]}' is not a number from {self.least} to {self.most}{beside}", param, ctx)
        return int(value)


PORT = Number(1, 65535)


class Span(click.ParamType[int]):
    """A time such as 90s, 10m, 2h, 7d or 4w."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """In seconds. What is too long for a purpose is the agent's to say."""
        text = str(value)
        number, unit = text[:-1], text[-1:]
        if not number.isascii() or not number.isdecimal() or len(number) > 9 or unit not in SECONDS:
            self.fail(f"'{text[:20]}' is not a time, such as 90s, 10m, 2h or 7d", param, ctx)
        return int(number) * SECONDS[unit]


class Or(click.ParamType[Any]):
    """What another type takes, or a word that takes back what was given before: None."""

    def __init__(self, word: str, type_: click.ParamType[Any]) -> None:
        self.name, self.word, self.type = type_.name, word, type_

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """None for the word."""
        return None if value == self.word else self.type.convert(value, param, ctx)


keepalive_option: Decorator = click.option(
    "--keepalive",
    type=Number(0, 65535),
    envvar="WIREGUARD_KEEPALIVE",
    show_envvar=True,
    help="Seconds between signs of life; 0 turns them off.",
)


class Words(click.ParamType[list[str]]):
    """Several values in one: separated by commas or spaces."""

    name = "list"

    def convert(self, value: Any, _: click.Parameter | None, __: click.Context | None) -> Any:
        """'10.0.0.1, fd00::1' → both."""
        return value.replace(",", " ").split() if isinstance(value, str) else value


def given(**fields: Any) -> dict[str, Any]:
    """A request of the fields that were given: what is None or empty stays with the agent's default."""
    return {name: value for name, value in fields.items() if value is not None and value != ()}


def typed(ctx: click.Context, **fields: Any) -> dict[str, Any]:
    """A request of the fields that stand on the command line; None there takes back what was given before."""
    typed_ = click.core.ParameterSource.COMMANDLINE
    return {name: value for name, value in fields.items() if ctx.get_parameter_source(name) is typed_}


def confirm(question: str, force: bool) -> None:
    """Ask on a terminal; without one, refuse unless --force was given. Returns only for a yes."""
    if force:
        return
    if not sys.stdin.isatty():
        raise InvalidInput(f"this needs a yes: {question}", "there is no terminal to ask on; add --force")
    print(f"{question} [y/N]: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InvalidInput("not confirmed: nothing was changed", "")


def flat(lists: Iterable[list[str] | None]) -> tuple[str, ...]:
    """The values of a repeated option as one tuple."""
    return tuple(word for words in lists for word in words or ())


def show_notes(answer: dict[str, Any]) -> None:
    """The sentences for a person that came with an answer."""
    for note in answer.get("notes", ()):
        output.note(f"note: {note}")
