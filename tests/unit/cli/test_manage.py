"""manage: real processes and locks, with an agent that has no tunnels."""

import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.unit.cli import fake_compose
from tests.unit.cli.conftest import Run

KEPT = ("state.db", "master.key")


@pytest.fixture
def environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """As everywhere, with the fake in the place of the composition root in every process."""
    site = tmp_path / "site"
    site.mkdir()
    source = Path(fake_compose.__file__).read_text()
    (site / "fake_compose.py").write_text(source)
    (site / "sitecustomize.py").write_text(
        "import sys, fake_compose\nsys.modules['resource_wireguard.cli.compose'] = fake_compose\n"
    )
    return {**environment, "PYTHONPATH": f"{environment['PYTHONPATH']}{os.pathsep}{site}"}


@pytest.fixture(autouse=True)
def pid(config_dir: Path) -> Iterator[Callable[[], int]]:
    """The pid of the agent; whatever a test leaves running is killed."""
    started: set[int] = set()

    def read() -> int:
        started.add(int((config_dir / "run/agent.lock").read_text()))
        return int((config_dir / "run/agent.lock").read_text())

    yield read
    if (config_dir / "run/agent.lock").exists():
        read()
    for process in started:
        if is_alive(process):
            os.kill(process, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def asked(config_dir: Path) -> list[str]:
    path = config_dir / "asked"
    return path.read_text().split() if path.exists() else []


def test_a_life(run: Run, config_dir: Path, pid: Callable[[], int]) -> None:
    started = run("manage", "start", "--wait")
    assert (started.returncode, started.stdout) == (0, "")
    assert started.stderr == f"the service runs (pid {pid()}) and is healthy\n"
    again = run("manage", "start")
    assert again.returncode == 2
    assert again.stderr.startswith(f"error: the service is running already (pid {pid()})\nhint: ")
    stopped = run("manage", "stop")
    assert (stopped.returncode, stopped.stderr) == (0, "the service is stopped\n")
    assert not is_alive(pid())
    assert asked(config_dir)[-1] == "agent.stop"
    assert run("manage", "stop").returncode == 2


def test_all_is_private_whatever_the_umask(run: Run, config_dir: Path, pid: Callable[[], int]) -> None:
    before = os.umask(0)
    try:
        assert run("manage", "start").returncode == 0
    finally:
        os.umask(before)
    for path in (config_dir, config_dir / "run", config_dir / "run/agent.log"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_the_agent_is_a_daemon(run: Run, pid: Callable[[], int]) -> None:
    assert run("manage", "start").returncode == 0
    assert os.getsid(pid()) == pid()
    assert os.readlink(f"/proc/{pid()}/cwd") == "/"
    assert os.readlink(f"/proc/{pid()}/fd/0") == "/dev/null"


def test_two_starts_at_once_make_one_agent(run: Run, pid: Callable[[], int]) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: run("manage", "start", "--wait", FAKE="slow"), range(4)))
    codes = sorted(start.returncode for start in done)
    assert codes == [0, 2, 2, 2], [start.stderr for start in done]
    assert is_alive(pid())


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("dies", "error: the agent ended at once: the agent may not configure networks here\nhint: "),
        ("crashes", "error: the agent ended at once: "),
    ],
)  # fmt: skip
def test_an_agent_that_dies_at_start(run: Run, config_dir: Path, trouble: str, message: str) -> None:
    died = run("manage", "start", "--wait", FAKE=trouble)
    assert died.returncode == 1
    assert died.stderr.startswith(message)
    assert len(died.stderr.splitlines()) == 2


def test_last_words_are_those_of_this_start(run: Run, config_dir: Path) -> None:
    run("manage", "start", FAKE="dies")
    assert "may not configure" not in run("manage", "start", FAKE="crashes").stderr


def test_start_waits_for_a_slow_agent(run: Run, pid: Callable[[], int]) -> None:
    assert run("manage", "start", "--wait", FAKE="slow").returncode == 0


def test_start_says_when_the_time_is_up(run: Run, pid: Callable[[], int]) -> None:
    late = run("manage", "start", "--wait", "--timeout", "1", FAKE="slow")
    assert (late.returncode, late.stdout) == (1, "")
    assert late.stderr.startswith("error: the agent did not answer within 1 s; it is still starting")


def test_stop_waits_for_an_agent_that_is_starting(run: Run, pid: Callable[[], int]) -> None:
    run("manage", "start", "--wait", "--timeout", "1", FAKE="slow")
    assert run("manage", "stop").returncode == 0
    assert not is_alive(pid())


def test_stop_tells_what_could_not_be_taken_down(run: Run, pid: Callable[[], int]) -> None:
    run("manage", "start", FAKE="left")
    stopped = run("manage", "stop")
    assert stopped.returncode == 1
    assert stopped.stderr.startswith("error: stopped, but this host refused to delete interface wg-home")


def test_a_deaf_agent_is_killed_by_force_alone(run: Run, pid: Callable[[], int]) -> None:
    run("manage", "start", FAKE="deaf")
    polite = run("manage", "stop", "--timeout", "1")
    assert polite.returncode == 1
    assert polite.stderr == "error: the agent did not end within 1 s\nhint: add --force to kill it\n"
    assert is_alive(pid())
    assert run("manage", "stop", "--force", "--timeout", "1").returncode == 0
    assert not is_alive(pid())


def test_a_stale_lock_file_is_nobody(run: Run, config_dir: Path) -> None:
    """Its pid may be that of a stranger by now: only the lock itself counts."""
    (config_dir / "run").mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (config_dir / "run/agent.lock").write_text(f"{stranger.pid}\n")
        assert run("manage", "stop", "--force", "--timeout", "1").returncode == 2
        assert stranger.poll() is None
        stranger.kill()


def test_restart_replaces_the_process_and_does_not_stop_tunnels(
    run: Run, config_dir: Path, pid: Callable[[], int]
) -> None:
    run("manage", "start")
    first = pid()
    assert run("manage", "restart").returncode == 0
    assert is_alive(pid())
    assert pid() != first
    assert not is_alive(first)
    assert "agent.stop" not in asked(config_dir)


BAD_SETTINGS = [
    (
        "WIREGUARD_PORT",
        "x",
        "error: WIREGUARD_PORT 'x' is not a UDP port\nhint: use a number from 1 to 65535\n",
    ),
    ("WIREGUARD_MTU", "9", "error: WIREGUARD_MTU 9 is out of range\nhint: "),
    ("WIREGUARD_LOG_LEVEL", "loud", "error: WIREGUARD_LOG_LEVEL 'loud' is unknown\nhint: "),
]


@pytest.mark.parametrize(("name", "value", "said"), BAD_SETTINGS, ids=[name for name, *_ in BAD_SETTINGS])
def test_a_bad_setting_ends_no_agent(
    run: Run, pid: Callable[[], int], name: str, value: str, said: str
) -> None:
    run("manage", "start")
    agent = pid()
    refused = run("manage", "restart", **{name: value})
    assert (refused.returncode, refused.stderr.startswith(said)) == (1, True), refused.stderr
    assert pid() == agent
    assert is_alive(agent)


@pytest.mark.parametrize("word", ["start", "install"])
def test_a_bad_setting_leaves_nothing_behind(run: Run, config_dir: Path, word: str) -> None:
    refused = run("manage", word, WIREGUARD_DNS="a")
    assert refused.stderr.startswith("error: WIREGUARD_DNS 'a' is not an IP address\nhint: ")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 2)
    assert not config_dir.exists()


CONTAINER = {"name": "wg", "image": "i", "ports": [51820], "host_network": False, "memory": 100}


@pytest.mark.parametrize("words", ["restart", "start", "install", "install --runtime docker"])
def test_a_bad_setting_does_not_get_into_a_container(run: Run, config_dir: Path, words: str) -> None:
    config_dir.mkdir()
    (config_dir / "container.json").write_text(json.dumps(CONTAINER))
    refused = run("manage", *words.split(), WIREGUARD_PORT="x", DOCKER_HOST="unix:///nowhere")
    assert (
        refused.stderr == "error: WIREGUARD_PORT 'x' is not a UDP port\nhint: use a number from 1 to 65535\n"
    )
    assert refused.returncode == 1


def test_a_log_level_is_read_as_it_is_checked(run: Run, pid: Callable[[], int]) -> None:
    assert run("manage", "start", WIREGUARD_LOG_LEVEL="INFO").returncode == 0
    assert run("manage", "restart", WIREGUARD_LOG_LEVEL="").returncode == 0
    assert is_alive(pid())


def test_restart_starts_what_is_not_running(run: Run, pid: Callable[[], int]) -> None:
    assert run("manage", "restart").returncode == 0
    assert is_alive(pid())


def fill(config_dir: Path) -> None:
    for name in (*KEPT, "state.db-wal", "notes of mine"):
        (config_dir / name).write_text("x")


def test_uninstall_takes_our_files_and_no_other(run: Run, config_dir: Path, pid: Callable[[], int]) -> None:
    run("manage", "start")
    fill(config_dir)
    agent = pid()
    gone = run("manage", "uninstall", "--force")
    assert gone.returncode == 0
    assert not is_alive(agent)
    assert sorted(path.name for path in config_dir.iterdir()) == ["asked", "notes of mine"]
    assert "not ours: asked, notes of mine" in gone.stderr
    assert asked(config_dir)[-1] == "agent.purge"
    assert run("manage", "uninstall", "--force").returncode == 2


def test_uninstall_can_keep_the_data(run: Run, config_dir: Path, pid: Callable[[], int]) -> None:
    run("manage", "start")
    fill(config_dir)
    assert run("manage", "uninstall", "--force", "--keep-data").returncode == 0
    assert {path.name for path in config_dir.iterdir()} >= {*KEPT, "state.db-wal"}
    assert not (config_dir / "run").exists()
    again = run("manage", "uninstall", "--force")
    assert (again.returncode, "its tunnels and keys are kept there" in again.stderr) == (2, True)


def test_uninstall_asks(run: Run, config_dir: Path, pid: Callable[[], int]) -> None:
    run("manage", "start")
    refused = run("manage", "uninstall")
    assert refused.returncode == 1
    assert refused.stderr.endswith("hint: there is no terminal to ask on; add --force\n")
    assert is_alive(pid())


def test_uninstall_of_a_stopped_service_cleans_the_host_all_the_same(
    run: Run, config_dir: Path, pid: Callable[[], int]
) -> None:
    run("manage", "start")
    os.kill(pid(), signal.SIGKILL)
    while is_alive(pid()):
        time.sleep(0.01)
    assert run("manage", "uninstall", "--force").returncode == 0
    assert asked(config_dir)[-1] == "agent.purge"


def test_install_makes_private_directories_and_then_skips(run: Run, config_dir: Path, tmp_path: Path) -> None:
    """With an engine and nft of its own on PATH, so that nothing has to be installed here."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("wireguard-go", "nft"):
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    if os.geteuid() != 0:
        refused = run("manage", "install", PATH=path)
        assert (refused.returncode, "net-admin" in refused.stderr) == (1, True)
        return
    assert run("manage", "install", "--verbose", PATH=path).returncode == 0
    assert stat.S_IMODE(config_dir.stat().st_mode) == 0o700
    assert run("manage", "install", PATH=path).returncode == 2


def test_the_pid_of_another_pid_namespace_is_nobodys_here(
    run: Run, config_dir: Path, pid: Callable[[], int]
) -> None:
    """The agent of a container says 'pid 1' in the lock: on the host that is another process."""
    run("manage", "start")
    agent = pid()
    (config_dir / "run/agent.lock").write_text(f"{os.getpid()}\npid:[1]\n")
    refused = run("manage", "stop", "--force", "--timeout", "1")
    assert refused.returncode == 1
    assert "runs in a container that was not started from here" in refused.stderr
    assert is_alive(agent)
    (config_dir / "run/agent.lock").write_text(f"{agent}\n")
