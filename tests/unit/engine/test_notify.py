"""sd_notify on a real datagram socket: what a service manager hears of an agent's life and death."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.engine.test_agent import ask, engine, running, until  # noqa: F401 (fixtures)

from resource_wireguard.engine import agent as agent_module
from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.notify import Notifier
from resource_wireguard.errors import StoreError
from resource_wireguard.host.state import Link
from resource_wireguard.system.fake import FakeHost

Heard = Callable[[], list[str]]


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    """A service manager with a watchdog of 0.15 s; what it has heard so far."""
    lines: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "150000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))

        def heard() -> list[str]:
            while True:
                try:
                    lines.extend(receiver.recv(4096).decode().split("\n"))
                except BlockingIOError:
                    return list(lines)

        yield heard


def test_an_agent_is_ready_after_its_first_pass_and_says_when_it_ends(
    manager: Heard, engine: Engine, host: FakeHost, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    async def story() -> None:
        async with running(engine, tmp_path):
            await until(lambda: "READY=1" in manager())
            assert set(host.observe().state.of(Link)) == {"wg-a"}
            assert "STOPPING=1" not in manager()

    asyncio.run(story())
    assert manager()[0] == "READY=1"
    assert manager()[-1] == "STOPPING=1"


def test_the_watchdog_is_fed_while_the_engine_works_and_not_while_it_hangs(
    manager: Heard, engine: Engine, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    hang = threading.Event()

    async def story() -> None:
        async with running(engine, tmp_path) as path:
            await until(lambda: manager().count("WATCHDOG=1") >= 3)
            engine.take_down = lambda: hang.wait(5)  # type: ignore[method-assign, assignment, return-value]
            stuck = asyncio.create_task(ask(path, b'{"command": "agent.stop"}\n'))
            await asyncio.sleep(0.1)
            before = manager().count("WATCHDOG=1")
            await asyncio.sleep(0.4)
            assert manager().count("WATCHDOG=1") <= before
            hang.set()
            await asyncio.wait([stuck])
            await until(lambda: manager().count("WATCHDOG=1") > before)

    asyncio.run(story())


def test_an_agent_that_makes_no_passes_is_not_called_alive(
    manager: Heard, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setattr(agent_module, "PASS_AT_LEAST_EVERY", 0.0)

    async def story() -> None:
        async with running(engine, tmp_path):
            await asyncio.sleep(0.3)

    asyncio.run(story())
    assert "WATCHDOG=1" not in manager()


def test_an_abstract_socket_is_reached_too(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"resource-wireguard-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        receiver.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).tell("READY=1", "STATUS=up")
        assert receiver.recv(100) == b"READY=1\nSTATUS=up"


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@nobody-listens-here"])
def test_nobody_to_tell_is_no_error(address: str) -> None:
    Notifier({"NOTIFY_SOCKET": address}).tell("READY=1")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "no number"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
)
def test_when_a_watchdog_is_wanted(environment: dict[str, str], seconds: float | None) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/x", **environment}).watchdog == seconds


def test_what_cannot_be_saved_at_the_end_does_not_keep_the_agent_from_ending(
    engine: Engine, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    def fail() -> None:
        raise StoreError("the disk is full")

    engine.end = fail  # type: ignore[method-assign]

    async def story() -> None:
        async with running(engine, tmp_path):
            pass

    asyncio.run(story())
