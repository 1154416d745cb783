"""The agent: an asyncio shell around the engine. Sockets, timers and sources here; work in one thread."""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import signal
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from resource_wireguard.engine.bus import answer
from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.logfiles import keep_short
from resource_wireguard.engine.notify import Notifier
from resource_wireguard.errors import AlreadyRunning, HostError, ResourceError
from resource_wireguard.host.facts import Facts
from resource_wireguard.model.specs import Specs

log = logging.getLogger(__name__)

PERIOD = 30.0
"""Seconds between passes when nothing is reported: finds drift that the kernel does not announce."""

RETRY_FIRST = 0.25
"""Seconds until the first pass after one that left something undone; doubled each time up to PERIOD."""

SETTLE = 0.05
"""Seconds to wait after an event for its companions: a link's death is a burst of messages."""

SETTLE_MOST = 0.5
"""Seconds at most to wait so: the promise is repair within a second."""

REQUEST_MOST = 16 * 1024 * 1024
"""Bytes of one request line: some 100,000 allowed IPs, and a bound on what a client can make us hold."""

REQUEST_WITHIN = 10.0
"""Seconds a client may take to send its line, so that a silent one holds no connection for ever."""

PASS_AT_LEAST_EVERY = 3 * PERIOD
"""Seconds without a pass after which the agent does not call itself alive any more."""

T = TypeVar("T")


class Agent:
    """Serves one engine on one socket until it is told to end."""

    def __init__(
        self,
        engine: Engine,
        socket_path: Path,
        notifier: Notifier | None = None,
        logs: Sequence[Path] = (),
    ) -> None:
        self._engine = engine
        self._logs = logs
        self._socket_path = socket_path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._dirty = asyncio.Event()
        self._looked = asyncio.Event()
        self._reports = 0
        self._waited: dict[asyncio.Task[None] | None, int] = {}
        self._ended = asyncio.Event()
        self._last_pass = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._passed_at = 0.0
        self._notifier = notifier or Notifier()

    async def run(self) -> None:
        """The first pass, then commands, events and the clock, until a signal or a stop command."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        await self._pass("start")
        server = await self._listen()
        chores = (self._keep(), self._watchdog(), keep_short(self._logs))
        tasks = [*map(asyncio.create_task, chores), *self._sources()]
        log.info("ready on %s", self._socket_path)
        self._notifier.tell("READY=1")
        await self._ended.wait()
        self._notifier.tell("STOPPING=1")
        server.close()
        for task in tasks:
            task.cancel()
        with contextlib.suppress(FileNotFoundError):
            self._socket_path.unlink()
        await self._end()
        self._thread.shutdown()

    # What sources work with -------------------------------------------------------------------

    def specs(self) -> Specs:
        """The specs of the last pass."""
        return self._engine.last_specs

    def facts(self) -> Facts | None:
        """The facts of the last pass."""
        return self._engine.last.facts if self._engine.last else None

    def learn_address(self, host: str, address: str) -> None:
        """A DNS name was resolved; a change starts a pass."""
        if self._engine.resolved.get(host) != address:
            self._engine.resolved = {**self._engine.resolved, host: address}
            self._dirty.set()

    async def ask(self, work: Callable[[Engine], T]) -> T:
        """Have the engine do some work in its own thread; a pass follows where the work calls for one.

        ResourceError as the work raises it: the caller's to handle.
        """
        try:
            return await self._in_engine(lambda: work(self._engine))
        finally:
            await self._set_alarm()
            if self._engine.pass_is_due():
                self._dirty.set()

    async def wait(self, seconds: float) -> None:
        """Until there is a report that this source has not waited for before, at most some seconds.

        One that came while the source was at work ends the wait at once: it may have looked before that.
        """
        source = asyncio.current_task()
        if self._waited.get(source, 0) == self._reports:
            self._looked.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._looked.wait(), seconds)
        self._waited[source] = self._reports

    def _report(self) -> None:
        self._reports += 1
        self._looked.set()

    # Passes -----------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Pass after pass: on events, when something is dirty, and at the latest after PERIOD."""
        retry = RETRY_FIRST
        while True:
            unfinished = self._unfinished()
            eventful = await self._something(self._until_next_try(retry) if unfinished else PERIOD)
            retry = min(retry * 2, PERIOD) if unfinished and not eventful else RETRY_FIRST
            if eventful:
                await asyncio.sleep(min(max(SETTLE, 3 * self._last_pass), SETTLE_MOST))
            await self._pass("event" if eventful else "timer")

    async def _something(self, seconds: float) -> bool:
        """Wait for an event of the host or a dirty mark; False when the time ran out."""
        loop = asyncio.get_running_loop()
        events = self._engine.events.fileno()
        loop.add_reader(events, self._dirty.set)
        try:
            await asyncio.wait_for(self._dirty.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(events)
            self._dirty.clear()
        return True

    async def _pass(self, trigger: str) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            await self._in_engine(lambda: self._engine.settle(trigger))
        except ResourceError as error:
            log.error("the pass broke off: %s", error.message)  # noqa: TRY400 - one clear line
        except Exception:  # the edge: one broken pass must not end the agent
            log.exception("the pass broke off by a bug")
        self._passed_at = loop.time()
        self._last_pass = self._passed_at - begun
        await self._set_alarm()
        self._report()

    async def _set_alarm(self) -> None:
        """A pass at the moment when a change that nobody confirmed has to be taken back."""
        left = await self._in_engine(self._engine.seconds_to_confirm)
        if self._alarm:
            self._alarm.cancel()
        loop = asyncio.get_running_loop()
        self._alarm = loop.call_later(left, self._dirty.set) if left is not None else None

    async def _end(self) -> None:
        try:
            await self._in_engine(self._engine.end)
        except ResourceError as error:
            log.error("not all could be saved: %s", error.message)  # noqa: TRY400 - one clear line

    async def _watchdog(self) -> None:
        """Say that we live, as often as the service manager wants, while the engine's thread does work."""
        if self._notifier.watchdog is None:
            return
        while True:
            await self._in_engine(lambda: None)  # a thread that hangs never comes back from this
            if asyncio.get_running_loop().time() - self._passed_at < PASS_AT_LEAST_EVERY:
                self._notifier.tell("WATCHDOG=1")
            await asyncio.sleep(self._notifier.watchdog / 3)

    def _unfinished(self) -> bool:
        last = self._engine.last
        away = self._engine.resources.secrets.unavailable()
        return last is None or bool(last.drift or last.problems or away)

    def _until_next_try(self, pause: float) -> float:
        """Seconds: a pause that grows blindly would otherwise double what is known to be long enough."""
        problems = self._engine.last.problems if self._engine.last else ()
        return min([pause, *(p.again_in for p in problems if p.again_in is not None)])

    async def _in_engine(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _sources(self) -> Iterator["asyncio.Task[None]"]:
        for feature in self._engine.features:
            for source in feature.sources:
                yield asyncio.create_task(_forever(feature.name, source(self)))

    # Commands ---------------------------------------------------------------------------------

    async def _listen(self) -> asyncio.Server:
        with contextlib.suppress(FileNotFoundError):
            self._socket_path.unlink()  # a dead agent's: the lock on CONFIG_DIR is ours
        before = os.umask(0o177)
        try:
            return await asyncio.start_unix_server(
                self._serve, self._socket_path, limit=REQUEST_MOST, backlog=512
            )
        finally:
            os.umask(before)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request, its progress, its answer."""
        try:
            uid = _caller(writer.get_extra_info("socket"))
            if uid in (0, os.geteuid()) and (line := await _line(reader)):
                await self._answer(line, f"uid {uid}", writer)
        finally:
            writer.close()

    async def _answer(self, line: bytes, actor: str, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()

        def progress(text: str) -> None:
            loop.call_soon_threadsafe(writer.write, msgspec.json.encode({"progress": text}) + b"\n")

        answered = await self._in_engine(lambda: answer(self._engine, line, actor, progress))
        writer.write(answered + b"\n")
        self._report()
        await self._set_alarm()
        if self._engine.pass_is_due():
            self._dirty.set()
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        if self._engine.stopping:
            self._ended.set()


async def _line(reader: asyncio.StreamReader) -> bytes:
    """A client's request; nothing of one that went away, is silent, or says too much."""
    try:
        return await asyncio.wait_for(reader.readline(), REQUEST_WITHIN)
    except ValueError:  # asyncio's word for a line beyond the limit
        log.warning("a request of more than %d bytes was refused", REQUEST_MOST)
    except (ConnectionError, TimeoutError):
        log.debug("a client went away or sent no line")
    return b""


async def _forever(name: str, source: Awaitable[None]) -> None:
    """Run a source; one that dies of a bug is reported and leaves the agent alive."""
    try:
        await source
    except Exception:  # the edge: sources hear from the network
        log.exception("a source of '%s' ended by a bug", name)


def _caller(connection: socket.socket) -> int:
    """The uid of the process that connected (unix(7), SO_PEERCRED)."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


@contextlib.contextmanager
def sole_owner(run_dir: Path) -> Iterator[None]:
    """Hold the lock of a CONFIG_DIR; AlreadyRunning if another agent does."""
    lock = os.open(run_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = next(iter(os.pread(lock, 100, 0).decode(errors="replace").split()), "unknown")
            raise AlreadyRunning(
                f"an agent (pid {holder}) owns {run_dir.parent} already",
                "stop it with 'resource-wireguard manage stop', or use another CONFIG_DIR",
            ) from None
        os.ftruncate(lock, 0)
        # On the host, the pid of an agent in a container is a stranger's.
        os.pwrite(lock, f"{os.getpid()}\n{Path('/proc/self/ns/pid').readlink()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def sole_in_namespace() -> Iterator[None]:
    """Be the one agent of a network namespace; AlreadyRunning if there is another, of whatever CONFIG_DIR.

    Our marks in the kernel name no agent: two of them would take each other's tunnels for orphans. An
    abstract unix socket (unix(7)) belongs to the network namespace, and goes with its process.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as held:
        try:
            held.bind("\0resource-wireguard")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise AlreadyRunning(
                "an agent with another CONFIG_DIR manages this network namespace already",
                "stop that one, or set CONFIG_DIR to its directory",
            ) from None
        yield


def make_run_dir(config_dir: Path) -> Path:
    """CONFIG_DIR and CONFIG_DIR/run, 0700 both."""
    run_dir = config_dir / "run"
    try:
        for directory in (config_dir, run_dir):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(
            f"cannot make {run_dir}: {error.strerror}", "set CONFIG_DIR to a place you can write"
        ) from None
    return run_dir
