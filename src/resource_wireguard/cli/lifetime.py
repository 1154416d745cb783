"""The agent as a process: found by the lock it holds, started, waited for, ended."""

import fcntl
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from resource_wireguard.cli import supervisor
from resource_wireguard.cli.client import call, config_dir, log_path
from resource_wireguard.errors import (
    AlreadyRunning,
    AlreadyStopped,
    HostError,
    PermissionDenied,
    ResourceError,
    ServiceNotRunning,
)

LOOK_EVERY = 0.05
"""Seconds between two looks for an agent that is starting."""

KILLED_WITHIN = 5.0
"""Seconds a process may take to be gone after SIGKILL."""


def run_dir() -> str:
    """Where lock, socket and log of the agent lie."""
    return f"{config_dir()}/run"


def make_directories() -> None:
    """CONFIG_DIR and what is in it, 0700; the directories above as they usually are."""
    directory = config_dir()
    try:
        os.makedirs(os.path.dirname(directory), exist_ok=True)
        for private in (directory, run_dir()):
            if not os.path.isdir(private):
                os.mkdir(private, 0o700)
    except OSError as error:
        hint = "run it with sudo, or set CONFIG_DIR to a place you can write"
        raise HostError(f"cannot make {run_dir()}: {error.strerror}", hint) from None


def agent_environment() -> dict[str, str]:
    """What an agent gets of our environment. It runs in '/': a relative path would not be found there."""
    environment = {**os.environ, "CONFIG_DIR": config_dir()}
    if os.environ.get("PYTHONPATH"):
        environment["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, os.environ["PYTHONPATH"].split(":")))
    if "/" in os.environ.get("WIREGUARD_ENGINE", ""):
        environment["WIREGUARD_ENGINE"] = os.path.abspath(os.environ["WIREGUARD_ENGINE"])
    return environment


def running_pid() -> int | None:
    """The pid of the agent of this CONFIG_DIR: of whoever holds its lock, so never of a stranger."""
    try:
        lock = os.open(f"{run_dir()}/agent.lock", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise PermissionDenied(f"you may not look into {run_dir()}", "run it with sudo") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(lock, 20, 0).decode(errors="replace").strip()
        return int(text) if text.isdecimal() else None
    else:
        return None
    finally:
        os.close(lock)


def start(within: float) -> dict[str, Any] | None:
    """Start an agent in the background and return its agent.info, or None while it is still starting."""
    _refuse_if_running()
    make_directories()
    deadline = time.monotonic() + within
    log = os.open(log_path(), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        begin = os.lseek(log, 0, os.SEEK_END)
        if supervisor.has_unit():
            supervisor.start()
            return _answering(supervisor.Failure(), None, begin, deadline)
        child = _spawn(log)
    finally:
        os.close(log)
    return _answering(partial(_reap, child), child, begin, deadline)


def _refuse_if_running() -> None:
    pid = running_pid()
    if pid is not None:
        raise AlreadyRunning(f"the service is running already (pid {pid})", "see 'resource-wireguard status'")


def _spawn(log: int) -> int:
    from resource_wireguard.system.process import spawn_detached

    argv = [sys.executable, "-P", "-m", "resource_wireguard", "agent"]
    return spawn_detached(argv, agent_environment(), log)


def _reap(child: int) -> bool:
    from resource_wireguard.system.process import reap

    return reap(child)


def _answering(
    has_ended: Callable[[], bool], child: int | None, begin: int, deadline: float
) -> dict[str, Any] | None:
    """Wait until the agent answers; its last words, as an error, if it ends instead."""
    while (left := deadline - time.monotonic()) > 0:
        if has_ended():
            _refuse_if_running()  # another start was quicker
            raise _last_words(begin)
        try:
            found: dict[str, Any] = call("agent.info", within=left)
        except ServiceNotRunning:
            time.sleep(LOOK_EVERY)
            continue
        if child is not None and found["pid"] != child:
            _refuse_if_running()
        return found
    return None


def _last_words(begin: int) -> ResourceError:
    """What the agent wrote to its log before it ended: its error and hint, or its last line."""
    with open(log_path(), encoding="utf-8", errors="replace") as log:
        log.seek(begin)
        lines = [line.strip() for line in log if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    hints = [line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")]
    words = (errors or lines or ["it wrote nothing"])[-1]
    return HostError(f"the agent ended at once: {words}", hints[-1] if hints else f"see {log_path()}")


@contextmanager
def held(pid: int) -> Iterator[int]:
    """A handle on a process that stays its own when the pid is given to another (pidfd_open(2))."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        raise AlreadyStopped("the service is not running", "") from None
    try:
        yield handle
    finally:
        os.close(handle)


def ended(handle: int, within: float) -> bool:
    """Whether the process ends within some seconds."""
    return bool(select.select([handle], [], [], max(0.0, within))[0])


def end(handle: int, within: float, force: bool) -> None:
    """SIGTERM: the agent ends, the tunnels stay. With force SIGKILL, for one that does not listen."""
    _signal(handle, signal.SIGTERM)
    if not ended(handle, within):
        if not force:
            raise HostError(f"the agent did not end within {within:g} s", "add --force to kill it")
        kill(handle)


def kill(handle: int) -> None:
    """SIGKILL: whatever the agent was at, the next start finds and finishes."""
    _signal(handle, signal.SIGKILL)
    if not ended(handle, KILLED_WITHIN):
        raise HostError("the agent cannot be killed: the kernel holds it", "look for a broken disk or driver")


def _signal(handle: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise PermissionDenied("you may not end the agent", "run it with sudo") from None
