"""Userspace engines: which one to use, and starting and stopping its processes.

An engine outlives us. Its environment names the tunnel (ENGINE_VARIABLE), so that it is known as ours from
its first instruction on, and no other process is ever killed.
"""

import math
import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resource_wireguard.errors import HostError
from resource_wireguard.host.ownership import ENGINE_VARIABLE
from resource_wireguard.system import process, uapi

PROGRAMS = ("wireguard-go", "boringtun-cli")
"""Looked for on PATH, in this order, where the user names none."""

READY_DEADLINE = 5.0
STOP_DEADLINE = 0.5
UP_DEADLINE = 0.2
"""Seconds until a started engine answers, until a signal has ended it, and until it saw its link go up."""

UP_DEADLINE_MOVED = 1.2
"""Seconds: wireguard-go looks every second (routineHackListener)."""

BACK_OFF = (0, 0, 0, 1, 2, 4, 8, 16, 30)
"""Seconds from the latest start of an engine to the next, by the number of starts within BACK_OFF_WINDOW."""

BACK_OFF_WINDOW = 60.0

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.001, 0.010


class Engines:
    """The engines of this host; choice is 'auto', 'kernel', 'userspace', or a program by name or path."""

    def __init__(self, choice: str, has_kernel: Callable[[], bool], log: Path | None = None) -> None:
        self._choice = choice
        self._has_kernel = has_kernel
        self._log = log
        self._children: dict[int, tuple[str, float]] = {}
        self._starts: dict[str, list[float]] = {}

    def available(self) -> str | None:
        """What new links are made with: 'kernel', 'userspace' or None."""
        if self._choice in ("auto", "kernel") and self._has_kernel():
            return "kernel"
        return "userspace" if self._program() else None

    def start(self, interface: str, tunnel: str, link_exists: Callable[[], bool]) -> None:
        """Start an engine and wait until its socket and its link are there; HostError if they do not come."""
        program = self._program()
        if program is None:
            raise HostError(
                f"there is no userspace engine to make {interface} with",
                "install wireguard-go, or name another program with WIREGUARD_ENGINE",
            )
        self._check_back_off(interface)
        _claim_socket(interface)
        begun = time.monotonic()
        self._starts.setdefault(interface, []).append(begun)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LOG_LEVEL": "error",
            "WG_PROCESS_FOREGROUND": "1",
            ENGINE_VARIABLE: tunnel,
        }
        with self._open_log() as log:
            begin = os.lseek(log, 0, os.SEEK_END)
            pid = process.spawn_detached([program, "-f", interface], environment, log)
            self._children[pid] = interface, begun
            self._wait_until_ready(pid, interface, link_exists, lambda: _last_line(log, begin))

    def stop(self, interface: str, delete_link: Callable[[], None]) -> None:
        """Delete the link, upon which an engine ends; one of ours that does not is killed."""
        self._starts.pop(interface, None)
        engine = _open_engine(interface)
        if engine is None:
            delete_link()
            return
        try:
            delete_link()
            if not _ended(engine):
                signal.pidfd_send_signal(engine, signal.SIGTERM)
            if not _ended(engine):
                signal.pidfd_send_signal(engine, signal.SIGKILL)  # a stopped process takes no other signal
            if not _ended(engine):
                raise HostError(f"engine of {interface} does not end, even by SIGKILL")
        finally:
            os.close(engine)
        self.reap()
        _remove_stale_socket(interface)

    def is_ours(self, interface: str) -> bool:
        """Whether the process behind an interface's socket was started by us, or by an agent before us."""
        engine = _open_engine(interface)
        if engine is not None:
            os.close(engine)
        return engine is not None

    def wait_up(self, interface: str, *, moved: bool = False) -> None:
        """Wait until an engine has seen that its link is up and has opened its UDP socket.

        Only from then on does it say so when the listen port is taken. An engine that opens none until it
        is told the port is not waited for longer than UP_DEADLINE. From a link that was moved to another
        network namespace no event reaches it: it looks by itself.
        """
        for _ in _pauses(UP_DEADLINE_MOVED if moved else UP_DEADLINE):
            if uapi.is_listening(interface):
                return

    def reap(self) -> None:
        """Collect the engines that have ended. One that ended in order has not died: its link was deleted."""
        for pid, (interface, begun) in list(self._children.items()):
            code = process.reap(pid)
            if code is None:
                continue
            del self._children[pid]
            if code == 0 and begun in self._starts.get(interface, ()):
                self._starts[interface].remove(begun)

    def _program(self) -> str | None:
        if self._choice == "kernel":
            return None
        names = PROGRAMS if self._choice in ("auto", "userspace") else (self._choice,)
        return next(filter(None, map(shutil.which, names)), None)

    def _check_back_off(self, interface: str) -> None:
        now = time.monotonic()
        starts = [start for start in self._starts.get(interface, []) if now - start < BACK_OFF_WINDOW]
        self._starts[interface] = starts
        if not starts:
            return
        left = starts[-1] + BACK_OFF[min(len(starts), len(BACK_OFF) - 1)] - now
        if left > 0:
            raise HostError(
                f"engine of {interface} died {len(starts)} times in a minute, "
                f"next start in {math.ceil(left)} s",
                f"its log may say why: {self._log}" if self._log else "",
                left,
            )

    def _wait_until_ready(
        self, pid: int, interface: str, link_exists: Callable[[], bool], last_line: Callable[[], str]
    ) -> None:
        for _ in _pauses(READY_DEADLINE):
            if process.reap(pid) is not None:
                del self._children[pid]
                raise HostError(f"engine of {interface} ended at once: {last_line() or 'without a word'}")
            client = uapi.connect(interface)
            if client is not None:
                client.close()
                if link_exists():
                    return
        os.kill(pid, signal.SIGKILL)
        raise HostError(f"engine of {interface} was not ready within {READY_DEADLINE:g} s")

    @contextmanager
    def _open_log(self) -> Iterator[int]:
        """Where an engine prints to: the log file, or memory, just to have its last line."""
        if self._log is None:
            log = os.memfd_create("engine-log", os.MFD_CLOEXEC)
        else:
            log = os.open(self._log, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield log
        finally:
            os.close(log)


def _claim_socket(interface: str) -> None:
    """Make way for a new engine; HostError if another is alive behind the interface's socket."""
    client = uapi.connect(interface)
    if client is None:
        _remove_stale_socket(interface)
        return
    with client:
        pid = uapi.engine_pid(client)
        owner = f"process {pid}" if pid and Path(f"/proc/{pid}").exists() else "an engine"
        raise HostError(
            f"{uapi.socket_path(interface)} belongs to {owner} whose interface {interface} is in another "
            "network namespace",
            "choose another interface name, or end that engine",
        )


def _remove_stale_socket(interface: str) -> None:
    """The socket file of a killed engine stays, with nobody behind it."""
    client = uapi.connect(interface)
    if client is None:
        uapi.socket_path(interface).unlink(missing_ok=True)
    else:
        client.close()


def _open_engine(interface: str) -> int | None:
    """A pidfd of the engine behind an interface; None where there is none, or it is not ours."""
    try:
        client = uapi.connect(interface)
    except uapi.EngineSilent:
        return None
    if client is None:
        return None
    with client:
        pid = uapi.engine_pid(client)
    try:
        engine = os.pidfd_open(pid) if pid else None
        if engine is not None and not _carries_our_mark(pid):
            os.close(engine)
            engine = None
    except ProcessLookupError:
        return None
    return engine


def _carries_our_mark(pid: int) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return any(entry.startswith(f"{ENGINE_VARIABLE}=".encode()) for entry in environment.split(b"\0"))


def _ended(engine: int) -> bool:
    """Wait for the end of a process for at most STOP_DEADLINE."""
    poll = select.poll()
    poll.register(engine, select.POLLIN)
    return bool(poll.poll(STOP_DEADLINE * 1000))


def _pauses(deadline: float) -> Iterator[None]:
    """Rounds of a wait, with growing pauses between them, until deadline seconds are over."""
    end = time.monotonic() + deadline
    pause = _SHORTEST_PAUSE
    while time.monotonic() < end:
        yield
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _last_line(log: int, begin: int) -> str:
    """The last line printed since begin, at most 300 characters of it."""
    size = os.lseek(log, 0, os.SEEK_END)
    start = max(begin, size - 4096)
    lines = os.pread(log, size - start, start).decode(errors="replace").split("\n")
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
