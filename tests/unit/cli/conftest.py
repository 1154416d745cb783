"""The real command line as a process, with a fake agent behind a real socket."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.cli.fake_agent import FakeAgent

import resource_wireguard

SOURCE = Path(resource_wireguard.__file__).parents[1]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    return tmp_path / "wireguard"


@pytest.fixture
def environment(config_dir: Path) -> dict[str, str]:
    """What a command gets: a CONFIG_DIR, and none of the settings of whoever runs the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "CONFIG_DIR": str(config_dir), "PYTHONPATH": str(SOURCE), "COLUMNS": "120"}


@pytest.fixture
def agent(config_dir: Path) -> Iterator[FakeAgent]:
    fake = FakeAgent(config_dir)
    yield fake
    fake.close()


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Run a command to its end, without a terminal."""

    def run_(*words: str, stdin: str = "", **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "resource_wireguard", *words],
            env={**environment, **more},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run_
