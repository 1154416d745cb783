"""Linux calls that Python 3.11 has no functions for: namespaces, mounts and others; OSError as usual.

What setns(2) and unshare(2) change belongs to the calling thread, so both are done in threads that end soon.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

CLONE_NEWNS, CLONE_NEWNET = 0x0002_0000, 0x4000_0000

MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x2, 0x4, 0x8
MS_BIND, MS_REC, MS_SLAVE, MS_SHARED = 0x1000, 0x4000, 0x8_0000, 0x10_0000
MNT_DETACH = 2

PR_SET_DUMPABLE = 4

IN_DELETE, IN_NONBLOCK, IN_CLOEXEC = 0x200, os.O_NONBLOCK, os.O_CLOEXEC

T = TypeVar("T")


def setns(descriptor: int, kind: int) -> None:
    """Let this thread enter a namespace."""
    _call("setns", descriptor, kind)


def unshare(kinds: int) -> None:
    """Give this thread new namespaces of these kinds."""
    _call("unshare", kinds)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount something, or change how a mount is propagated (mount(2))."""
    import ctypes

    words = (os.fsencode(source), os.fsencode(target), kind.encode())
    _call("mount", *words, ctypes.c_ulong(flags), options.encode())


def unmount(target: str) -> None:
    """Take a mount away, even while it is used; whoever uses it keeps it."""
    _call("umount2", os.fsencode(target), MNT_DETACH)


def make_undumpable() -> None:
    """No core of this process, whatever core_pattern says, and no one but root may look inside (prctl(2))."""
    _call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)


def watch_deletions(folder: str) -> int:
    """An inotify(7) descriptor that becomes readable when something in a folder is deleted."""
    descriptor = _call("inotify_init1", IN_NONBLOCK | IN_CLOEXEC)
    try:
        _call("inotify_add_watch", descriptor, os.fsencode(folder), IN_DELETE)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def in_network(descriptor: int, work: Callable[[], T]) -> T:
    """Do some work in another network namespace; OSError EPERM without CAP_SYS_ADMIN."""

    def enter_and_work() -> T:
        setns(descriptor, CLONE_NEWNET)
        return work()

    return _in_a_thread(enter_and_work)


def new_network() -> int:
    """The descriptor of a new network namespace, which lasts as long as something holds it."""

    def leave() -> int:
        unshare(CLONE_NEWNET)
        return own_network()

    return _in_a_thread(leave)


def own_network() -> int:
    """The descriptor of this thread's network namespace."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _in_a_thread(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def _call(name: str, *arguments: object) -> int:
    import ctypes

    outcome: int = getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments)
    if outcome == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return outcome
