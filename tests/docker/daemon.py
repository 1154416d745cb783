"""A Docker daemon of the tests' own, in a namespace: its data, sockets, bridges and rules are nobody else's.

It runs in a network namespace that a test made, so what it does to links, routes and iptables stays in
there, and what its containers send leaves by that namespace's uplinks only. Everything lies in one folder in
/tmp, and in one cgroup; close() leaves neither, nor a process or a mount, whatever state the daemon is in.
"""

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from docker.errors import DockerException
from tests.netns.harness import PATIENCE, Namespace, run, wait_until

import docker
from docker import DockerClient

CGROUPS = Path("/sys/fs/cgroup")

STRAYS = (
    *("/run/docker/plugins", "/run/docker", "/run/containerd/s", "/run/containerd"),
    *("/opt/containerd/bin", "/opt/containerd/lib", "/opt/containerd", "/etc/docker/key.json", "/etc/docker"),
)
"""What dockerd makes outside of the folders that it is given, deepest first."""

PR_SET_CHILD_SUBREAPER = 36

_numbers = itertools.count(1)

_not_there_before = [path for path in map(Path, STRAYS) if not path.exists()]


class Daemon:
    """One dockerd with a containerd of its own; options are more words for its command line."""

    def __init__(self, namespace: Namespace, options: Sequence[str] = ()) -> None:
        self.namespace = namespace
        # Not of tempfile: containerd takes no name that ends in '_'.
        self.folder = Path("/tmp", f"rwd{os.getpid()}n{next(_numbers)}")
        self.folder.mkdir(mode=0o700)
        self.socket = self.folder / "docker.sock"
        self.log_path = self.folder / "dockerd.log"
        self._cgroup = self.folder.name
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._client: DockerClient | None = None
        (self.folder / "daemon.json").write_text("{}")  # not that of the machine

    @property
    def environment(self) -> dict[str, str]:
        """What sends any program to this daemon."""
        return {"DOCKER_HOST": f"unix://{self.socket}"}

    @property
    def pid(self) -> int:
        """Of the dockerd that runs, or ran last."""
        assert self._process
        return self._process.pid

    @property
    def client(self) -> DockerClient:
        """The SDK's client of this daemon; it survives restarts of the daemon."""
        if self._client is None:
            self._client = docker.DockerClient(base_url=f"unix://{self.socket}", timeout=60)
        return self._client

    def start(self) -> "Daemon":
        """Start it and wait until it answers."""
        self.spawn()
        wait_until(self._answers, within=60, what="the answer of dockerd")
        return self

    def spawn(self) -> None:
        """Start it without waiting. 'ip netns exec' would hide the cgroups, so nsenter it is."""
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.namespace.name}", *self._command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        """SIGTERM, as its supervisor ends it: containers are stopped too."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)

    def kill(self) -> None:
        """SIGKILL to dockerd; its containers go on, its containerd ends with it."""
        assert self._process
        (containerd,) = _processes(f"{self.folder}/exec/containerd/containerd.toml")
        # Until somebody has reaped it, a new dockerd would take it for alive; not every process 1 does.
        with _adopting():
            self._process.kill()
            self._process.wait(PATIENCE)
            os.waitpid(containerd, 0)

    def restart(self) -> None:
        """As 'systemctl restart docker'."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it with all its containers, and remove every trace."""
        with contextlib.suppress(DockerException, OSError):
            for container in self.client.containers.list():
                container.kill()  # a shell as PID 1 does not hear SIGTERM: 10 s each
        if self._client:
            self._client.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        wait_until(self._all_killed, what="end of dockerd and its containers")
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if (place := line.split()[1]).startswith(f"{self.folder}/"):
                run("umount", "--lazy", place, check=False)
        for folder in sorted(self._cgroup_folders(), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        shutil.rmtree(self.folder)
        for path in _not_there_before:
            with contextlib.suppress(OSError):  # not empty: another daemon lives
                path.unlink() if path.is_file() else path.rmdir()

    @property
    def log(self) -> str:
        """All that it wrote, over all its lives."""
        return self.log_path.read_text(errors="replace")

    def _command(self) -> list[str]:
        root = self.folder
        return [
            "dockerd",
            f"--host=unix://{self.socket}",
            f"--config-file={root}/daemon.json",
            f"--data-root={root}/data",
            f"--exec-root={root}/exec",
            f"--pidfile={root}/docker.pid",
            f"--containerd-namespace={root.name}",
            f"--containerd-plugins-namespace={root.name}-plugins",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--cgroup-parent=/{self._cgroup}",
            *self._options,
        ]

    def _answers(self) -> bool:
        assert self._process and self._process.poll() is None, f"dockerd ended at once:\n{self.log[-3000:]}"
        with socket.socket(socket.AF_UNIX) as door:  # the SDK loses a socket each time it knocks in vain
            if door.connect_ex(str(self.socket)):
                return False
        try:
            return bool(self.client.ping())
        except (DockerException, OSError):
            return False

    def _all_killed(self) -> bool:
        """Kill what is left of ours: what has our folder in its arguments, and what is in our cgroup."""
        inside = [folder / "cgroup.procs" for folder in self._cgroup_folders()]
        pids = {int(pid) for file in inside if file.exists() for pid in file.read_text().split()}
        pids |= _processes(f"{self.folder}/")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    def _cgroup_folders(self) -> Iterator[Path]:
        """Ours in each hierarchy (cgroups(7), version 1), or in the one of version 2, and what is below."""
        for root in (CGROUPS / self._cgroup, *CGROUPS.glob(f"*/{self._cgroup}")):
            for folder, _, _ in os.walk(root):
                yield Path(folder)


@contextlib.contextmanager
def daemon_in(namespace: Namespace, *options: str) -> Iterator[Daemon]:
    """A running daemon whose uplinks are those of a namespace."""
    daemon = Daemon(namespace, options)
    try:
        yield daemon.start()
    finally:
        daemon.close()


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Orphans among our descendants become our children (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _processes(argument: str) -> set[int]:
    """Those with a text in their command line: words are separated by NUL (proc(5))."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and argument.encode() in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
    return found - {os.getpid()}
