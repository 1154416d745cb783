"""The command bus: one JSON request in, one typed command run, one JSON answer out."""

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import InvalidInput, NotFound, ResourceError

log = logging.getLogger(__name__)


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The envelope of every request."""

    command: str
    request: dict[str, Any] = {}


def answer(engine: Engine, line: bytes, actor: str, progress: Callable[[str], None]) -> bytes:
    """Run one request; every outcome is a line of JSON, as docs/bus.md describes it."""
    engine.actor, engine.progress = actor, progress
    try:
        return msgspec.json.encode({"result": run(engine, line)})
    except ResourceError as error:
        return _refusal(error)
    except Exception:  # the edge: a bug must answer its caller and leave a trace, not hang a client
        log.exception("a command failed by a bug")
        return _refusal(
            ResourceError("the agent failed on this by a bug of its own", "see the log: run/agent.log")
        )
    finally:
        engine.actor, engine.progress = "agent", lambda _: None


def run(engine: Engine, line: bytes) -> Any:
    """Decode, validate and run one request; raises ResourceError."""
    envelope = _decoded(lambda: msgspec.json.decode(line, type=Request))
    command = engine.commands.get(envelope.command)
    if command is None:
        raise NotFound(f"no command '{envelope.command[:60]}'", "client and agent may differ in version")
    request = _decoded(lambda: msgspec.convert(envelope.request, command.request))
    return command.run(engine, request)


def _decoded(decode: Callable[[], Any]) -> Any:
    try:
        return decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"the request is not understood: {error}", "docs/bus.md lists the fields"
        ) from None


def _refusal(error: ResourceError) -> bytes:
    return msgspec.json.encode(
        {
            "error": {
                "kind": error.kind,
                "message": error.message,
                "hint": error.hint,
                "exit_code": error.exit_code,
            }
        }
    )
