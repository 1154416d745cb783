"""Docker's daemon: reached through its unix socket, its refusals told as errors of ours.

Nothing else imports the SDK.
"""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resource_wireguard.errors import (
    AlreadyExists,
    ConflictError,
    HostError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    ResourceError,
)

if TYPE_CHECKING:
    from docker import DockerClient

SOCKET = "/var/run/docker.sock"
"""Where the daemon listens if DOCKER_HOST does not say otherwise."""

WITHIN = 10.0
"""Seconds the daemon may take to answer one request."""

CONFLICT = 409
"""The status of what cannot be done as things are: a name taken, a container still running (HTTP)."""


def socket_path(environment: Mapping[str, str] = os.environ) -> str:
    """The daemon's socket: that of DOCKER_HOST, which must be one of this host."""
    address = environment.get("DOCKER_HOST", "")
    scheme, _, path = address.partition("://")
    if not address:
        return SOCKET
    if scheme != "unix" or not path.startswith("/"):
        hint = f"unset DOCKER_HOST, or set it to unix://{SOCKET}"
        raise InvalidInput(f"DOCKER_HOST '{address}' is not a unix socket of this host", hint)
    return path


def connect(within: float = WITHIN) -> "DockerClient":
    """A client of the daemon, which needs its close(); within is the seconds each request may take.

    HostError where Docker is absent or its daemon down, PermissionDenied where its socket is not for us.
    """
    path = socket_path()
    _knock(path)
    from docker import DockerClient  # 150 ms: not before somebody listens

    with refusals("Docker"):
        return DockerClient(base_url=f"unix://{path}", timeout=within)


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Tell what the daemon refuses, or how it fails, as errors of ours; what names the object asked for."""
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except APIError as error:
        raise _refused(what, error.status_code, _one_line(error.explanation or error)) from None
    except (DockerException, RequestException) as error:
        hint = "see that it runs: systemctl status docker"
        raise HostError(f"{what}: Docker does not answer ({_reason(error)})", hint) from None


def _refused(what: str, status: int | None, words: str) -> ResourceError:
    if status == 404:
        return NotFound(f"{what}: {words}", "")
    if status == CONFLICT and "already" in words:
        return AlreadyExists(f"{what}: {words}", "")
    return ConflictError(f"{what}: {words}", "") if status == CONFLICT else HostError(f"{what}: {words}", "")


def _reason(error: Exception) -> str:
    """What the SDK says, or that it waited in vain, which it says in twenty words."""
    words = _one_line(error)
    return "timed out" if "timed out" in words else words


def _one_line(words: object) -> str:
    return " ".join(str(words).split())


def _knock(path: str) -> None:
    """Whether somebody listens there: what the SDK would tell in four lines, and only once it is imported."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(WITHIN)
        try:
            door.connect(path)
        except OSError as error:
            raise _no_daemon(error, path) from None


def _no_daemon(error: OSError, path: str) -> ResourceError:
    match error:
        case PermissionError():
            return PermissionDenied(f"you may not use Docker's socket {path}", "run it with sudo")
        case FileNotFoundError() | NotADirectoryError():
            hint = "install and start Docker, or set DOCKER_HOST to its socket"
            return HostError(f"Docker is not on this host (no socket {path})", hint)
        case ConnectionRefusedError():
            hint = "start it: systemctl start docker"
            return HostError(f"Docker's daemon does not run (nobody listens on {path})", hint)
    return HostError(f"Docker cannot be reached on {path}: {error.strerror or error}", "")
