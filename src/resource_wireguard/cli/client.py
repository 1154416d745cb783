"""The agent as the command line sees it: one request on its socket, one answer (docs/bus.md)."""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from resource_wireguard import errors

WITHIN = 60.0
"""Seconds a command may take: what the Vrooli contract grants all but help, status and logs."""

CHUNK = 1 << 18
"""Bytes read at a time: the list of ten thousand peers is about 3 MB."""

SOCKET_PATH_MAX = 107
"""Bytes of a unix socket's path (unix(7): sun_path, without its NUL)."""

_BY_KIND = {error.kind: error for error in errors.ResourceError.__subclasses__()}


def config_dir() -> str:
    """CONFIG_DIR, or its default under HOME; absolute."""
    home = os.environ.get("HOME") or "/root"
    return os.path.abspath(os.environ.get("CONFIG_DIR") or f"{home}/.vrooli/resources/wireguard")


def socket_path() -> str:
    """Where the agent of this CONFIG_DIR listens."""
    return f"{config_dir()}/run/agent.sock"


def log_path() -> str:
    """Where a daemonised agent of this CONFIG_DIR writes."""
    return f"{config_dir()}/run/agent.log"


def on_terminal(text: str) -> None:
    """Show progress to a person; a script sees nothing of it."""
    if sys.stderr.isatty():
        print(f"{text} …", file=sys.stderr)


def call(
    command: str,
    request: dict[str, Any] | None = None,
    *,
    progress: Callable[[str], None] = on_terminal,
    within: float = WITHIN,
) -> Any:
    """Ask the agent and return its result; its refusals are raised as the errors they are."""
    deadline = time.monotonic() + within
    line = json.dumps({"command": command, "request": request or {}}).encode() + b"\n"
    try:
        with _connect(deadline) as connection:
            connection.sendall(line)
            return _result(_answers(connection, deadline), progress)
    except TimeoutError:
        raise errors.HostError(
            f"the agent gave no answer to '{command}' within {within:g} s", f"see {log_path()}"
        ) from None
    except OSError as error:
        raise errors.HostError(f"the agent hung up: {error.strerror}", f"see {log_path()}") from None


def _connect(deadline: float) -> socket.socket:
    path = socket_path()
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise errors.InvalidInput(
            f"CONFIG_DIR is too long for a unix socket: {path}",
            f"use at most {SOCKET_PATH_MAX - len('/run/agent.sock')} bytes",
        )
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_left(deadline))
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise _no_connection(error, path) from None
    return connection


def _no_connection(error: OSError, path: str) -> errors.ResourceError:
    match error:
        case PermissionError():
            hint = "run it with sudo, or as the user that runs the agent"
            return errors.PermissionDenied(f"you may not use the agent's socket {path}", hint)
        case FileNotFoundError() | ConnectionRefusedError() | NotADirectoryError():
            hint = "start it with 'resource-wireguard manage start'"
            return errors.ServiceNotRunning(f"the service is not running (nothing listens on {path})", hint)
    return errors.HostError(f"cannot reach the agent on {path}: {error.strerror}", f"see {log_path()}")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _answers(connection: socket.socket, deadline: float) -> Iterator[bytes]:
    """The lines that come in, each when it is whole."""
    parts: list[bytes] = []
    while True:
        connection.settimeout(_left(deadline))
        chunk = connection.recv(CHUNK)
        if not chunk:
            return
        *whole, rest = chunk.split(b"\n")
        for end in whole:
            yield b"".join([*parts, end])
            parts.clear()
        parts.append(rest)


def _result(answers: Iterator[bytes], progress: Callable[[str], None]) -> Any:
    for line in answers:
        match _decoded(line):
            case {"progress": str(text)}:
                progress(text)
            case {"result": result}:
                return result
            case {"error": {"kind": str(kind), "message": str(message), **more}}:
                raise _BY_KIND.get(kind, errors.ResourceError)(message, str(more.get("hint", "")))
            case _:
                raise _not_understood()
    raise errors.HostError("the agent ended without an answer", f"see {log_path()}")


def _decoded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        raise _not_understood() from None


def _not_understood() -> errors.ResourceError:
    hint = "command line and agent may differ in version: 'resource-wireguard manage restart'"
    return errors.ResourceError("the agent's answer is not understood", hint)
