"""A real engine with all features on a real store, over a host in memory that obeys the kernel's rules."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.worlds import StoppedClock

from resource_wireguard.cli.registry import load_features
from resource_wireguard.engine.commands import feature as own_commands
from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Resources
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
def settings() -> Settings:
    return Settings()


@pytest.fixture
def engine(tmp_path: Path, host: FakeHost, clock: StoppedClock, settings: Settings) -> Iterator[Engine]:
    store = SqliteStore(tmp_path / "state.db")
    features = [own_commands(), *load_features()]
    migrate(store, features)
    secrets = FileSecrets(store, tmp_path / "master.key")
    yield Engine(Resources(store, secrets, host, clock, settings), features)
    store.close()


@pytest.fixture
def call(engine: Engine) -> Call:
    """One command as the bus runs it; the answer as its reader sees it."""

    def run(command: str, /, **request: Any) -> Any:
        known = engine.commands[command]
        answer = known.run(engine, msgspec.convert(request, known.request))
        return msgspec.json.decode(msgspec.json.encode(answer))

    return run


@pytest.fixture
def home(call: Call) -> Any:
    """A tunnel that runs: 10.13.13.1/24, port 51820."""
    return call("tunnel.create", name="home")
