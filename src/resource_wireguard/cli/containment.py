"""Moving the agent into a container, and out again, as 'manage install' does it; CONFIG_DIR stays."""

import os
import re
from dataclasses import replace

from resource_wireguard.cli import container, image, lifetime, output, placement, supervisor
from resource_wireguard.cli.client import config_dir
from resource_wireguard.cli.placement import Container
from resource_wireguard.errors import AlreadyExists, ConflictError, HostError, InvalidInput
from resource_wireguard.model.net import parse_port

NAME = "vrooli-wireguard"
"""The container's name where CONTAINER_NAME says no other at the first installation."""

MEMORY = 100
"""MB: the agent takes 40, an engine in user space from 5 to 35."""

_NAMES = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,126}")


def install(publish: tuple[str, ...], host_network: bool | None, memory: int | None) -> None:
    """Have the image, and remember the container as it is wanted; AlreadyExists if that is so already."""
    lifetime.check_contained()
    before = placement.container()
    if before is None and lifetime.is_running():
        hint = "stop it first: 'resource-wireguard manage stop'. Tunnels, peers and keys move along"
        raise ConflictError("the service runs on this host itself", hint)
    asked = _asked(before, publish, host_network, memory)
    with container.docker() as client:
        container.find(client, asked)
        known = image.identity(client, asked.image)
        named = os.environ.get("WIREGUARD_IMAGE") or _named(before)
        wanted = replace(asked, image=image.provide(client, named))
        if wanted == before and image.identity(client, wanted.image) == known:
            hint = "start it with 'resource-wireguard manage start --wait'"
            raise AlreadyExists(f"already installed in {config_dir()}, for {_words(wanted)}", hint)
    lifetime.make_directories()
    _need_roots_directory()
    placement.keep(wanted)
    if supervisor.has_unit():
        supervisor.uninstall()
        output.note("the systemd unit is gone: Docker starts the container with this host")
    word = "restart" if lifetime.is_running() else "start --wait"
    output.note(f"installed in {config_dir()}, for {_words(wanted)}; now 'resource-wireguard manage {word}'")


def leave(before: Container, for_good: bool = False) -> None:
    """Take the container off this host, for good its image too: the agent is the host's own from now on."""
    if lifetime.is_running():
        hint = "stop it first: 'resource-wireguard manage stop'. Tunnels, peers and keys move along"
        raise ConflictError(f"the service runs in container {before.name}", hint)
    with container.docker() as client:
        container.remove(client, before)
        if for_good:
            image.remove(client, before.image)
    placement.forget()


def _asked(
    before: Container | None, publish: tuple[str, ...], host_network: bool | None, memory: int | None
) -> Container:
    """What was given, then what it was, then the defaults."""
    ports = placement.parse_ports(publish)
    if before is not None:
        return replace(
            before,
            ports=placement.parse_ports(map(str, (*before.ports, *ports))),
            host_network=before.host_network if host_network is None else host_network,
            memory=memory or before.memory,
        )
    name = os.environ.get("CONTAINER_NAME") or NAME
    if not _NAMES.fullmatch(name):
        raise InvalidInput(f"CONTAINER_NAME '{name[:60]}' is no name for a container", f"unset it for {NAME}")
    first = parse_port(os.environ.get("WIREGUARD_PORT") or 51820, "WIREGUARD_PORT")
    ports = placement.parse_ports(map(str, (first, *ports)))
    return Container(name, image.OWN, ports, bool(host_network), memory or MEMORY)


def _named(before: Container | None) -> str:
    """The image of somebody else's that was chosen before; '' for ours, which is built anew."""
    return before.image if before and not before.image.startswith(image.OWN.partition(":")[0]) else ""


def _words(wanted: Container) -> str:
    reach = "the network of this host" if wanted.host_network else f"UDP {placement.port_words(wanted.ports)}"
    return f"container {wanted.name} of {wanted.image} with {reach}"


def _need_roots_directory() -> None:
    """In the container root has no capability to read what belongs to others."""
    if os.stat(config_dir()).st_uid != 0:
        raise HostError(
            f"{config_dir()} is not root's: the container could not read it", f"chown -R root: {config_dir()}"
        )
