"""A real engine with all features on a real store, over a host in memory that obeys the kernel's rules."""

from collections.abc import Callable, Iterator
from functools import partial
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
def settings() -> Settings:
    return Settings()


@pytest.fixture
def new_engine(
    tmp_path: Path, host: FakeHost, clock: StoppedClock, settings: Settings
) -> Iterator[Callable[[], Engine]]:
    """An agent's engine; a second one is the next agent's on the same host and store."""
    store = SqliteStore(tmp_path / "state.db")

    def made() -> Engine:
        features = [own_commands(), *load_features()]
        migrate(store, features)
        secrets = FileSecrets(store, tmp_path / "master.key")
        return Engine(Resources(store, secrets, host, clock, settings), features)

    yield made
    store.close()


@pytest.fixture
def engine(new_engine: Callable[[], Engine]) -> Engine:
    return new_engine()


def ask(engine: Engine, command: str, /, **request: Any) -> Any:
    """One command as the bus runs it; the answer as its reader sees it."""
    known = engine.commands[command]
    answer = known.run(engine, msgspec.convert(request, known.request))
    return msgspec.json.decode(msgspec.json.encode(answer))


@pytest.fixture
def call(engine: Engine) -> Call:
    """ask() of the test's engine."""
    return partial(ask, engine)


@pytest.fixture
def home(call: Call) -> Any:
    """A tunnel that runs: 10.13.13.1/24, port 51820."""
    return call("tunnel.create", name="home")
