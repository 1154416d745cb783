"""Logs that have become long are put aside; their writers notice nothing."""

import os
import stat
from pathlib import Path

import pytest

from resource_wireguard.engine.logfiles import cut, older


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "agent.log"


def test_a_long_log_is_put_aside_and_its_writer_goes_on(log: Path) -> None:
    with log.open("a") as writer:
        print("first " * 100, file=writer, flush=True)
        cut(log, size_most=100)
        print("second", file=writer, flush=True)
    assert log.read_text() == "second\n"
    assert older(log).read_text().startswith("first")
    assert stat.S_IMODE(older(log).stat().st_mode) == 0o600
    assert sorted(os.listdir(log.parent)) == ["agent.log", "agent.log.1"]


def test_what_was_put_aside_before_goes(log: Path) -> None:
    for word in ("first", "second"):
        log.write_text(word * 100)
        cut(log, size_most=100)
    assert older(log).read_text().startswith("second")


def test_a_short_log_and_none_stay_as_they_are(log: Path) -> None:
    cut(log)
    log.write_text("short\n")
    cut(log)
    assert os.listdir(log.parent) == ["agent.log"]


def test_what_cannot_be_put_aside_stays(log: Path) -> None:
    log.write_text("long " * 100)
    older(log).mkdir()
    with pytest.raises(OSError, match="directory"):
        cut(log, size_most=100)
    assert log.read_text() == "long " * 100
    assert sorted(os.listdir(log.parent)) == ["agent.log", "agent.log.1"]
