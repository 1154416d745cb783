"""Going on as a program in a network namespace, in this very process: no shell and no agent in between."""

import os
from collections.abc import Sequence
from typing import NoReturn

from resource_wireguard.cli.client import call
from resource_wireguard.errors import HostError


def require_common_mounts() -> None:
    """HostError if the agent has mounts of its own: nobody else would see its names under /run/netns."""
    agent = call("agent.info")["pid"]
    try:
        apart = _mounts(f"/proc/{agent}") != _mounts("/proc/self")
    except OSError:
        return  # it has ended, or is not ours to look at: what follows finds that out
    if apart:
        raise HostError(
            "the agent has mounts of its own, so this host would not see its network namespaces",
            "under systemd: resource-wireguard manage install --allow-netns; else start it anew",
        )


def become(command: Sequence[str], *, netns: str, resolv_conf: str) -> NoReturn:
    """Enter a namespace, become the calling user, and go on as a command."""
    from resource_wireguard.system import entering, process

    entering.enter(netns, resolv_conf)
    entering.become_caller(os.environ)
    process.become(command)


def _mounts(process: str) -> int:
    return os.stat(f"{process}/ns/mnt").st_ino
