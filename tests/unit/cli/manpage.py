"""docs/resource-wireguard.1, made from the help of all commands by: python -m tests.unit.cli.manpage."""

import os
from collections.abc import Iterator
from pathlib import Path

import click
from tests.unit.cli.reference import context_of, shown
from tests.unit.cli.words import all_commands

from resource_wireguard import __version__
from resource_wireguard.cli.main import ENVIRONMENT, EXAMPLES

PAGE = Path(__file__).parents[3] / "docs" / "resource-wireguard.1"

ABOUT = """\
resource-wireguard owns the WireGuard networking of this host: it keeps tunnels and peers in a database of
its own, makes the kernel show them, and goes on looking that it still does. An agent does the work; the
commands ask it."""

SYNOPSIS = r"\fICOMMAND\fR [\fIARGUMENTS\fR]... [\fB\-\-help\fR]"

EXIT = (
    ("0", "Done."),
    ("1", "Failed, or wrong input; then nothing was changed."),
    ("2", "Nothing to do: it runs already, is not running, or there is no such object."),
    ("130", "Ended by Ctrl-C."),
)


def page() -> str:
    """The whole page, in the macros of man(7)."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield r".\" Made from the program's own help by python -m tests.unit.cli.manpage; a test keeps it so."
    yield f'.TH RESOURCE\\-WIREGUARD 1 "" "resource\\-wireguard {__version__}" "User Commands"'
    yield from (".SH NAME", r"resource\-wireguard \- owns the WireGuard networking of a Linux host")
    yield from (
        ".SH SYNOPSIS",
        r".B resource\-wireguard",
        SYNOPSIS,
    )
    yield from (".SH DESCRIPTION", *_text(ABOUT))
    yield ".SH COMMANDS"
    for words in all_commands():
        yield from _command(context_of(words), " ".join(shown(words)))
    yield from (
        ".SH ENVIRONMENT",
        *_list((name, f"{what} [{default}]") for name, default, what in ENVIRONMENT),
    )
    yield from (".SH EXIT STATUS", *_list(EXIT))
    yield ".SH EXAMPLES"
    for typed, what in EXAMPLES:
        yield from (".PP", *_text(f"{what[:1].upper()}{what[1:]}:"), ".PP", ".RS", ".nf")
        yield from (_plain(f"resource-wireguard {typed}"), ".fi", ".RE")
    yield from (".SH SEE ALSO", r".BR wg (8),", r".BR wg\-quick (8)")


def _command(context: click.Context, title: str) -> Iterator[str]:
    command = context.command
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (f'.SS "{_plain(title)}"', f".B {_plain(title)}", _plain(usage))
    for paragraph in (command.help or "").split("\n\n"):
        yield from (".PP", *_text(" ".join(paragraph.split())))
    records = [p.get_help_record(context) for p in command.get_params(context)]
    yield from _list(record for record in records if record and record[1] and record[0] != "-h, --help")


def _list(pairs: Iterator[tuple[str, str]] | tuple[tuple[str, str], ...]) -> Iterator[str]:
    for term, text in pairs:
        yield from (".TP", f".B {_plain(term)}", *_text(text))


def _text(text: str) -> Iterator[str]:
    for line in text.splitlines():
        shown = _plain(line)
        yield f"\\&{shown}" if shown.startswith((".", "'")) else shown


def _plain(text: str) -> str:
    """Text without what troff(1) would take for a request: backslashes, and hyphens that become dashes."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")


if __name__ == "__main__":
    os.environ.pop("COLUMNS", None)
    PAGE.write_text(page())
