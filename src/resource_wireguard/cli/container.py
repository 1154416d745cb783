"""The agent's container: what it may do (docs/security.md), its start and its end."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from resource_wireguard.cli import image
from resource_wireguard.cli.client import config_dir
from resource_wireguard.cli.placement import Container
from resource_wireguard.cli.unit import SETTINGS
from resource_wireguard.errors import (
    AlreadyStopped,
    ConflictError,
    HostError,
    NotFound,
    PermissionDenied,
    ResourceError,
)
from resource_wireguard.system.docker import connect, refusals

LABEL = "wireguard.config-dir"
"""On our containers: whose they are. A container without it is a stranger's, and never touched."""

MAKE_IMAGE = "make it again: 'resource-wireguard manage install --runtime docker'"

STOPPED_WITHIN = 30
"""Seconds Docker gives the agent before it kills it."""

LOOK_EVERY = 0.2
"""Seconds between two looks at a container that starts or ends."""

SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.all.src_valid_mark": "1",
    "net.ipv4.ip_unprivileged_port_start": "0",  # the agents' exchange has a port below 1024
}
SYSCTLS_6 = {
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv6.conf.all.disable_ipv6": "0",
    "net.ipv6.conf.default.disable_ipv6": "0",
}
"""What the agent needs or would set: in a container /proc/sys is read-only."""


@contextmanager
def docker() -> Iterator[Any]:
    """Docker's client; root alone has its files and CONFIG_DIR in one hand."""
    if os.geteuid() != 0:
        raise PermissionDenied(
            "container and CONFIG_DIR are root's in the runtime docker", "run it with sudo"
        )
    with closing(connect()) as client:
        yield client


def find(client: Any, wanted: Container) -> Any | None:
    """Our container of that name; None if there is none, ConflictError if it is somebody else's."""
    try:
        with refusals(f"container {wanted.name}"):
            found = client.containers.get(wanted.name)
    except NotFound:
        return None
    owner = found.labels.get(LABEL)
    if owner != config_dir():
        whose = f"belongs to {owner}" if owner else "is not ours"
        hint = "it stays as it is; set CONTAINER_NAME to another name for 'manage install --runtime docker'"
        raise ConflictError(f"the container {wanted.name} {whose}", hint)
    return found


def create(client: Any, wanted: Container) -> Any:
    """A fresh container in the place of the one before: all that lasts is in CONFIG_DIR."""
    image.need(client, wanted.image, MAKE_IMAGE)
    before = find(client, wanted)
    with refusals(f"container {wanted.name}"):
        if before is not None:
            before.remove(force=True)
        return client.containers.create(wanted.image, name=wanted.name, **limits(wanted), **_network(wanted))


def limits(wanted: Container) -> dict[str, Any]:
    """All that the container may do, has and sees, but for its network."""
    return {
        "labels": {LABEL: config_dir()},
        "environment": {"CONFIG_DIR": config_dir(), **dict(_settings(os.environ))},
        "mounts": [{"Type": "bind", "Source": config_dir(), "Target": config_dir()}],
        "cap_drop": ["ALL"],
        "cap_add": ["NET_ADMIN", *(["NET_BIND_SERVICE"] if wanted.host_network else [])],
        "devices": ["/dev/net/tun:/dev/net/tun:rw"],
        "security_opt": ["no-new-privileges:true"],
        "userns_mode": "host",  # where Docker maps root away, it could neither read CONFIG_DIR nor own a TUN
        "read_only": True,
        "tmpfs": {"/run": "size=4m,mode=755", "/tmp": "size=4m"},  # noqa: S108
        "mem_limit": f"{wanted.memory}m",
        "memswap_limit": f"{wanted.memory}m",  # no swap: keys stay off the disk
        "pids_limit": 256,
        "ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "restart_policy": {"Name": "always"},
        "log_config": {"type": "json-file", "config": {"max-size": "5m", "max-file": "2"}},
    }


def _network(wanted: Container) -> dict[str, Any]:
    if wanted.host_network:
        return {"network_mode": "host"}
    with_v6 = os.path.isdir("/proc/sys/net/ipv6")
    return {
        "ports": {f"{port}/udp": port for port in wanted.ports},
        "sysctls": {**SYSCTLS, **(SYSCTLS_6 if with_v6 else {})},
    }


def _settings(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Paths of this host mean nothing in there."""
    for name in SETTINGS:
        value = environment.get(name, "")
        if name.startswith("WIREGUARD_") and value and "/" not in (value if name.endswith("ENGINE") else ""):
            yield name, value


def begin(client: Any, wanted: Container) -> "Running":
    """Make and start the container, without waiting for the agent in it."""
    made = create(client, wanted)
    try:
        with refusals(f"container {wanted.name}"):
            made.start()
    except HostError as error:
        made.remove(force=True)
        raise _cannot_start(error) from None
    return Running(made, wanted)


def _cannot_start(error: HostError) -> ResourceError:
    taken = any(words in error.message for words in ("already allocated", "already in use"))
    hint = "see 'ss -ulpn'; free the port, or publish another: manage install --runtime docker --publish"
    return HostError(error.message, hint if taken else error.hint)


class Running:
    """A container of ours that runs, as lifetime.Process is a process."""

    def __init__(self, container: Any, wanted: Container) -> None:
        self._container = container
        self._in_hosts_network: bool = container.attrs["HostConfig"]["NetworkMode"] == "host"
        self._moves: bool = self._in_hosts_network != wanted.host_network

    def ended(self, within: float) -> bool:
        """Whether it ends within some seconds."""
        deadline = time.monotonic() + within
        while self._state() in ("running", "restarting"):
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_EVERY)
        return True

    def has_failed(self) -> bool:
        """Whether the agent in it ended by itself; Docker does not try again then."""
        if self._state() == "running" and not self._container.attrs["RestartCount"]:
            return False
        self.stay_down()
        self.kill()
        return True

    def stay_down(self, stay: bool = True) -> None:
        """Whether its end is for good, or Docker starts it again."""
        with self._refusals():
            self._container.update(restart_policy={"Name": "no" if stay else "always"})

    def terminate(self) -> None:
        """SIGTERM, and SIGKILL where that does not help."""
        with self._refusals():
            self._container.stop(timeout=STOPPED_WITHIN)

    def kill(self) -> None:
        """SIGKILL; one that has ended already is as good."""
        if self._state() in ("running", "restarting"):
            with self._refusals():
                self._container.kill()

    @property
    def takes_along(self) -> frozenset[str]:
        """An engine in user space is a process in it; the kernel's tunnels end with a network of its own."""
        stays = self._in_hosts_network and not self._moves
        return frozenset({"userspace"} if stays else {"userspace", "kernel"})

    @property
    def leaves_behind(self) -> bool:
        """What it made in the network of this host, when the next one has a network of its own."""
        return self._in_hosts_network and self._moves

    def log(self) -> list[str]:
        """What it has printed, by lines."""
        with self._refusals():
            return str(self._container.logs(tail=100).decode(errors="replace")).splitlines()

    def _state(self) -> str:
        with self._refusals():
            self._container.reload()
        return str(self._container.status)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        with refusals(f"container {self._container.name}"):
            yield


@contextmanager
def held(wanted: Container) -> Iterator[Running]:
    """Our running container, for its end: Docker starts it again only if it still runs afterwards."""
    with docker() as client:
        found = find(client, wanted)
        if found is None or found.status not in ("running", "restarting"):
            hint = "start it with 'resource-wireguard manage start'"
            raise AlreadyStopped("the service is not running", hint)
        running = Running(found, wanted)
        running.stay_down()
        try:
            yield running
        finally:
            if not running.ended(0):
                running.stay_down(False)


def condition(wanted: Container) -> tuple[str, str]:
    """The container's state and health in Docker's words; 'absent' if there is none."""
    with docker() as client:
        image.need(client, wanted.image, MAKE_IMAGE)
        found = find(client, wanted)
        if found is None:
            return "absent", "unknown"
        health = found.attrs["State"].get("Health", {}).get("Status", "not checked")
        return str(found.status), str(health)


def remove(client: Any, wanted: Container) -> None:
    """Take the container off this host."""
    if (found := find(client, wanted)) is not None:
        with refusals(f"container {wanted.name}"):
            found.remove(force=True)


def printed(wanted: Container, tail: int, follow: bool, begin: float | None) -> Iterator[str]:
    """What the agent printed, piece by piece; Docker keeps it until the container is made anew."""
    with docker() as client:
        found = find(client, wanted)
        if found is None:
            raise NotFound(
                f"there is no container {wanted.name}", "the service has not been started here yet"
            )
        since = {} if begin is None else {"since": int(begin)}
        with refusals(f"container {wanted.name}"):
            client.api.timeout = None if follow else client.api.timeout
            for piece in found.logs(stream=True, follow=follow, tail=tail, **since):
                yield piece.decode(errors="replace")
