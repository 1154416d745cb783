"""No image of this process on the disk: it holds keys."""

import ctypes
import os
import resource

from resource_wireguard.errors import HostError

PR_SET_DUMPABLE = 4
"""prctl(2): without it no core is dumped, whatever core_pattern says, and no one but root may look inside."""


def forbid_core_dumps() -> None:
    """No core of this process, nor of its children, which are engines; HostError if the kernel refuses."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # inherited by children, prctl's is not
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise HostError(
            f"core dumps cannot be forbidden: {os.strerror(ctypes.get_errno())}",
            "the agent holds keys, and does not run where a core of it could be written",
        )
