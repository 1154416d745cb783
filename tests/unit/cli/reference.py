"""docs/commands.md, made from the help of every command. Written by: python -m tests.unit.cli.reference."""

import os
from collections.abc import Iterator
from pathlib import Path

import click
from tests.unit.cli.words import all_commands

from resource_wireguard.cli.main import root

PAGE = Path(__file__).parents[3] / "docs" / "commands.md"

HEAD = """\
# Commands

Made from the program's own help by `python -m tests.unit.cli.reference`; a test keeps it current.
Exit codes: 0 done; 1 failed, or wrong input; 2 nothing to do, or no such object; 130 after Ctrl-C.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_sections()])


def _sections() -> Iterator[str]:
    yield _section("resource-wireguard", context_of(()))
    for words in all_commands():
        context = context_of(words)
        yield _section(" ".join(shown(words)), context)


def _section(title: str, context: click.Context) -> str:
    level = "##" if isinstance(context.command, click.Group) or context.parent is None else "###"
    return f"{level} {title}\n\n```\n{context.get_help()}\n```\n"


def shown(words: tuple[str, ...]) -> Iterator[str]:
    return ("NAME" if word == "x" else word for word in words)


def context_of(words: tuple[str, ...]) -> click.Context:
    context = root.context_class(
        root, info_name="resource-wireguard", **{**root.context_settings, "terminal_width": 80}
    )
    for word in words:
        if word != "x" and isinstance(context.command, click.Group):
            command = context.command.get_command(context, word)
            assert command is not None
            context = click.Context(command, parent=context, info_name=word, terminal_width=80)
    return context


if __name__ == "__main__":
    os.environ.pop("COLUMNS", None)
    PAGE.write_text(page())
