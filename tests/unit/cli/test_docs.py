"""Every command that a page of docs/ or a hint of the program names is there, with its options."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.unit.cli.words import all_commands

from resource_wireguard.cli.main import root

CHECKOUT = Path(__file__).parents[3]
MADE_OR_OF_FIELDS = ("commands.md", "bus.md")
PAGES = [
    CHECKOUT / "README.md",
    *(page for page in sorted(CHECKOUT.glob("docs/*.md")) if page.name not in MADE_OR_OF_FIELDS),
]
MODULES = sorted((CHECKOUT / "src").rglob("*.py"))

GROUPS = "|".join(sorted({words[0] for words in all_commands() if len(words) > 1}))
IN_TEXT = re.compile(rf"`(?:sudo )?(?:resource-wireguard )?((?:{GROUPS}) [a-z][^`\n]*)`")
IN_BLOCK = re.compile(r"^(?:\$ )?(?:sudo )?(?:.*[|;] *)?resource-wireguard ([^|#\n]+)", re.MULTILINE)
IN_HINT = re.compile(rf"(?:'|resource-wireguard )((?:{GROUPS}) [a-z][^'\"\n;…]*+)(?!…)")


def typed_in(page: str) -> Iterator[str]:
    parts = re.split(r"^```.*$", page.replace("\\\n", " "), flags=re.MULTILINE)
    for number, part in enumerate(parts):
        for found in (IN_BLOCK if number % 2 else IN_TEXT).finditer(part):
            yield found[1]


def wrong_in(typed: str) -> str | None:
    """What no command understands of it; None where all is well."""
    words = shlex.split(typed.split(" #")[0])
    context = click.Context(root)
    for position, word in enumerate(words):
        command = context.command
        if not isinstance(command, click.Group) or word.startswith("-"):
            return wrong_options(command, words[position:])
        below = command.get_command(context, word)
        if below is not None:
            context = click.Context(below, parent=context, info_name=word)
        elif not any(isinstance(parameter, click.Argument) for parameter in command.params):
            return word
    return None


def wrong_options(command: click.Command, words: list[str]) -> str | None:
    known = {"-h", "--help"}.union(*(p.opts + p.secondary_opts for p in command.params))
    own = words[: words.index("--")] if "--" in words else words
    return next((w for w in own if w.startswith("--") and w.partition("=")[0] not in known), None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_are_there(page: Path) -> None:
    assert {typed: wrong for typed in typed_in(page.read_text()) if (wrong := wrong_in(typed))} == {}


def test_the_commands_of_hints_are_there() -> None:
    hints = [found[1] for module in MODULES for found in IN_HINT.finditer(module.read_text())]
    assert len(hints) > 20
    assert {typed: wrong for typed in hints if (wrong := wrong_in(typed))} == {}


@pytest.mark.parametrize(
    ("typed", "wrong"),
    [
        ("interface import work.conf", "import"),
        ("interface config home --mtu 1280", None),
        ("interface config home add-peer KEY --nme x", "--nme"),
        ("peer add home phone --outptu x", "--outptu"),
        ("namespace exec work -- curl --silent x", None),
    ],
)
def test_what_is_not_there_is_found(typed: str, wrong: str | None) -> None:
    assert wrong_in(typed) == wrong
