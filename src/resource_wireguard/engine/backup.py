"""The back-up commands: everything that the user said, with its keys, in one sealed archive, and back.

Rows are kept as they are, whichever features there are; keys are opened here, and sealed anew under the
master key of the host that they come to.
"""

from typing import Any

import msgspec

from resource_wireguard import __version__
from resource_wireguard.engine.archive import seal, unseal
from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command
from resource_wireguard.engine.history import columns_of, spec_tables
from resource_wireguard.engine.ports import Store
from resource_wireguard.engine.views import ProblemView, iso_time, problem_views
from resource_wireguard.errors import ConflictError, InvalidInput
from resource_wireguard.host.render import lines_of
from resource_wireguard.host.state import Device, Link
from resource_wireguard.model.counts import counted

PASSPHRASE_LEAST = 8
"""Characters: fewer are guessed in no time, whatever scrypt does."""

SECRETS = "secrets"
"""The one table of specs whose content is bound to this host's master key."""


class Table(msgspec.Struct, frozen=True):
    """All rows of one table."""

    columns: list[str]
    rows: list[list[Any]]


class Contents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is sealed. migrations says how far each feature's tables had come. Holds keys: repr is masked."""

    program: str
    made_at: float
    migrations: dict[str, int]
    tables: dict[str, Table]
    secrets: dict[str, bytes]
    settings: dict[str, str]

    def __repr__(self) -> str:
        return f"Contents({self.program})"


class Create(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seal everything under a passphrase."""

    passphrase: str

    def __repr__(self) -> str:
        return "Create(hidden)"


class Created(msgspec.Struct, frozen=True):
    """The archive, base64 on the bus, and how much is in it."""

    archive: bytes
    tunnels: int
    peers: int

    def __repr__(self) -> str:
        return "Created(hidden)"


class Restore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Put an archive's content in the place of what is here; with force also if there is something."""

    archive: bytes
    passphrase: str
    dry_run: bool = False
    force: bool = False

    def __repr__(self) -> str:
        return "Restore(hidden)"


class Restored(msgspec.Struct, frozen=True):
    """What came back, and what the host had to do for it; drift is what is still to be done."""

    made_at: str | None
    tunnels: tuple[str, ...]
    actions: tuple[str, ...]
    drift: tuple[str, ...] = ()
    problems: tuple[ProblemView, ...] = ()


def create(engine: Engine, request: Create) -> Created:
    """All rows of all features, their keys, and the settings."""
    if len(request.passphrase) < PASSPHRASE_LEAST:
        raise InvalidInput(f"the passphrase has less than {PASSPHRASE_LEAST} characters", "take a longer one")
    store, tunnels = engine.resources.store, engine.specs().tunnels
    contents = Contents(
        program=__version__,
        made_at=engine.resources.clock.now(),
        migrations=_migrations(store),
        tables={name: _table(store, name) for name in _tables(engine)},
        secrets=dict(engine.resources.secrets.get_many("")),
        settings=dict(store.query("SELECT name, value FROM settings")),
    )
    engine.progress("deriving the key from the passphrase")
    archive = seal(msgspec.msgpack.encode(contents), request.passphrase)
    engine.journal("", f"back-up made: {counted(len(tunnels), 'tunnel')}")
    return Created(archive, len(tunnels), sum(len(tunnel.peers) for tunnel in tunnels))


def restore(engine: Engine, request: Restore) -> Restored:
    """Everything as it was when the archive was made: the same keys and addresses, and the tunnels up."""
    engine.progress("deriving the key from the passphrase")
    contents = _contents(request)
    _refuse_other_tables(engine, contents)
    _refuse_to_replace(engine, request.force)
    engine.report()  # which interfaces and ports are our own is known from the last look

    def work() -> tuple[str, ...]:
        return _replace(engine, contents)

    made_at = iso_time(contents.made_at)
    if request.dry_run:
        names, report = engine.rehearse(work)
        return Restored(made_at, names, tuple(lines_of(report.drift)))
    names = work()
    report = engine.settle("restore")
    done, left = tuple(lines_of(report.done)), tuple(lines_of(report.drift))
    return Restored(made_at, names, done, left, problem_views(report.problems))


COMMANDS = (
    Command("backup.create", Create, create),
    Command("backup.restore", Restore, restore),
)


def _contents(request: Restore) -> Contents:
    body = unseal(request.archive, request.passphrase)
    try:
        return msgspec.msgpack.decode(body, type=Contents)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidInput(
            "the back-up's content is not understood", "restore it with the version that made it"
        ) from None


def _tables(engine: Engine) -> list[str]:
    recorded = [table for feature in engine.features for table in feature.recorded]
    return [name for name in spec_tables(engine.resources.store, recorded) if name != SECRETS]


def _table(store: Store, name: str) -> Table:
    columns = columns_of(store, name)
    listed = ", ".join(f'"{column}"' for column in columns)
    return Table(columns, [list(row) for row in store.query(f'SELECT {listed} FROM "{name}"')])  # noqa: S608


def _migrations(store: Store) -> dict[str, int]:
    return dict(store.query("SELECT feature, max(number) FROM migrations GROUP BY feature"))


def _refuse_other_tables(engine: Engine, contents: Contents) -> None:
    """An older back-up fits: columns that came later have their defaults. A newer one does not."""
    ours = _migrations(engine.resources.store)
    for feature, number in contents.migrations.items():
        if number > ours.get(feature, 0):
            raise InvalidInput(
                f"the back-up was made by a newer version ({contents.program}): "
                f"'{feature}' is at {number}, here at {ours.get(feature, 0)}",
                "install that version or a later one first",
            )
    store, known = engine.resources.store, set(_tables(engine))
    for name, table in contents.tables.items():
        if name not in known or not set(table.columns) <= set(columns_of(store, name)):
            raise InvalidInput(
                f"the back-up has a table '{name[:60]}' that does not fit",
                "restore it with the version that made it",
            )


def _refuse_to_replace(engine: Engine, force: bool) -> None:
    names = [tunnel.name for tunnel in engine.specs().tunnels]
    if names and not force:
        some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise ConflictError(
            f"this host has tunnels already: {some}",
            "--force removes them with their keys; 'undo' brings them back",
        )


def _replace(engine: Engine, contents: Contents) -> tuple[str, ...]:
    """Take all rows out and the archive's in; the names of the tunnels that there are then."""
    store, secrets = engine.resources.store, engine.resources.secrets
    with engine.change():
        store.execute("PRAGMA defer_foreign_keys = ON")  # tables come in any order
        secrets.delete("")
        for name in _tables(engine):
            store.execute(f'DELETE FROM "{name}"')  # noqa: S608
        for name, table in contents.tables.items():
            _insert(store, name, table)
        for name, secret in contents.secrets.items():
            if "/" in name:  # older archives hold a proof of the master key, without a path
                secrets.put(name, secret)
        store.execute_many(
            "INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", contents.settings.items()
        )
        names = tuple(tunnel.name for tunnel in engine.specs().tunnels)
        _refuse_taken(engine)
        engine.journal(
            "", f"back-up of {iso_time(contents.made_at)} restored: {counted(len(names), 'tunnel')}"
        )
    return names


def _insert(store: Store, name: str, table: Table) -> None:
    listed = ", ".join(f'"{column}"' for column in table.columns)
    marks = ", ".join("?" for _ in table.columns)
    rows = (tuple(row) for row in table.rows)
    store.execute_many(f'INSERT INTO "{name}" ({listed}) VALUES ({marks})', rows)  # noqa: S608


def _refuse_taken(engine: Engine) -> None:
    """ConflictError that names every interface and port which others have on this host."""
    survey = engine.resources.host.survey()
    seen = engine.last.observation.state if engine.last else None
    our_links = set(seen.of(Link)) if seen else set()
    our_ports = {device.listen_port for device in seen.of(Device).values()} if seen else set()
    taken = []
    for tunnel in engine.last_specs.tunnels:
        if tunnel.interface in survey.interfaces - our_links:
            taken.append(f"interface {tunnel.interface} of tunnel '{tunnel.name}'")
        if tunnel.active and tunnel.listen_port in survey.udp_ports - our_ports:
            taken.append(f"UDP port {tunnel.listen_port} of tunnel '{tunnel.name}'")
    if taken:
        raise ConflictError(
            f"in use on this host, and not by us: {', '.join(taken)}",
            "free them, then restore; nothing was changed",
        )
