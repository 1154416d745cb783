"""The log files of the agent and of its engines, which nobody else keeps from growing for ever."""

import asyncio
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)

SIZE_MOST = 8 * 2**20
"""Bytes of a log; what was before is kept beside it, as much again."""

LOOK_EVERY = 600.0
"""Seconds."""


async def keep_short(paths: Iterable[Path]) -> None:
    """Look after some logs, for ever."""
    while True:
        for path in paths:
            try:
                cut(path)
            except OSError as error:
                log.warning("the log %s cannot be cut: %s", path.name, error.strerror)
        await asyncio.sleep(LOOK_EVERY)


def cut(path: Path, size_most: int = SIZE_MOST) -> None:
    """Put what a long log holds aside, under its name and '.1', and empty it; OSError.

    It stays the same file: its writers hold it open, and append (open(2), O_APPEND).
    """
    if not path.exists() or path.stat().st_size <= size_most:
        return
    aside, new = older(path), path.with_name(f"{path.name}.1.new")
    try:
        with path.open("rb") as source, open(new, "wb", opener=_private) as copy:
            shutil.copyfileobj(source, copy)
        new.replace(aside)
    finally:
        new.unlink(missing_ok=True)  # half of a copy, on a full disk
    os.truncate(path, 0)


def older(path: Path) -> Path:
    """Where what a log held before is."""
    return path.with_name(f"{path.name}.1")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
