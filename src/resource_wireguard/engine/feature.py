"""What a feature is: specs it loads, a pure compiler, commands, and sources of facts."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from resource_wireguard.engine.ports import Clock, Host, Secrets, Store, Tunnels
from resource_wireguard.host.facts import Facts, Questions
from resource_wireguard.host.state import Piece
from resource_wireguard.model.settings import Settings
from resource_wireguard.model.specs import Specs

if TYPE_CHECKING:
    from resource_wireguard.engine.reconcile import Report


class Command(msgspec.Struct, frozen=True):
    """One word of the bus: decoded once into request, then handled in the engine's thread."""

    name: str
    request: type[msgspec.Struct]
    run: Callable[[Any, Any], Any]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request without fields."""


class Resources(msgspec.Struct, frozen=True):
    """What a feature may reach: handed to load, commands and sources."""

    store: Store
    secrets: Secrets
    host: Host
    clock: Clock
    settings: Settings


class Check(msgspec.Struct, frozen=True):
    """One question of health with a yes or no; hint is empty where the answer is yes."""

    code: str
    ok: bool
    message: str
    hint: str = ""


def _nothing_asked(_: Specs, __: Mapping[str, str]) -> Questions:
    return Questions()


class Feature(msgspec.Struct, frozen=True):
    """One feature, as its folder offers it and the registry lists it.

    migrations are SQL scripts, applied once each and in order. load reads the feature's own specs.
    compile is pure, and so is remaining: what stays on the host while the service is stopped, because taking
    it away would let out what it holds in. questions names, from specs and resolved names, what it wants to
    find in the facts. sources run for ever and learn. observed is told of each look at the host, with the
    specs that are wanted; ending comes once, last. recorded names those of its tables that hold what was
    observed rather than said, such as counters: undo and back-ups leave them alone. checks are its part of
    the service's health. tunnels is offered by the feature that keeps them, so that others can change them
    too.
    """

    name: str
    migrations: tuple[str, ...] = ()
    load: Callable[[Resources], Any] | None = None
    compile: Callable[[Specs, Facts], Sequence[Piece]] | None = None
    remaining: Callable[[Specs, Facts], Sequence[Piece]] | None = None
    questions: Callable[[Specs, Mapping[str, str]], Questions] = _nothing_asked
    commands: tuple[Command, ...] = ()
    sources: tuple[Callable[[Any], Awaitable[None]], ...] = ()
    recorded: tuple[str, ...] = ()
    observed: Callable[[Resources, Specs, Facts], None] | None = None
    ending: Callable[[Resources], None] | None = None
    checks: Callable[[Specs, "Report"], Sequence[Check]] | None = None
    tunnels: Tunnels | None = None

    def stopped(self) -> "Feature":
        """The feature as it is while the service is stopped."""
        asked = self.questions if self.remaining else _nothing_asked
        return msgspec.structs.replace(self, compile=self.remaining, questions=asked)
