"""The network namespaces we work in: the host's own, and those we made under /run/netns as ip-netns(8) does.

One of ours is known by the alias of its loopback. While an agent lives it holds a namespace open, so one
whose name was removed behind its back gets the name again, with all that is in it. After that its processes
hold it: it is found among theirs.
"""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from resource_wireguard.errors import HostError
from resource_wireguard.host.facts import Problem
from resource_wireguard.host.ownership import namespace_alias, namespace_of
from resource_wireguard.host.state import NetNamespace
from resource_wireguard.system import genetlink, netlink, syscalls
from resource_wireguard.system.messages import NetlinkSocket

FOLDER = Path("/run/netns")

NAMES = "wg-*"
"""What ours are called; namespaces of other names are never looked into."""

LOOPBACK = 1
"""Its index, in every network namespace."""

NOT_PERMITTED = (
    "the agent may not make network namespaces here",
    "run it with CAP_SYS_ADMIN; under systemd: resource-wireguard manage install --allow-netns",
)

_NO_ACCESS = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOENT, errno.ESRCH)

T = TypeVar("T")


class Place:
    """One network namespace and our conversations with the kernel in it; name None is the host's own."""

    def __init__(self, name: str | None, descriptor: int) -> None:
        self.name = name
        self.descriptor = descriptor
        self.inode = os.fstat(descriptor).st_ino
        self.kernel = self.open(netlink.NETLINK_ROUTE)
        self._generic: NetlinkSocket | None = None

    def open(self, protocol: int) -> NetlinkSocket:
        """A conversation in this namespace."""
        return self.inside(lambda: NetlinkSocket(protocol))

    def inside(self, work: Callable[[], T]) -> T:
        """Do some work here, such as opening a socket, which stays where it was opened."""
        return work() if self.name is None else syscalls.in_network(self.descriptor, work)

    @property
    def generic(self) -> NetlinkSocket:
        """The conversation with the kernel's WireGuard, which knows the links of this namespace only."""
        if self._generic is None:
            self._generic = self.open(genetlink.NETLINK_GENERIC)
        return self._generic

    def close(self) -> None:
        """End the conversations, and let the namespace go."""
        self.kernel.close()
        if self._generic is not None:
            self._generic.close()
        os.close(self.descriptor)


class Places:
    """The host's own namespace, which is that of the thread that makes this, and those that are ours."""

    def __init__(self) -> None:
        self.here = Place(None, syscalls.own_network())
        self._ours: dict[str, Place] = {}

    def __iter__(self) -> Iterator[Place]:
        yield self.here
        yield from self.ours

    @property
    def ours(self) -> tuple[Place, ...]:
        """Those that were found by the last look or made since."""
        return tuple(self._ours.values())

    def close(self) -> None:
        """End all conversations; the namespaces stay."""
        for place in self:
            place.close()

    def of(self, name: str | None) -> Place:
        """The place of that name; HostError where there is none."""
        if name is None:
            return self.here
        if name not in self._ours:
            raise HostError(f"there is no network namespace {name} of ours")
        return self._ours[name]

    def look(self) -> list[NetNamespace]:
        """Ours as they are; one that lost its name is not told of, but kept while anything is in it."""
        named = {path.name: path for path in FOLDER.glob(NAMES)}
        for name, place in list(self._ours.items()):
            if (name not in named or _inode(named[name]) != place.inode) and _is_empty(place):
                self._forget(name)
        return [seen for name, path in named.items() if (seen := self._look_at(name, path))]

    def refusal(self, name: str) -> Problem | None:
        """Why none of that name can be made here; found by making one that nobody keeps."""
        try:
            os.close(syscalls.new_network())
        except PermissionError:
            return Problem(*NOT_PERMITTED)
        except OSError as error:
            return Problem(f"this kernel makes no network namespaces: {error.strerror}")
        path = FOLDER / name
        return _taken(path) if self._look_at(name, path) is None else None

    def create(self, wanted: NetNamespace) -> None:
        """Make one, or give a lost one its name again; its loopback is up in the end."""
        path = FOLDER / wanted.name
        if self._look_at(wanted.name, path) is None:
            if taken := _taken(path):
                raise HostError(taken.message, taken.hint)
            place = self._ours.get(wanted.name) or self._stray(wanted) or self._new(wanted)
            self._ours[wanted.name] = place
            _give_name(place, path)
        netlink.set_up(self._ours[wanted.name].kernel, LOOPBACK)

    def delete(self, name: str) -> None:
        """Take a name away; the namespace ends when no process is in it any more."""
        path = FOLDER / name
        if self._look_at(name, path) is None:
            return
        self._forget(name)
        syscalls.unmount(str(path))
        path.unlink()

    def _look_at(self, name: str, path: Path) -> NetNamespace | None:
        """What lies under a name, if it is ours; nothing is kept open of what is not."""
        known = self._ours.get(name)
        if known is None or _inode(path) != known.inode:
            found = _entered(name, path)
            mark = self._mark(found) if found else None
            if found is None or mark is None:
                if found:
                    found.close()
                return None
            self._forget(name)
            self._ours[name] = known = found
        loopback = netlink.link_at(known.kernel, LOOPBACK)
        mark = namespace_of(loopback.alias, self.here.inode)
        return None if mark is None else NetNamespace(name, mark, loopback.up)

    def _mark(self, place: Place) -> str | None:
        return namespace_of(netlink.link_at(place.kernel, LOOPBACK).alias, self.here.inode)

    def _forget(self, name: str) -> None:
        if place := self._ours.pop(name, None):
            place.close()

    def _new(self, wanted: NetNamespace) -> Place:
        """One that carries our mark before it has a name, so that none is ever without."""
        try:
            place = Place(wanted.name, syscalls.new_network())
        except PermissionError:
            raise HostError(*NOT_PERMITTED) from None
        netlink.set_alias(place.kernel, LOOPBACK, namespace_alias(wanted.mark, self.here.inode))
        return place

    def _stray(self, wanted: NetNamespace) -> Place | None:
        """The one that carries the wanted mark among those that processes are in."""
        seen = {place.inode for place in self}
        for path in Path("/proc").glob("[0-9]*/ns/net"):
            inode = _inode(path)
            if inode is None or inode in seen:
                continue
            seen.add(inode)
            place = _entered(wanted.name, path)
            if place and self._mark(place) == wanted.mark:
                return place
            if place:
                place.close()
        return None


def processes(name: str) -> dict[int, str]:
    """The processes in a namespace, with their commands; a thread elsewhere than its process is not seen."""
    inode = _inode(FOLDER / name)
    found: dict[int, str] = {}
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        if inode is not None and _inode(path) == inode:
            process = path.parents[1]
            try:
                found[int(process.name)] = (process / "comm").read_text().strip()
            except OSError:
                continue  # it has ended
    return found


def _entered(name: str, path: Path) -> Place | None:
    """The namespace behind a path; None where there is none, or none that we may enter."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return Place(name, descriptor)
        except OSError:
            os.close(descriptor)
            raise
    except OSError as error:
        if error.errno not in _NO_ACCESS:
            raise
        return None


def _is_empty(place: Place) -> bool:
    """Whether a namespace has nothing but its loopback."""
    return all(link.index == LOOPBACK for link in netlink.links(place.kernel))


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _taken(path: Path) -> Problem | None:
    """Whether something is mounted on a name; a file alone is left of a mount that was cut off."""
    try:
        if path.stat().st_dev == path.parent.stat().st_dev:
            return None
    except FileNotFoundError:
        return None
    return Problem(
        f"network namespace {path.name} exists and is not ours",
        f"choose another name, or remove it: ip netns delete {path.name}",
    )


def _give_name(place: Place, path: Path) -> None:
    """As 'ip netns attach' does: the folder's mounts are shared, so that all of the host sees new ones."""
    FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        syscalls.mount("", str(FOLDER), "none", syscalls.MS_SHARED | syscalls.MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        syscalls.mount(str(FOLDER), str(FOLDER), "none", syscalls.MS_BIND | syscalls.MS_REC)
        syscalls.mount("", str(FOLDER), "none", syscalls.MS_SHARED | syscalls.MS_REC)
    path.touch(mode=0o444)
    syscalls.mount(f"/proc/self/fd/{place.descriptor}", str(path), "none", syscalls.MS_BIND)
