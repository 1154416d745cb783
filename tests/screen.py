"""What people are to see at once, from a process with no terminal: by a pipe to the one that has it."""

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

VARIABLE = "TESTS_PRINT_TO"
"""Names the pipe, in the environment of the processes that one pytest starts."""


class Screen:
    """Hands on what comes through the pipe, line by line, until it is closed."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="resource-wireguard-screen-")
        self._path = Path(self._folder.name, "pipe")
        os.mkfifo(self._path, 0o600)
        # Open for both, so that the last writer's leaving is not the end, and opening waits for nobody.
        self._pipe = os.fdopen(os.open(self._path, os.O_RDWR), "r+b", buffering=0)
        os.environ[VARIABLE] = str(self._path)
        self._thread = threading.Thread(target=self._hand_on, args=(write,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """What was written before is shown before."""
        del os.environ[VARIABLE]
        self._pipe.write(b"\0\n")
        self._thread.join()
        self._pipe.close()
        self._folder.cleanup()

    def _hand_on(self, write: Callable[[str], object]) -> None:
        with os.fdopen(os.open(self._path, os.O_RDONLY), "rb") as lines:
            for line in iter(lines.readline, b"\0\n"):
                write(line.decode(errors="replace"))


@contextmanager
def screen(otherwise: TextIO) -> Iterator[TextIO]:
    """Where to print; the process's own place if nobody hands on."""
    path = os.environ.get(VARIABLE)
    if path is None:
        yield otherwise
        return
    with open(path, "w", buffering=1) as pipe:
        yield pipe
