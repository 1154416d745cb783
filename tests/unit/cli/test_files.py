"""Files with keys: whole or not at all, and for the owner alone."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_agent import CONFIG, FakeAgent, error

WRITERS = [("peer", "add", "home", "phone"), ("peer", "config", "home", "phone"), ("content", "get", "home")]


@pytest.mark.parametrize("words", WRITERS, ids=" ".join)
def test_output_is_private_whatever_the_umask(
    run: Run, agent: FakeAgent, tmp_path: Path, words: tuple[str, ...]
) -> None:
    before = os.umask(0)
    try:
        done = run(*words, "--output", str(tmp_path / "phone.conf"))
    finally:
        os.umask(before)
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "phone.conf").read_text() == CONFIG
    assert stat.S_IMODE((tmp_path / "phone.conf").stat().st_mode) == 0o600


def test_an_older_file_stays_when_the_agent_refuses(run: Run, agent: FakeAgent, tmp_path: Path) -> None:
    target = tmp_path / "phone.conf"
    target.write_text("old")
    agent.lines["peer.config"] = [error("not-found", "no peer named 'phone'")]
    assert run("peer", "config", "home", "phone", "--output", str(target)).returncode == 2
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.glob("phone*")] == ["phone.conf"]


def test_an_older_file_is_replaced_and_made_private(run: Run, agent: FakeAgent, tmp_path: Path) -> None:
    target = tmp_path / "phone.conf"
    target.write_text("old")
    target.chmod(0o644)
    assert run("peer", "config", "home", "phone", "--output", str(target)).returncode == 0
    assert (target.read_text(), stat.S_IMODE(target.stat().st_mode)) == (CONFIG, 0o600)


def test_a_link_keeps_pointing_where_it_did(run: Run, agent: FakeAgent, tmp_path: Path) -> None:
    (tmp_path / "real.conf").write_text("old")
    (tmp_path / "link.conf").symlink_to("real.conf")
    assert run("peer", "config", "home", "phone", "--output", str(tmp_path / "link.conf")).returncode == 0
    assert (tmp_path / "link.conf").is_symlink()
    assert (tmp_path / "real.conf").read_text() == CONFIG


def test_the_file_is_whole_before_it_has_its_name(run: Run, agent: FakeAgent, tmp_path: Path) -> None:
    """While the agent thinks there is a temporary file, and none of the final name."""
    seen: list[str] = []
    agent.before = lambda: seen.extend(path.name for path in tmp_path.glob("phone*"))
    run("peer", "add", "home", "phone", "--output", str(tmp_path / "phone.conf"))
    assert len(seen) == 1
    assert seen != ["phone.conf"]


def test_a_full_disk_is_named_and_leaves_the_older_file(
    environment: dict[str, str], agent: FakeAgent, tmp_path: Path
) -> None:
    target = tmp_path / "phone.conf"
    target.write_text("old")
    program = [sys.executable, "-B", "-m", "resource_wireguard", "peer", "add", "home", "phone"]
    done = subprocess.run(
        ["prlimit", f"--fsize={len(CONFIG) - 1}", *program, "--output", str(target)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        f"error: cannot write {target}: File too large\n"
        "hint: all but the file is done: make room, then ask for its content again\n"
    )
    assert [(path.name, path.read_text()) for path in tmp_path.glob("phone*")] == [("phone.conf", "old")]


def test_a_minus_is_stdout(run: Run, agent: FakeAgent) -> None:
    assert run("peer", "config", "home", "phone", "--output", "-").stdout == CONFIG


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_replaced(
    run: Run, agent: FakeAgent, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """A pipe of the test's own stands for a device: as root, a broken check would replace the real one."""
    target = tmp_path / "phone.conf"
    make(target)
    kind = stat.S_IFMT(target.stat().st_mode)
    refused = run("peer", "config", "home", "phone", "--output", str(target))
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: --output {target} is not a regular file\nhint: name a file")
    assert (stat.S_IFMT(target.stat().st_mode), agent.connections) == (kind, 0)
