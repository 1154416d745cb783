"""Userspace engines: started, ended, killed, adopted; whatever the lane's engine is, these are processes."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.netns import drivers
from tests.netns.harness import wait_until

from resource_wireguard.host.diff import Action
from resource_wireguard.system import uapi


@pytest.fixture
def box() -> Iterator[drivers.Box]:
    with drivers.box("userspace") as box:
        yield box


def engine_pid(interface: str) -> int:
    client = uapi.connect(interface)
    assert client is not None
    with client:
        return uapi.engine_pid(client)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def foreign_engine(interface: str, *prefix: str) -> Iterator[int]:
    """An engine that somebody else started; its pid."""
    engine = subprocess.Popen([*prefix, "wireguard-go", "-f", interface])
    try:
        wait_until(lambda: uapi.socket_path(interface).exists())
        yield engine.pid
        assert engine.poll() is None, "the foreign engine was ended"
    finally:
        engine.terminate()
        engine.wait()


def test_a_foreign_engine_is_left_alone(box: drivers.Box) -> None:
    with foreign_engine(box.interface, "ip", "netns", "exec", box.namespace.name):
        assert box.observe().state.objects == {}
        (problem,) = box.refused(box.link(), drivers.device(box.interface))
        assert "is not ours" in problem.message
        (problem,) = box.apply(Action("delete", before=box.link()))
        assert "is not ours" in problem.message


def test_a_foreign_engine_of_another_namespace_is_named_and_lives(box: drivers.Box) -> None:
    with foreign_engine(box.interface) as pid:
        (problem,) = box.refused(box.link())
        assert f"process {pid}" in problem.message
        assert "another network namespace" in problem.message


def test_a_killed_engine_is_seen_and_started_again(box: drivers.Box) -> None:
    box.settle(box.link())
    pid = engine_pid(box.interface)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: box.namespace.link(box.interface) is None)
    assert uapi.socket_path(box.interface).exists(), "a killed engine leaves its socket"
    (create,) = box.settle(box.link())
    assert create.verb == "create"
    wait_until(lambda: box.observe() and not Path(f"/proc/{pid}").exists(), what="the end of a zombie")
    assert is_running(engine_pid(box.interface))


def test_the_engine_ends_with_its_link(box: drivers.Box) -> None:
    box.settle(box.link())
    pid = engine_pid(box.interface)
    assert os.getsid(pid) == pid
    box.settle()
    assert not is_running(pid)
    assert not uapi.socket_path(box.interface).exists()


def test_a_hung_engine_is_killed_with_its_link(box: drivers.Box) -> None:
    box.settle(box.link())
    pid = engine_pid(box.interface)
    os.kill(pid, signal.SIGSTOP)
    assert box.apply(Action("delete", before=box.link())) == ()
    assert not is_running(pid)
    assert box.namespace.link(box.interface) is None
    box.settle(box.link())


def test_an_engine_that_keeps_dying_is_started_ever_later(box: drivers.Box) -> None:
    for _ in range(3):
        box.settle(box.link())
        os.kill(engine_pid(box.interface), signal.SIGKILL)
        wait_until(lambda: box.namespace.link(box.interface) is None)
    (problem,) = box.refused(box.link(), drivers.device(box.interface))
    assert "died 3 times in a minute, next start in 1 s" in problem.message
    wait_until(lambda: box.refused(box.link()) == [], within=3)


def test_an_engine_that_ends_at_once_says_why(box: drivers.Box, tmp_path: Path) -> None:
    script = tmp_path / "engine"
    script.write_text("#!/bin/sh\necho starting\necho no device for you >&2\nexit 3\n")
    script.chmod(0o755)
    box.use(str(script))
    (problem,) = box.refused(box.link())
    assert "no device for you" in problem.message


def test_the_log_of_an_engine_is_private(box: drivers.Box, tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    box.use(log=log)
    box.settle(box.link())
    assert log.stat().st_mode & 0o777 == 0o600


def test_no_engine_at_all_is_a_problem_with_a_hint(box: drivers.Box) -> None:
    box.use("no-such-engine")
    assert box.observe().engine is None
    (problem,) = box.refused(box.link())
    assert "WIREGUARD_ENGINE" in problem.hint
