"""The last changes of specs, each with the SQL that takes it back.

SQLite itself writes that SQL down, in triggers on every table that holds what the user said
(https://www.sqlite.org/undoredo.html): a later feature's tables are covered without a word from it, and a
change of one peer among ten thousand costs a row or two. What is put back is exactly what was there, with the
revisions it had. Keys are in it only as the store seals them.

The triggers are temporary, made anew on each start: they can never be older than the tables they watch.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec

from resource_wireguard.engine.ports import Clock, Store
from resource_wireguard.errors import ConflictError, NotFound, StoreError

KEPT = 20
"""Changes that can be told of and taken back; a deleted tunnel's sealed keys are gone after so many more."""

NOT_SPECS = frozenset(
    {
        *("migrations", "settings", "sysctl_before", "journal", "changes", "change_log", "confirmation"),
        *("master", "data_keys", "vault", "vault_host", "vault_entries"),
    }
)
"""The store's own tables that no change of specs concerns. 'secrets' is none of them: keys go with rows."""


class Change(msgspec.Struct, frozen=True):
    """One change of specs: what was done, by whom, and when (Unix seconds)."""

    id: int
    at: float
    actor: str
    text: str


class Pending(msgspec.Struct, frozen=True):
    """A change that is taken back at the deadline (Unix seconds) unless somebody confirms it."""

    change: Change
    deadline: float


class History:
    """Records changes and takes them back, inside the caller's transaction where there is one."""

    def __init__(self, store: Store, clock: Clock, unwatched: Iterable[str] = ()) -> None:
        self._store = store
        self._clock = clock
        self._closing = False
        store.execute("PRAGMA recursive_triggers = ON")  # else INSERT OR REPLACE deletes unseen
        store.execute("CREATE TEMP TABLE IF NOT EXISTS open_change (id INTEGER NOT NULL)")
        for table in spec_tables(store, unwatched):
            for statement in _triggers(store, table):
                store.execute(statement)

    @contextmanager
    def recording(self, actor: str) -> Iterator[None]:
        """All writes in here are one change, kept if there were any. Needs a transaction around it."""
        if self._store.query("SELECT 1 FROM open_change"):
            yield  # part of a larger change
            return
        self._store.execute(
            "INSERT INTO changes (at, actor, text, migrations) "
            "VALUES (?, ?, '', (SELECT count(*) FROM migrations))",
            *(self._clock.now(), actor),
        )
        self._store.execute("INSERT INTO open_change SELECT max(id) FROM changes")
        self._closing = False
        yield
        self._store.execute(
            "DELETE FROM changes WHERE id IN (SELECT id FROM open_change) "
            "AND NOT EXISTS (SELECT 1 FROM change_log WHERE change = changes.id)"
        )
        self._store.execute("DELETE FROM open_change")
        if self._closing:
            self._closing = False
            self._store.execute("DELETE FROM changes")
        self._store.execute("DELETE FROM changes WHERE id <= (SELECT max(id) FROM changes) - ?", KEPT)

    def close_book(self, text: str) -> None:
        """Nothing up to and including the open change can be taken back: with rows of before, keys that it
        retires would come back, and they lie sealed in the log that would do it."""
        self._closing = True
        self._store.execute(
            "INSERT OR REPLACE INTO settings (name, value) VALUES ('history_begins_after', ?)", text
        )

    def tell(self, text: str) -> None:
        """Add words to the change that is open, if one is."""
        self._store.execute(
            "UPDATE changes SET text = text || CASE text WHEN '' THEN '' ELSE '; ' END || ? "
            "WHERE id IN (SELECT id FROM open_change)",
            text,
        )

    def last(self) -> Change:
        """The latest change; NotFound where none is known."""
        rows = self._store.query(
            "SELECT id, at, actor, text FROM changes WHERE id NOT IN (SELECT id FROM open_change) "
            "ORDER BY id DESC LIMIT 1"
        )
        if not rows:
            closed = self._store.query("SELECT value FROM settings WHERE name = 'history_begins_after'")
            since = f" since {closed[0][0]}, which cannot be undone" if closed else ""
            raise NotFound(f"there is no change to take back{since}", "see 'resource-wireguard journal'")
        return Change(*rows[0])

    def take_back(self, change: Change) -> None:
        """Put everything back as it was before a change, the changes after it included."""
        known = self._store.query(
            "SELECT min(migrations) = (SELECT count(*) FROM migrations) FROM changes WHERE id >= ?", change.id
        )
        if known != [(1,)]:
            raise StoreError(
                f"this cannot be taken back: {change.text}",
                "the program was upgraded since, and its tables changed; set it right by hand",
            )
        self._store.execute(
            "PRAGMA defer_foreign_keys = ON"
        )  # in which order a cascade was told of is up to SQLite
        select = "SELECT sql FROM change_log WHERE change >= ? ORDER BY id DESC"
        for (sql,) in self._store.query(select, change.id):
            self._store.execute(sql)

    # Changes that wait for a word ---------------------------------------------------------------

    def await_confirmation(self, seconds: float) -> None:
        """The change that is open is taken back unless confirmed within some seconds."""
        self._store.execute(
            "INSERT INTO confirmation (change, deadline) SELECT id, ? FROM open_change",
            self._clock.now() + seconds,
        )

    def pending(self) -> Pending | None:
        """The change that waits to be confirmed, if one does."""
        rows = self._store.query(
            "SELECT id, at, actor, text, deadline FROM changes JOIN confirmation ON change = id"
        )
        return Pending(Change(*rows[0][:4]), rows[0][4]) if rows else None

    def forget_pending(self) -> None:
        """It was confirmed, or taken back."""
        self._store.execute("DELETE FROM confirmation")

    def refuse_while_pending(self) -> None:
        """ConflictError while a change waits: another one on top of it would be lost with it."""
        pending = self.pending()
        if pending:
            left = max(0, round(pending.deadline - self._clock.now()))
            raise ConflictError(
                f"a change waits to be confirmed, and is taken back in {left} s otherwise",
                "'resource-wireguard confirm' keeps it, 'resource-wireguard undo' takes it back now",
            )


def spec_tables(store: Store, unwatched: Iterable[str] = ()) -> list[str]:
    """The tables with what the user said, whichever features there are, and the secrets that belong to it."""
    tables = store.query("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    left_out = {*NOT_SPECS, *unwatched}
    return [name for (name,) in tables if name not in left_out and not name.startswith("sqlite_")]


def columns_of(store: Store, table: str) -> list[str]:
    """A table's columns in their order, without computed ones."""
    return [name for (name,) in store.query("SELECT name FROM pragma_table_info(?)", table)]


def _triggers(store: Store, table: str) -> Iterator[str]:
    """Three triggers that write down how to undo an INSERT, an UPDATE and a DELETE of one table."""
    keys = [name for (name,) in store.query("SELECT name FROM pragma_table_info(?) WHERE pk > 0", table)]
    columns = columns_of(store, table)
    if not keys:
        keys, columns = ["rowid"], ["rowid", *columns]
    named = ", ".join(f'"{column}"' for column in columns)
    old_values = " || ', ' || ".join(f'quote(old."{column}")' for column in columns)
    this_row, changed = _pairs("new", keys, " AND "), _pairs("old", columns, ", ")
    undo = {
        "INSERT": f"""'DELETE FROM "{table}" WHERE ' || {this_row}""",  # noqa: S608
        "UPDATE": f"""'UPDATE "{table}" SET ' || {changed} || ' WHERE ' || {this_row}""",  # noqa: S608
        "DELETE": f"""'INSERT INTO "{table}" ({named}) VALUES (' || {old_values} || ')'""",  # noqa: S608
    }
    for verb, sql in undo.items():
        noted = f"INSERT INTO change_log (change, sql) SELECT id, {sql} FROM open_change"  # noqa: S608
        name = f'"undo_{verb}_{table}"'
        yield f'CREATE TEMP TRIGGER IF NOT EXISTS {name} AFTER {verb} ON "{table}" BEGIN {noted}; END'


def _pairs(row: str, columns: Iterable[str], between: str) -> str:
    """SQL of a text such as: "a" = 1, "b" = 2."""
    return f" || '{between}' || ".join(f"""'"{name}" = ' || quote({row}."{name}")""" for name in columns)
