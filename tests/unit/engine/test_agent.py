"""The agent: one socket, events, the clock, and one owner of a CONFIG_DIR. Real sockets, a host in memory."""

import asyncio
import json
import os
import signal
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.unit.engine.test_engine import WANTED, want
from tests.unit.worlds import peer_of

from resource_wireguard.engine import agent as agent_module
from resource_wireguard.engine.agent import Agent, make_run_dir, sole_in_namespace, sole_owner
from resource_wireguard.engine.commands import feature as own_commands
from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Feature, Resources
from resource_wireguard.engine.logfiles import SIZE_MOST, older
from resource_wireguard.errors import AlreadyRunning
from resource_wireguard.host.state import Address, Link, Peer
from resource_wireguard.model.settings import Settings
from resource_wireguard.store.migrations import migrate
from resource_wireguard.store.secrets import FileSecrets
from resource_wireguard.store.sqlite import SqliteStore
from resource_wireguard.system.clock import SystemClock
from resource_wireguard.system.fake import FakeHost


@pytest.fixture
def engine(tmp_path: Path, host: FakeHost) -> Engine:
    store = SqliteStore(tmp_path / "state.db")
    migrate(store, [WANTED])
    secrets = FileSecrets(store, tmp_path / "master.key")
    made = Engine(Resources(store, secrets, host, SystemClock(), Settings()), [own_commands(), WANTED])
    want(made, "a")
    return made


@asynccontextmanager
async def running(engine: Engine, directory: Path) -> AsyncIterator[Path]:
    path = make_run_dir(directory) / "agent.sock"
    task = asyncio.create_task(Agent(engine, path).run())
    await until(path.exists)
    try:
        yield path
    finally:
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 5)


async def until(condition: Callable[[], object], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def ask(path: Path, line: bytes) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line)
    answered: dict[str, Any] = json.loads((await reader.read()).splitlines()[-1])
    writer.close()
    return answered


def test_its_long_log_is_put_aside(engine: Engine, tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    log.write_bytes(bytes(SIZE_MOST + 1))

    async def story() -> None:
        agent = Agent(engine, make_run_dir(tmp_path) / "agent.sock", logs=[log])
        task = asyncio.create_task(agent.run())
        await until(older(log).exists)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 5)

    asyncio.run(story())
    assert log.stat().st_size == 0


def test_it_settles_before_it_listens_and_answers(engine: Engine, host: FakeHost, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(engine, tmp_path) as path:
            assert set(host.observe().state.of(Link)) == {"wg-a"}
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            answered = await ask(path, b'{"command": "agent.info"}\n')
            assert answered["result"]["pid"] == os.getpid()
        assert not path.exists()

    asyncio.run(story())


def test_sigterm_leaves_the_tunnels_up(engine: Engine, host: FakeHost, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(engine, tmp_path):
            pass

    asyncio.run(story())
    assert set(host.observe().state.of(Link)) == {"wg-a"}


def test_a_reported_change_is_repaired_within_a_second(
    engine: Engine, host: FakeHost, tmp_path: Path
) -> None:
    address = Address("wg-a", "10.1.0.1/24")

    async def story() -> None:
        async with running(engine, tmp_path):
            host.tamper(gone=address)
            await until(lambda: address.key in host.observe().state.of(Address), 1)

    asyncio.run(story())


def test_a_silent_change_is_repaired_by_the_clock(
    engine: Engine, host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "PERIOD", 0.2)

    async def story() -> None:
        async with running(engine, tmp_path):
            host.tamper(gone=peer_of("wg-a", "phone", "10.1.0.2/32", shared=True))
            await until(lambda: len(host.observe().state.of(Peer)) == 2)

    asyncio.run(story())


def test_what_an_answer_has_seen_is_repaired_too(engine: Engine, host: FakeHost, tmp_path: Path) -> None:
    """A look that answers somebody drains the events: it must not swallow what they told of."""

    async def story() -> None:
        async with running(engine, tmp_path) as path:
            host.tamper(gone=peer_of("wg-a", "phone", "10.1.0.2/32", shared=True))
            assert (await ask(path, b'{"command": "plan"}\n'))["result"]["actions"]
            await until(lambda: len(host.observe().state.of(Peer)) == 2, 1)

    asyncio.run(story())


def test_an_agent_at_rest_does_not_look(engine: Engine, host: FakeHost, tmp_path: Path) -> None:
    """Its own changes must not wake it: a pass that answers its own events would never rest."""

    async def story() -> None:
        async with running(engine, tmp_path):
            await asyncio.sleep(0.3)
            looks = host.observations
            await asyncio.sleep(0.5)
            assert host.observations == looks

    asyncio.run(story())


def test_a_report_that_comes_while_a_source_is_at_work_is_not_lost(engine: Engine, tmp_path: Path) -> None:
    at_work, go_on, woken = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def listen(agent: Agent) -> None:
        at_work.set()
        await go_on.wait()
        await agent.wait(60)
        woken.set()

    engine.features = (*engine.features, Feature("listening", sources=(listen,)))

    async def story() -> None:
        async with running(engine, tmp_path) as path:
            await at_work.wait()
            await ask(path, b'{"command": "ping"}\n')
            go_on.set()
            await asyncio.wait_for(woken.wait(), 5)

    asyncio.run(story())


def test_what_could_not_be_done_is_tried_again_soon(engine: Engine, host: FakeHost, tmp_path: Path) -> None:
    host.refuse(Address, "wg-a")

    async def story() -> None:
        async with running(engine, tmp_path):
            host.refusals.clear()
            await until(lambda: len(host.observe().state.of(Address)) == 2, 3)

    asyncio.run(story())


def test_what_nobody_confirms_is_taken_back_when_its_time_is_over(
    engine: Engine, host: FakeHost, tmp_path: Path
) -> None:
    """By the agent's own clock, long before the next pass would be due."""

    async def story() -> None:
        async with running(engine, tmp_path) as path:
            with engine.change():
                engine.resources.store.execute("INSERT INTO wanted VALUES ('b')")
                engine.history.await_confirmation(0.5)
            await ask(path, b'{"command": "agent.info"}\n')  # any command makes the agent look at the time
            engine.settle()
            assert set(host.observe().state.of(Link)) == {"wg-a", "wg-b"}
            await until(lambda: set(host.observe().state.of(Link)) == {"wg-a"}, 3)

    asyncio.run(story())


def test_two_hundred_at_once_are_all_answered(engine: Engine, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(engine, tmp_path) as path:
            answers = await asyncio.gather(*(ask(path, b'{"command": "plan"}\n') for _ in range(200)))
            assert all(answered["result"]["actions"] == [] for answered in answers)

    asyncio.run(story())


@pytest.mark.parametrize("sent", [b"", b"\n", b"{", b"x" * 100_000 + b"\n", b"\x00" * 64 + b"\n"])
def test_a_bad_line_does_not_end_the_agent(engine: Engine, tmp_path: Path, sent: bytes) -> None:
    async def story() -> None:
        async with running(engine, tmp_path) as path:
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(sent)
            writer.close()
            assert "result" in await ask(path, b'{"command": "agent.info"}\n')

    asyncio.run(story())


def test_a_request_that_is_too_long_is_told_of(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(agent_module, "REQUEST_MOST", 1000)

    async def story() -> None:
        async with running(engine, tmp_path) as path:
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(b"x" * 3000 + b"\n")
            await until(lambda: "more than 1000 bytes" in caplog.text)
            writer.close()

    asyncio.run(story())


def test_stop_takes_the_tunnels_down_and_ends_the_agent(
    engine: Engine, host: FakeHost, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running(engine, tmp_path) as path:
            assert (await ask(path, b'{"command": "agent.stop"}\n'))["result"]["stopped"]
            await until(lambda: not path.exists())
        assert host.observe().state.of(Link) == {}

    asyncio.run(story())


def test_one_config_dir_has_one_owner(tmp_path: Path) -> None:
    run_dir = make_run_dir(tmp_path)
    with sole_owner(run_dir), pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}"), sole_owner(run_dir):
        pass
    with sole_owner(run_dir):
        pass


def test_one_network_namespace_has_one_agent() -> None:
    with sole_in_namespace(), pytest.raises(AlreadyRunning, match="another CONFIG_DIR"), sole_in_namespace():
        pass
    with sole_in_namespace():
        pass
