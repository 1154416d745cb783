"""The agent's log: its file, its container's, or the journal of a unit that was edited to log there."""

import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TextIO

import click

from resource_wireguard.cli import placement, supervisor, unit
from resource_wireguard.cli.client import log_path
from resource_wireguard.cli.command import Command
from resource_wireguard.cli.moments import moment
from resource_wireguard.cli.options import Number
from resource_wireguard.errors import HostError, NotFound, PermissionDenied

LINES = Number(1, 1_000_000)

LINE_BYTES = 4096
"""Bytes a line has at most, or the tail of a large log may come out short."""

LOOK_EVERY = 0.2
"""Seconds between two looks for new lines with --follow."""

_STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


@click.command(cls=Command, examples=("logs", "logs --tail 200 --since 2h", "logs --follow"))
@click.option("--tail", type=LINES, default=50, show_default=True, help="Lines to show at most.")
@click.option("--follow", is_flag=True, help="Show new lines as they come, until Ctrl-C.")
@click.option("--since", metavar="TIME", help="Only from this time on: 10m, 2h, yesterday, 2025-06-01T12:00.")
def logs(tail: int, follow: bool, since: str | None) -> None:
    """Show what the agent has logged. Exit code 2: there is nothing to show."""
    begin = moment(since, time.time()) if since else None
    if (wanted := placement.container()) is not None:
        from resource_wireguard.cli import container

        if not _show(container.printed(wanted, tail, follow, begin)):
            raise NotFound("nothing was logged" + (f" since {since}" if since else ""), "")
        return
    if not os.path.exists(log_path()) and supervisor.has_unit():
        _show_journal(tail, follow, begin)
        return
    with _opened(log_path()) as file:
        lines = list(_last(file, tail, begin))
        shown = _show([*_before(tail - len(lines), begin), *lines])
        if follow:
            _follow(file)
        elif not shown:
            raise NotFound("nothing was logged" + (f" since {since}" if since else ""), "")
    while follow:
        with _opened(log_path()) as file:
            _follow(file)


def _opened(path: str) -> TextIO:
    try:
        return open(path, encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"no log in {path}", "the service has not been started here yet") from None
    except PermissionError:
        raise PermissionDenied(f"you may not read {path}", "run it with sudo") from None
    except OSError as error:
        raise HostError(f"cannot read {path}: {error.strerror}", "") from None


def _last(file: TextIO, count: int, begin: float | None) -> Iterable[str]:
    """The last lines of a file, or the last of those since a time."""
    if begin is None:
        size = os.fstat(file.fileno()).st_size
        if size > count * LINE_BYTES:
            file.seek(size - count * LINE_BYTES)
            file.readline()  # the rest of a line
        return deque(file, count)
    return deque(_since(file, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(begin))), count)


def _before(count: int, begin: float | None) -> Iterable[str]:
    """As many of the lines that were put aside when the log had become long (engine/logfiles.py)."""
    path = f"{log_path()}.1"
    if not count or not os.path.exists(path):
        return ()
    with _opened(path) as file:
        return _last(file, count, begin)


def _since(lines: Iterable[str], first: str) -> Iterator[str]:
    """Lines from a time on; a line without a time belongs to the one above it."""
    wanted = False
    for line in lines:
        if _STAMP.match(line):
            wanted = line[: len(first)] >= first
        if wanted:
            yield line


def _show(lines: Iterable[str]) -> bool:
    shown = False
    for line in lines:
        sys.stdout.write(line)
        shown = True
    sys.stdout.flush()
    return shown


def _follow(file: TextIO) -> None:
    """New lines as they come, until the file is cut or replaced."""
    while not _replaced(file):
        if not _show(file):
            time.sleep(LOOK_EVERY)


def _replaced(file: TextIO) -> bool:
    mine = os.fstat(file.fileno())
    try:
        named = os.stat(log_path())
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) != (mine.st_dev, mine.st_ino) or named.st_size < file.tell()


def _show_journal(tail: int, follow: bool, begin: float | None) -> None:
    """The unit as we write it logs to the file; one that somebody has edited may not."""
    from resource_wireguard.system import process

    argv = [
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=short-iso",
        f"--unit={unit.NAME}",
        f"--lines={tail}",
    ]
    if begin is not None:
        argv.append(f"--since=@{int(begin)}")
    if follow:
        process.become([*argv, "--follow"])
    text = process.run(argv).stdout
    if not text.strip():
        raise NotFound(f"the journal has nothing of {unit.NAME}", "")
    sys.stdout.write(text)
