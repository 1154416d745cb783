"""No image of this process on the disk: it holds keys."""

import resource

from resource_wireguard.errors import HostError
from resource_wireguard.system import syscalls


def forbid_core_dumps() -> None:
    """No core of this process, nor of its children, which are engines; HostError if the kernel refuses."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # inherited by children, prctl's is not
    try:
        syscalls.make_undumpable()
    except OSError as error:
        raise HostError(
            f"core dumps cannot be forbidden: {error.strerror}",
            "the agent holds keys, and does not run where a core of it could be written",
        ) from None
