"""A real database in a real directory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from resource_wireguard.store.migrations import migrate
from resource_wireguard.store.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(path)
    migrate(opened, [])
    yield opened
    opened.close()
