"""The keys.* commands. Requests that hold a passphrase print without it."""

from typing import Literal

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command
from resource_wireguard.engine.views import ProblemView, iso_time, problem_views
from resource_wireguard.host.render import lines_of
from resource_wireguard.model.custody import Custody


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request without fields."""


class Unlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The passphrase that the master key is made from."""

    passphrase: str

    def __repr__(self) -> str:
        return "Unlock(hidden)"


class Rekey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new master key, from where it comes now or from another source; passphrase for that source alone."""

    to: Literal["file", "credential", "passphrase"] | None = None
    passphrase: str | None = None

    def __repr__(self) -> str:
        return "Rekey(hidden)"


class CustodyView(msgspec.Struct, frozen=True):
    """Where the keys lie. available is False while they cannot be opened, for the reason in problem."""

    source: str
    place: str
    master_made_at: str | None
    secrets: int
    available: bool
    problem: ProblemView | None


class Unlocked(msgspec.Struct, frozen=True):
    """changed is False where nothing was locked; else what the pass did with the keys, and what is left."""

    changed: bool
    actions: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    problems: tuple[ProblemView, ...] = ()


def status(engine: Engine, _: Status) -> CustodyView:
    """What opens the keys, and whether it can be had; tries again where it could not."""
    engine.resources.secrets.recover()
    return _view(engine.resources.secrets.custody())


def unlock(engine: Engine, request: Unlock) -> Unlocked:
    """Open the keys, and do what had to wait for them."""
    secrets = engine.resources.secrets
    if secrets.unavailable() is None:
        return Unlocked(changed=False)
    secrets.unlock(bytearray(request.passphrase.encode()))
    engine.journal("", "keys unlocked")
    report = engine.settle("unlock")
    done, left = tuple(lines_of(report.done)), tuple(lines_of(report.drift))
    return Unlocked(True, done, left, problem_views(report.problems))


def rekey(engine: Engine, request: Rekey) -> CustodyView:
    """A new master key; every secret is sealed anew, or all stays as it was."""
    passphrase = bytearray(request.passphrase.encode()) if request.passphrase is not None else None
    custody = engine.resources.secrets.rekey(request.to, passphrase, engine.progress)
    engine.journal("", f"master key changed ({custody.source}): {custody.secrets} secrets sealed anew")
    return _view(custody)


COMMANDS = (
    Command("keys.status", Status, status),
    Command("keys.unlock", Unlock, unlock),
    Command("keys.rekey", Rekey, rekey),
)


def _view(custody: Custody) -> CustodyView:
    problem = ProblemView(custody.unavailable, custody.hint) if custody.unavailable else None
    made_at = iso_time(custody.made_at)
    return CustodyView(custody.source, custody.place, made_at, custody.secrets, problem is None, problem)
