"""The agent as a process or container: found by the lock it holds, started, waited for, ended."""

import fcntl
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from resource_wireguard.cli import placement, supervisor
from resource_wireguard.cli.client import call, config_dir, log_path
from resource_wireguard.errors import (
    AlreadyRunning,
    AlreadyStopped,
    ConflictError,
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
    """The pid of the agent of this CONFIG_DIR: of whoever holds its lock, so never of a stranger.

    ConflictError where it is a pid of another namespace (pid_namespaces(7)): here it is a stranger's.
    """
    if (words := _lock_words()) is None:
        return None
    pid, *where = words
    if where and where[0] != os.readlink("/proc/self/ns/pid"):
        raise ConflictError(
            f"the agent of {config_dir()} runs in a container that was not started from here",
            "stop it where it was started",
        )
    return int(pid) if pid.isdecimal() else None


def is_running() -> bool:
    """Whether an agent of this CONFIG_DIR runs, wherever."""
    return _lock_words() is not None


def _lock_words() -> list[str] | None:
    """What the holder of the lock wrote there; None if nobody holds it."""
    try:
        lock = os.open(f"{run_dir()}/agent.lock", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise PermissionDenied(f"you may not look into {run_dir()}", "run it with sudo") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(lock, 100, 0).decode(errors="replace").split() or [""]
    else:
        return None
    finally:
        os.close(lock)


def start(within: float) -> dict[str, Any] | None:
    """Start an agent in the background and return its agent.info, or None while it is still starting."""
    _refuse_if_running()
    make_directories()
    deadline = time.monotonic() + within
    if (wanted := placement.container()) is not None:
        return _start_contained(wanted, deadline)
    log = os.open(log_path(), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        begin = os.lseek(log, 0, os.SEEK_END)
        if supervisor.has_unit():
            supervisor.start()
            return _answering(supervisor.Failure(), None, partial(_logged, begin), deadline)
        child = _spawn(log)
    finally:
        os.close(log)
    return _answering(partial(_reap, child), child, partial(_logged, begin), deadline)


def _start_contained(wanted: placement.Container, deadline: float) -> dict[str, Any] | None:
    from resource_wireguard.cli import container

    with container.docker() as client:
        running = container.begin(client, wanted)
        return _answering(running.has_failed, None, running.log, deadline)


def _refuse_if_running() -> None:
    if is_running():
        raise AlreadyRunning(f"the service is running already ({place()})", "see 'resource-wireguard status'")


def place() -> str:
    """Where the running agent is to be found, for a person."""
    wanted = placement.container()
    return f"container {wanted.name}" if wanted else f"pid {running_pid()}"


def _spawn(log: int) -> int:
    from resource_wireguard.system.process import spawn_detached

    argv = [sys.executable, "-P", "-m", "resource_wireguard", "agent"]
    return spawn_detached(argv, agent_environment(), log)


def _reap(child: int) -> bool:
    from resource_wireguard.system.process import reap

    return reap(child)


def _answering(
    has_ended: Callable[[], bool], child: int | None, printed: Callable[[], list[str]], deadline: float
) -> dict[str, Any] | None:
    """Wait until the agent answers; its last words, as an error, if it ends instead."""
    while (left := deadline - time.monotonic()) > 0:
        if has_ended():
            _refuse_if_running()  # another start was quicker
            raise _last_words(printed())
        try:
            found: dict[str, Any] = call("agent.info", within=left)
        except ServiceNotRunning:
            time.sleep(LOOK_EVERY)
            continue
        if child is not None and found["pid"] != child:
            _refuse_if_running()
        return found
    return None


def _logged(begin: int) -> list[str]:
    """The lines of the log from an offset on."""
    with open(log_path(), encoding="utf-8", errors="replace") as log:
        log.seek(begin)
        return list(log)


def _last_words(printed: list[str]) -> ResourceError:
    """What the agent printed before it ended: its error and hint, or its last line."""
    lines = [line.strip() for line in printed if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    hints = [line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")]
    words = (errors or lines or ["it wrote nothing"])[-1]
    return HostError(f"the agent ended at once: {words}", hints[-1] if hints else f"see {log_path()}")


class Ending(Protocol):
    """A running agent that is to end: a process, or a container."""

    def ended(self, within: float) -> bool:
        """Whether it ends within some seconds."""

    @property
    def takes_along(self) -> frozenset[str]:
        """The engines whose tunnels end with it."""

    @property
    def leaves_behind(self) -> bool:
        """Whether it would leave what its successor does not find, unless it takes that down itself."""

    def terminate(self) -> None:
        """Tell the agent to end; the tunnels stay, where there are others than those of its container."""

    def kill(self) -> None:
        """End it whatever it is at: the next start finds and finishes that."""


@contextmanager
def held() -> Iterator[Ending]:
    """The agent of this CONFIG_DIR, until it has ended; AlreadyStopped if there is none."""
    wanted = placement.container()
    if wanted is not None:
        from resource_wireguard.cli import container

        with container.held(wanted) as running:
            yield running
        return
    if (pid := running_pid()) is None:
        raise AlreadyStopped("the service is not running", "start it with 'resource-wireguard manage start'")
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        raise AlreadyStopped("the service is not running", "") from None
    try:
        yield Process(handle)
    finally:
        os.close(handle)


class Process:
    """A process by a handle that stays its own when the pid is given to another (pidfd_open(2))."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def ended(self, within: float) -> bool:
        """Whether it ends within some seconds."""
        return bool(select.select([self._handle], [], [], max(0.0, within))[0])

    @property
    def takes_along(self) -> frozenset[str]:
        """None: engines in user space are processes of their own."""
        return frozenset()

    @property
    def leaves_behind(self) -> bool:
        """Its successor works where it did."""
        return False

    def terminate(self) -> None:
        """SIGTERM: the agent ends, the tunnels stay."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._signal(signal.SIGKILL)
        if not self.ended(KILLED_WITHIN):
            raise HostError(
                "the agent cannot be killed: the kernel holds it", "look for a broken disk or driver"
            )

    def _signal(self, number: signal.Signals) -> None:
        try:
            signal.pidfd_send_signal(self._handle, number)
        except ProcessLookupError:
            return
        except PermissionError:
            raise PermissionDenied("you may not end the agent", "run it with sudo") from None


def end(agent: Ending, within: float, force: bool) -> None:
    """Have the agent end and leave the tunnels; with force kill one that does not listen."""
    agent.terminate()
    if not agent.ended(within):
        if not force:
            raise HostError(f"the agent did not end within {within:g} s", "add --force to kill it")
        agent.kill()
