"""A process that forbade core dumps leaves none, whatever ends it."""

import ctypes
import os
import resource
import signal
from pathlib import Path

from resource_wireguard.system.dumps import forbid_core_dumps

PR_GET_DUMPABLE = 3


def test_no_core_is_dumped(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os.chdir(tmp_path)
        forbid_core_dumps()
        hard = resource.getrlimit(resource.RLIMIT_CORE)
        dumpable = ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGQUIT if (hard, dumpable) == ((0, 0), 0) else signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGQUIT
    assert not os.WCOREDUMP(status)
    assert list(tmp_path.iterdir()) == []
