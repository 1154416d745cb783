"""A real engine with tunnels, namespaces and health, over a host in memory with a Docker in it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.worlds import StoppedClock

from resource_wireguard.engine import commands
from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Resources
from resource_wireguard.features import isolation, monitor, tunnel
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
def engine(tmp_path: Path, host: FakeHost) -> Iterator[Engine]:
    store = SqliteStore(tmp_path / "state.db")
    features = [commands.feature(), tunnel.feature(), isolation.feature(), monitor.feature()]
    migrate(store, features)
    secrets = FileSecrets(store, tmp_path / "master.key")
    yield Engine(Resources(store, secrets, host, StoppedClock(), Settings()), features)
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
    """A tunnel that runs, with a default route's peer."""
    return call("tunnel.create", name="home")


@pytest.fixture
def private(call: Call, home: Any) -> Any:
    """A namespace through it."""
    return call("namespace.create", name="private", tunnel="home")
