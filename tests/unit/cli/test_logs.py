"""logs: the last lines, those since a time, and the new ones as they come."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Run

from resource_wireguard.cli.moments import moment
from resource_wireguard.errors import InvalidInput

NOW = 1_750_000_000.0


@pytest.fixture
def log(config_dir: Path) -> Path:
    path = config_dir / "run" / "agent.log"
    path.parent.mkdir(parents=True)
    return path


def stamped(seconds_ago: float, text: str) -> str:
    return (
        f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(time.time() - seconds_ago))},000 INFO {text}\n"
    )


def test_the_last_fifty_lines_or_as_many_as_asked_for(run: Run, log: Path) -> None:
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    assert run("logs").stdout.splitlines() == [f"line {number}" for number in range(50, 100)]
    assert run("logs", "--tail", "2").stdout == "line 98\nline 99\n"


def test_lines_that_were_put_aside_come_first(run: Run, log: Path) -> None:
    log.with_name("agent.log.1").write_text("one\ntwo\n")
    log.write_text("three\n")
    assert run("logs", "--tail", "2").stdout == "two\nthree\n"
    assert run("logs", "--tail", "1").stdout == "three\n"


def test_a_huge_log_is_not_read_from_its_beginning(run: Run, log: Path) -> None:
    with open(log, "wb") as file:
        file.truncate(1 << 40)  # a hole: reading it would take hours
        file.seek(0, 2)
        file.write(b"\nthe last line\n")
    assert run("logs", "--tail", "1").stdout == "the last line\n"


def test_since_a_time_with_the_lines_that_belong_to_one(run: Run, log: Path) -> None:
    log.write_text(stamped(7200, "long ago") + "a traceback\n" + stamped(60, "lately") + "its second line\n")
    for since in ("10m", "600s", "10m ago"):
        shown = run("logs", "--since", since).stdout
        assert "lately" in shown and "its second line" in shown
        assert "long ago" not in shown and "traceback" not in shown
    nothing = run("logs", "--since", "5s")
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert nothing.stderr == "error: nothing was logged since 5s\n"


def test_no_log_and_an_empty_one(run: Run, log: Path) -> None:
    none = run("logs")
    assert (none.returncode, none.stdout) == (2, "")
    assert none.stderr.startswith("error: no log in ")
    log.write_text("")
    assert run("logs").returncode == 2


def test_what_is_no_file_is_an_error(run: Run, log: Path) -> None:
    log.mkdir()
    refused = run("logs")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: cannot read ")


def test_new_lines_are_followed_also_into_a_new_file(
    environment: dict[str, str], log: Path, tmp_path: Path
) -> None:
    log.write_text("old\n")
    argv = [sys.executable, "-m", "resource_wireguard", "logs", "--follow"]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "old\n"
        with open(log, "a") as file:
            file.write("new\n")
        assert process.stdout.readline() == "new\n"
        (tmp_path / "fresh").write_text("in a new file\n")
        (tmp_path / "fresh").rename(log)
        assert process.stdout.readline() == "in a new file\n"
        process.terminate()


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", 90),
        ("10m", 600),
        ("2h", 7200),
        ("3d", 259200),
        ("1w", 604800),
        ("now", 0),
        ("@1749999000", 1000),
    ],
)
def test_times_before_now(text: str, ago: float) -> None:
    assert moment(text, NOW) == NOW - ago


def test_days_and_dates() -> None:
    midnight = time.mktime((*time.localtime(NOW)[:3], 0, 0, 0, 0, 0, -1))
    assert moment("today", NOW) == midnight
    assert moment("Yesterday", NOW) < midnight <= moment("yesterday", NOW) + 25 * 3600
    assert moment("2025-06-01T12:00:00+00:00", NOW) == moment("2025-06-01 14:00:00+02:00", NOW) == 1748779200


@pytest.mark.parametrize("text", ["", "soon", "10", "10y", "@x", "2025-13-01", "-5m", "9" * 30 + "d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a time"):
        moment(text, NOW)
