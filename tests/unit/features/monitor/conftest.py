"""A real engine with tunnels and monitoring on a real store, over a host in memory."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.worlds import StoppedClock

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Resources
from resource_wireguard.features import monitor, tunnel
from resource_wireguard.model.settings import Settings
from resource_wireguard.store.migrations import migrate
from resource_wireguard.store.secrets import FileSecrets
from resource_wireguard.store.sqlite import SqliteStore
from resource_wireguard.system.fake import FakeHost

Call = Callable[..., Any]


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def new_engine(tmp_path: Path, host: FakeHost, clock: StoppedClock) -> Iterator[Callable[[], Engine]]:
    """An agent's engine; a second one is the next agent on the same host and store."""
    features = [[tunnel.feature(), monitor.feature()] for _ in range(3)]
    store = SqliteStore(tmp_path / "state.db")
    migrate(store, features[0])
    secrets = FileSecrets(store, tmp_path / "master.key")
    yield lambda: Engine(Resources(store, secrets, host, clock, Settings()), features.pop())
    store.close()


@pytest.fixture
def engine(new_engine: Callable[[], Engine]) -> Engine:
    return new_engine()


@pytest.fixture
def call(engine: Engine) -> Call:
    """One command of the engine, as the bus runs it."""
    return lambda command, **request: ask(engine, command, **request)


def ask(engine: Engine, command: str, **request: Any) -> Any:
    """The answer as its reader sees it."""
    known = engine.commands[command]
    answer = known.run(engine, msgspec.convert(request, known.request))
    return msgspec.json.decode(msgspec.json.encode(answer))
