"""One Vault for the whole lane; each test has a path of its own in it."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.vault.server import Bao
from tests.vault.worlds import World

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def shared_bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    """A server that is open when a test begins, whatever the one before did to it."""
    bao = Bao(tmp_path_factory.mktemp("bao"))
    try:
        yield bao.open()
    finally:
        bao.kill()


@pytest.fixture
def bao(shared_bao: Bao) -> Iterator[Bao]:
    yield shared_bao
    if shared_bao.process is None:
        shared_bao.start()
    shared_bao.unseal()


@pytest.fixture
def world(bao: Bao, tmp_path: Path) -> Iterator[World]:
    """A database, and a place in the Vault that a token in a file opens."""
    world = World(bao, tmp_path, f"wireguard/host{next(_numbers)}")
    yield world
    world.close()
