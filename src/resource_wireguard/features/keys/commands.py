"""The keys.* commands. Requests that hold a passphrase print without it."""

from typing import Literal

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command, Nothing
from resource_wireguard.engine.views import ProblemView, iso_time, problem_views
from resource_wireguard.features.keys.vault import (
    Migrate,
    PlaceGiven,
    VaultView,
    move,
    transit_key,
    vault_view,
)
from resource_wireguard.host.render import lines_of
from resource_wireguard.model.custody import Custody
from resource_wireguard.model.vault import TransitKey


class Unlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The passphrase that the master key is made from."""

    passphrase: str

    def __repr__(self) -> str:
        return "Unlock(hidden)"


class Rekey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new master key, from where it comes now or from another source.

    passphrase is for that source alone, and so are, for 'transit', place, transit_key and transit_mount.
    """

    to: Literal["file", "credential", "passphrase", "transit"] | None = None
    passphrase: str | None = None
    place: PlaceGiven = PlaceGiven()
    transit_key: str | None = None
    transit_mount: str | None = None

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
    vault: VaultView | None = None


class Migrated(msgspec.Struct, frozen=True):
    """How many secrets were moved, those that only 'undo' needs included; and where all are now."""

    moved: int
    keys: CustodyView


class Unlocked(msgspec.Struct, frozen=True):
    """changed is False where nothing was locked; else what the pass did with the keys, and what is left."""

    changed: bool
    actions: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    problems: tuple[ProblemView, ...] = ()


def status(engine: Engine, _: Nothing) -> CustodyView:
    """What opens the keys, and whether it can be had; where it is back, what had to wait for it is done."""
    secrets = engine.resources.secrets
    if secrets.unavailable() is not None:
        engine.settle("keys")
    return _view(secrets.custody())


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
    offer: bytearray | TransitKey | None
    offer = transit_key(request.place, request.transit_key, request.transit_mount)
    if request.passphrase is not None:
        offer = bytearray(request.passphrase.encode())
    custody = engine.resources.secrets.rekey(request.to, offer, engine.progress)
    engine.journal("", f"master key changed ({custody.source}): {custody.secrets} secrets sealed anew")
    return _view(custody)


def migrate(engine: Engine, request: Migrate) -> Migrated:
    """Move all keys into a Vault or out of it; each is seen to be there before the other copy goes."""
    moved = move(engine, request)
    return Migrated(moved, _view(engine.resources.secrets.custody()))


COMMANDS = (
    Command("keys.status", Nothing, status),
    Command("keys.unlock", Unlock, unlock),
    Command("keys.rekey", Rekey, rekey),
    Command("keys.migrate", Migrate, migrate),
)


def _view(custody: Custody) -> CustodyView:
    problem = ProblemView(custody.unavailable, custody.hint) if custody.unavailable else None
    made_at = iso_time(custody.made_at)
    vault = vault_view(custody.vault) if custody.vault else None
    return CustodyView(
        custody.source, custody.place, made_at, custody.secrets, problem is None, problem, vault
    )
