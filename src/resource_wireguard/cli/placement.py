"""Where the agent of a CONFIG_DIR runs: on this host, or in a container of which a small file there tells."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from resource_wireguard.cli import files, output
from resource_wireguard.cli.client import config_dir
from resource_wireguard.errors import HostError, InvalidInput, PermissionDenied

NATIVE, DOCKER = "native", "docker"

PORTS_MOST = 64
"""Published ports: Docker starts a process or two for each."""


@dataclass(frozen=True, slots=True)
class Container:
    """The container as it was asked for when it was installed; memory is in MB."""

    name: str
    image: str
    ports: tuple[int, ...]
    host_network: bool
    memory: int

    def publishes(self, port: int) -> bool:
        """Whether a tunnel on this UDP port can be reached from outside."""
        return self.host_network or port in self.ports


def record_path() -> str:
    """The file: it is there if the agent is to run in a container."""
    return f"{config_dir()}/container.json"


def container() -> Container | None:
    """What was installed; None where the agent runs on the host itself."""
    try:
        with open(record_path(), encoding="utf-8") as file:
            kept = json.load(file)
        return Container(**{**kept, "ports": tuple(kept["ports"])})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise PermissionDenied(f"you may not read {record_path()}", "run it with sudo") from None
    except (ValueError, TypeError, KeyError):
        hint = "run 'resource-wireguard manage install --runtime docker' again"
        raise HostError(f"{record_path()} is damaged", hint) from None


def keep(wanted: Container) -> None:
    """Write the file, whole or not at all."""
    files.write_private(record_path(), f"{json.dumps(asdict(wanted), indent=2)}\n".encode())


def forget() -> None:
    """From now on the agent runs on the host itself."""
    with suppress(FileNotFoundError):
        os.unlink(record_path())


def described() -> dict[str, object]:
    """For 'info' and 'status': the runtime, and its container if it has one."""
    found = container()
    if found is None:
        return {"runtime": NATIVE}
    return {"runtime": DOCKER, "container": found.name, "image": found.image}


def words() -> str:
    """For a person; nothing where there is nothing to be said."""
    found = container()
    return f"docker, container {found.name}" if found else ""


def placed(tunnels: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tunnels of the bus, each with whether the container publishes its port, if there is a container."""
    found = container()
    if found is None:
        return list(tunnels)
    return [{**tunnel, "published": found.publishes(tunnel["listen_port"])} for tunnel in tunnels]


def note_closed_ports(tunnels: Iterable[dict[str, Any]]) -> None:
    """Say of each tunnel of the bus that listens on a port nobody outside can reach, that it does."""
    found = container()
    for tunnel in tunnels:
        port = tunnel["listen_port"]
        if found and not found.publishes(port):
            output.note(
                f"note: container {found.name} does not publish UDP port {port}: no peer can call tunnel "
                f"'{tunnel['name']}'; 'manage install --publish {port}' and 'manage restart' do"
            )


def parse_ports(texts: Iterable[str]) -> tuple[int, ...]:
    """'51820,51830-51839' as numbers in order; InvalidInput names the word."""
    ports: set[int] = set()
    for word in (word for text in texts for word in text.replace(",", " ").split()):
        ends = word.split("-")
        if len(ends) > 2 or not all(end.isascii() and end.isdecimal() and len(end) <= 5 for end in ends):
            raise _no_ports(word)
        first, last = int(ends[0]), int(ends[-1])
        if not 1 <= first <= last <= 65535:
            raise _no_ports(word)
        ports |= {*range(first, last + 1)}
    if len(ports) > PORTS_MOST:
        hint = "use --host-network for more: Docker starts a process for each"
        raise InvalidInput(f"{len(ports)} ports are more than the {PORTS_MOST} that can be published", hint)
    return tuple(sorted(ports))


def port_words(ports: Iterable[int]) -> str:
    """The reverse, with neighbours joined: '51820, 51830-51839'."""
    runs: list[list[int]] = []
    for port in sorted(ports):
        if runs and port == runs[-1][-1] + 1:
            runs[-1].append(port)
        else:
            runs.append([port])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _no_ports(word: str) -> InvalidInput:
    return InvalidInput(f"'{word[:40]}' is no UDP port or range of ports", "say 51820 or 51830-51839")
