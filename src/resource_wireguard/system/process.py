"""The only place where processes are started: an argv list, never a shell, and never a secret in it."""

import os
import signal
import subprocess  # noqa: TID251
from collections.abc import Mapping, Sequence
from typing import NoReturn

import msgspec

from resource_wireguard.errors import HostError

TIMEOUT = 10.0
"""Seconds a tool may take."""


class Completed(msgspec.Struct, frozen=True):
    """What a tool that ended well has printed."""

    stdout: str
    stderr: str


def run(argv: Sequence[str], stdin: str | None = None, timeout: float = TIMEOUT) -> Completed:
    """Run a tool to its end; HostError with the first line of its stderr if it fails, hangs or is missing."""
    tool = os.path.basename(argv[0])  # noqa: PTH119 (a name, not a path to look at)
    try:
        done = subprocess.run(
            argv,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"{tool} did not end within {timeout:g} s") from None
    except OSError as error:
        raise HostError(f"{tool} cannot be started: {error.strerror}") from None
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().split("\n", 1)[0]
        raise HostError(f"{tool} failed: {words or f'exit code {done.returncode}'}")
    return Completed(done.stdout, done.stderr)


def spawn_detached(argv: Sequence[str], environment: Mapping[str, str], log: int) -> int:
    """Start a process that outlives us, with its output in the file descriptor log; its pid, for reap()."""
    try:
        process = subprocess.Popen(
            argv,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise HostError(f"{argv[0]} cannot be started: {error.strerror}") from None
    process.returncode = 0  # it is not Popen's to wait for
    return process.pid


def become(argv: Sequence[str]) -> NoReturn:
    """Go on as another program, with our terminal and our exit code; HostError if it is missing."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and a program would inherit that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(argv[0], list(argv))  # noqa: S606 - an argv list, as everywhere here
    except OSError as error:
        raise HostError(f"{argv[0]} cannot be started: {error.strerror}") from None


def reap(pid: int) -> int | None:
    """How a child has ended: its exit code, or minus a signal (1 if nobody knows); None while it lives.

    It is a zombie no more then.
    """
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 1
    return os.waitstatus_to_exitcode(status) if ended == pid else None
