"""Becoming a program in a network namespace: as a user, and with no way to ask the host's resolvers.

A name can be looked up without a packet of one's own: systemd-resolved, nscd, avahi and the system bus answer
on unix sockets, and would ask outside. So the program gets mounts of its own, in which these are not there,
and files of its own for the resolver of the C library.
"""

import errno
import os
import pwd
import re
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from resource_wireguard.errors import HostError, NotFound, PermissionDenied
from resource_wireguard.system import syscalls
from resource_wireguard.system.places import FOLDER

RESOLVERS = ("/run/systemd/resolve", "/run/nscd", "/run/avahi-daemon", "/run/dbus")
"""Folders of the sockets of those who look names up for others."""

RESOLV_CONF, NSSWITCH_CONF = Path("/etc/resolv.conf"), Path("/etc/nsswitch.conf")
CGROUPS = "/sys/fs/cgroup"

_SAFE = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
_SMALL = "mode=755,size=256k"
_HOSTS_LINE = re.compile(r"^\s*hosts:.*$", re.MULTILINE)


def enter(netns: str, resolv_conf: str) -> None:
    """Bring this process, with mounts of its own, into a network namespace that has a name."""
    try:
        descriptor = os.open(FOLDER / netns, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(
            f"no network namespace {netns} under {FOLDER}",
            "the agent may have mounts of its own: see docs/netns.md",
        ) from None
    try:
        syscalls.setns(descriptor, syscalls.CLONE_NEWNET)
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("", "/", "none", syscalls.MS_SLAVE | syscalls.MS_REC)
        _mount_own_sys()
        _mount_own_files(resolv_conf)
    except PermissionError:
        raise PermissionDenied(f"you may not enter network namespace {netns}", "run it with sudo") from None
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise NotFound(f"{FOLDER / netns} is no network namespace", "see 'ip netns list'") from None
        raise HostError(f"cannot enter network namespace {netns}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def become_caller(environment: MutableMapping[str, str]) -> None:
    """Go on as the user who called sudo(8), with that user's groups and no capability; else as who we are."""
    caller = environment.get("SUDO_UID", "")
    if os.geteuid() != 0 or not caller.isdecimal() or caller == "0":
        return
    try:
        user = pwd.getpwuid(int(caller))
    except KeyError:
        raise NotFound(
            f"SUDO_UID {caller} is no user of this host", "call it as a user that exists"
        ) from None
    os.initgroups(user.pw_name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    for name in [name for name in environment if name.startswith("SUDO_")]:
        del environment[name]
    environment.update(_of_user(user))


def _of_user(user: pwd.struct_passwd) -> Mapping[str, str]:
    return {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": user.pw_shell}


def _mount_own_sys() -> None:
    """/sys/class/net of this namespace, as ip-netns(8) has it; the cgroups stay in their place."""
    cgroups = os.open(CGROUPS, os.O_PATH | os.O_CLOEXEC) if Path(CGROUPS).is_mount() else None
    syscalls.mount("sysfs", "/sys", "sysfs", _SAFE)
    if cgroups is not None:
        flags = syscalls.MS_BIND | syscalls.MS_REC
        syscalls.mount(f"/proc/self/fd/{cgroups}", CGROUPS, "none", flags)
        os.close(cgroups)


def _mount_own_files(resolv_conf: str) -> None:
    """Hide the resolvers, and put files that lie nowhere on the host in place of two of /etc."""
    target = RESOLV_CONF.resolve()
    for folder in {Path(name).resolve() for name in RESOLVERS if Path(name).is_dir()}:
        syscalls.mount("none", str(folder), "tmpfs", _SAFE, _SMALL)
        if folder in target.parents:  # a link to a file of systemd-resolved's
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
    if not target.exists():
        raise HostError(f"this host has no {RESOLV_CONF}", f"make an empty one: touch {RESOLV_CONF}")
    files = {target: resolv_conf}
    if NSSWITCH_CONF.exists():
        files[NSSWITCH_CONF.resolve()] = _without_services(NSSWITCH_CONF.read_text(errors="replace"))
    syscalls.mount("none", str(FOLDER), "tmpfs", _SAFE, _SMALL)
    for path, text in files.items():
        own = FOLDER / path.name
        own.write_text(text)
        own.chmod(0o644)
        syscalls.mount(str(own), str(path), "none", syscalls.MS_BIND)
    syscalls.unmount(str(FOLDER))


def _without_services(nsswitch_conf: str) -> str:
    """Names come from files and DNS, and from nobody who answers for others (nsswitch.conf(5))."""
    return _HOSTS_LINE.sub("hosts: files dns", nsswitch_conf)
