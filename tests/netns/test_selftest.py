"""'test integration' leaves nothing behind, and each of its checks can fail."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.netns.harness import Lab, engine_setting, wait_until

STAGE = "resource_wireguard.cli.selftest.stage"

IN_NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


class Watched:
    """A place to run the program in, and a look at what it leaves: every process it starts bears a mark."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.mark = f"SELFTEST_MARK={uuid.uuid4()}"
        self.lab, self.folder = lab, folder
        self.before = self._traces()

    def environment(self, **more: str) -> dict[str, str]:
        name, _, value = self.mark.partition("=")
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "WIREGUARD_ENGINE": engine_setting(self.lab.engine),
            name: value,
            **more,
        }

    def argv(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.lab.server.name, sys.executable, "-m", *words]

    def test(self, phase: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run a phase to its end."""
        argv = self.argv("resource_wireguard", "test", phase)
        return subprocess.run(argv, env=self.environment(**more), capture_output=True, text=True, timeout=120)

    def processes(self) -> list[int]:
        """All that bear the mark, but not those that are dead and wait to be buried."""
        return [
            int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and self._ours(path)
        ]

    def _ours(self, path: Path) -> bool:
        try:
            return self.mark.encode() in (path / "environ").read_bytes()
        except OSError:
            return False

    def _traces(self) -> dict[str, object]:
        sockets = Path("/run/wireguard")
        return {
            "links": sorted(link["ifname"] for link in self.lab.server.ip_json("link show")),
            "files": sorted(self.folder.rglob("*")),
            "sockets": [name for name in ("wg-near.sock", "wg-far.sock") if (sockets / name).exists()],
            "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if " /run " in line],
        }

    def nothing_is_left(self) -> None:
        """No process, and everything else as it was."""
        wait_until(lambda: not self.processes(), what="end of all that was started")
        assert self._traces() == self.before


@pytest.fixture
def watched(lab: Lab, tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(lab, tmp_path)
    yield watched
    for pid in watched.processes():
        os.kill(pid, signal.SIGKILL)


def test_a_pass_leaves_nothing(watched: Watched) -> None:
    done = watched.test("integration")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith("integration: ok, 9 of 9 checks in ")
    watched.nothing_is_left()


@pytest.mark.any_engine
def test_a_failure_leaves_nothing(watched: Watched) -> None:
    done = watched.test("integration", WIREGUARD_ENGINE="/bin/false")
    assert done.returncode == 1
    assert "failed   create: near: tunnel 'near' is stored, but wg-near is not up" in done.stdout
    watched.nothing_is_left()


@pytest.mark.any_engine
def test_a_killed_test_leaves_nothing(watched: Watched) -> None:
    """SIGKILL in the middle: the stage dies with it, and what it made goes with its namespaces."""
    argv = watched.argv("resource_wireguard", "test", "integration")
    with subprocess.Popen(argv, env=watched.environment(), stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: len(watched.processes()) > 4, what="agents of the stage")
        process.kill()
    wait_until(lambda: not watched.processes(), 2.0, "end of the stage, which would go on for seconds")
    watched.nothing_is_left()


@pytest.mark.any_engine
def test_the_unit_test_leaves_no_keys(watched: Watched) -> None:
    assert watched.test("unit").returncode == 0
    watched.nothing_is_left()


SPOILED = {
    "the peers know each other's keys wrongly": (
        "stage.Stage.peers = lambda self, peers=stage.Stage.peers: "
        "(self.keys.update(near='xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg='), peers(self))[1]",
        "handshake",
    ),
    "the cable is not laid": ("stage.wire.lay = lambda pid: None", "cable"),
    "a tunnel is not deleted": (
        "stage._run = lambda host, *words, run=stage._run: '' if 'delete' in words else run(host, *words)",
        "delete",
    ),
    "no traffic was sent": (
        "stage._send = lambda count, size: None",
        "traffic",
    ),
}


@pytest.mark.any_engine
@pytest.mark.parametrize("what", SPOILED)
def test_each_check_can_fail(watched: Watched, what: str) -> None:
    spoil, check = SPOILED[what]
    script = f"from {STAGE.rpartition('.')[0]} import stage; stage.PATIENCE = 1.0; {spoil}; stage.main()"
    argv = ["ip", "netns", "exec", watched.lab.server.name, *IN_NAMESPACES, sys.executable, "-c", script]
    done = subprocess.run(argv, env=watched.environment(), capture_output=True, text=True, timeout=120)
    assert f'"check": "{check}", "result": "failed"' in done.stdout, done.stdout + done.stderr
    watched.nothing_is_left()
