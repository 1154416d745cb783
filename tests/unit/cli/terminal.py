"""A command on a terminal of its own."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

PATIENCE = 20.0
"""Seconds until a test gives up on what it waits for."""


@dataclass
class Terminal:
    """One running command; text is all that it has shown, with the terminal's line ends made plain."""

    process: "subprocess.Popen[bytes]"
    _screen: int
    text: str = ""

    def wait_for(self, part: str) -> None:
        """Until the command shows this."""
        until = time.monotonic() + PATIENCE
        while part not in self.text:
            assert time.monotonic() < until, f"{part!r} never came; there is: {self.text!r}"
            self._read()

    def type(self, text: str) -> None:
        """What a person would."""
        os.write(self._screen, text.encode())

    def end(self) -> int:
        """Read to the end; the exit code."""
        until = time.monotonic() + PATIENCE
        while self._read():
            if time.monotonic() > until:
                self.process.kill()
        return self.process.wait(PATIENCE)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._screen], [], [], 0.2)
        try:
            got = os.read(self._screen, 65536) if ready else b""
        except OSError:  # Linux says EIO when the last process has closed a terminal
            return False
        self.text += got.decode().replace("\r\n", "\n")
        return bool(got) or self.process.poll() is None


def on_terminal(words: Sequence[str], environment: dict[str, str], columns: int = 100) -> Terminal:
    """Start a command with stdin, stdout and stderr on a terminal, which is its controlling one."""
    screen, inner = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("4H", 40, columns, 0, 0))
    environment = {name: text for name, text in environment.items() if name != "COLUMNS"}
    process = subprocess.Popen(
        [sys.executable, "-m", "resource_wireguard", *words],
        env={"TERM": "xterm", **environment},
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(inner)
    return Terminal(process, screen)
