"""What people and programs read: tables, ages, sizes, JSON, YAML. Data goes to stdout, all else to stderr."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click

COLOURS = {
    "up": "green",
    "online": "green",
    "healthy": "green",
    "running": "green",
    "ok": "green",
    "idle": "yellow",
    "degraded": "yellow",
    "warning": "yellow",
    "isolated": "yellow",
    "leaking": "red",
    "down": "red",
    "offline": "red",
    "unhealthy": "red",
    "failed": "red",
}
"""Only states are coloured, and only these."""

COLUMN_MIN = 8
"""Characters a column keeps when a table is cut to the terminal's width."""


def show(value: Any, format_: str, text: Callable[[Any], Iterable[str]]) -> None:
    """Print a result in the form that was asked for."""
    match format_:
        case "json":
            print(json.dumps(value, indent=2, ensure_ascii=False))
        case "yaml":
            print("\n".join(yaml_lines(value)))
        case _:
            for line in text(value):
                print(line)


def note(text: str) -> None:
    """A sentence for a person, on stderr."""
    print(one_line(text), file=sys.stderr)


def error(message: str, hint: str = "") -> None:
    """What went wrong and the way out, one line each, on stderr."""
    print(f"error: {one_line(message)}", file=sys.stderr)
    if hint:
        print(f"hint: {one_line(hint)}", file=sys.stderr)


def one_line(text: str) -> str:
    """Text without line ends or terminal control: messages may quote what somebody else wrote."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def coloured(word: str) -> str:
    """A state in its colour, where the terminal wants colours (https://no-color.org)."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return click.style(word, fg=COLOURS[word]) if wanted and word in COLOURS else word


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Aligned lines; on a terminal the widest columns are cut until a line fits."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    if sys.stdout.isatty():
        _fit(widths, os.get_terminal_size(sys.stdout.fileno()).columns)
    for row in (head, *rows):
        yield "  ".join(_cell(text, width) for text, width in zip(row, widths, strict=True)).rstrip()


def fields(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Aligned 'name: value' lines; empty values are left out."""
    shown = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0) + 2
    for name, value in shown:
        yield f"{name + ':':<{width}}{coloured(value)}"


def ago(iso: str | None, now: float | None = None) -> str:
    """'1 m 12 s ago' for a time such as '2025-06-01T12:00:00Z'; 'never' for None."""
    if iso is None:
        return "never"
    from calendar import timegm

    then = timegm(time.strptime(iso[:19], "%Y-%m-%dT%H:%M:%S"))
    return f"{duration((time.time() if now is None else now) - then)} ago"


def duration(seconds: float) -> str:
    """The two largest units: '5 s', '1 m 12 s', '3 h 0 m', '12 d 4 h'."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} m"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(count: float) -> str:
    """Bytes in binary units: '512 B', '3.4 MiB'."""
    if count < 1024:
        return f"{int(count)} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if count < 999.95 or unit == "TiB":
            break
    return f"{count:.1f} {unit}"


def _cell(text: str, width: int) -> str:
    short = text if len(text) <= width else f"{text[: width - 1]}…"
    return coloured(short) + " " * (width - len(short))


def _fit(widths: list[int], available: int) -> None:
    while sum(widths) + 2 * (len(widths) - 1) > available and max(widths) > COLUMN_MIN:
        widths[widths.index(max(widths))] -= 1


# YAML: JSON's values in block style. Strings stay plain only where no YAML reader can take them for more.

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./ -]*[A-Za-z0-9_./-]|[A-Za-z/]")
_UNSEEN = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_WORDS_WITH_MEANING = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}


def yaml_lines(value: Any, indent: str = "") -> Iterator[str]:
    """A value of JSON as lines of YAML 1.1 and 1.2."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _yaml_item(f"{indent}{_scalar(key)}:", item, indent)
    elif isinstance(value, list | tuple) and value:
        for item in value:
            yield from _yaml_item(f"{indent}-", item, indent)
    else:
        yield f"{indent}{_scalar(value)}"


def _yaml_item(lead: str, item: Any, indent: str) -> Iterator[str]:
    if not isinstance(item, dict | list | tuple) or not item:
        yield f"{lead} {_scalar(item)}"
    elif lead.endswith("-"):
        first, *more = yaml_lines(item, f"{indent}  ")
        yield f"{lead} {first.lstrip()}"
        yield from more
    else:
        yield lead
        yield from yaml_lines(item, f"{indent}  ")


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        return repr(value) if "." in repr(value) else repr(value).replace("e", ".0e")
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS_WITH_MEANING:
        return value
    return _UNSEEN.sub(lambda sign: f"\\u{ord(sign[0]):04x}", json.dumps(value, ensure_ascii=False))
