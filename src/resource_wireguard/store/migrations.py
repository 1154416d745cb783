"""Bringing a database up to date: one numbered set of SQL scripts a feature, each applied once."""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from resource_wireguard.errors import StoreError
from resource_wireguard.store.sqlite import SqliteStore


class HasMigrations(Protocol):
    """What is asked of a feature here: its name and its scripts, oldest first."""

    @property
    def name(self) -> str:
        """The feature's name."""

    @property
    def migrations(self) -> Sequence[str]:
        """SQL scripts; the number of a script is its place, from 1."""


_REGISTER = """
CREATE TABLE IF NOT EXISTS migrations (
    feature TEXT NOT NULL, number INTEGER NOT NULL, applied_at REAL NOT NULL,
    PRIMARY KEY (feature, number)
) STRICT, WITHOUT ROWID;
"""

CORE = (
    """
CREATE TABLE secrets (name TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE sysctl_before (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE journal (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, actor TEXT NOT NULL,
    subject TEXT NOT NULL, text TEXT NOT NULL, result TEXT NOT NULL
) STRICT;
CREATE TRIGGER journal_is_not_rewritten BEFORE UPDATE ON journal
    BEGIN SELECT RAISE(ABORT, 'the journal is only added to'); END;
CREATE TRIGGER journal_is_not_shortened BEFORE DELETE ON journal
    BEGIN SELECT RAISE(ABORT, 'the journal is only added to'); END;
""",
    """
CREATE TABLE changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, actor TEXT NOT NULL, text TEXT NOT NULL,
    migrations INTEGER NOT NULL
) STRICT;
CREATE TABLE change_log (
    id INTEGER PRIMARY KEY, change INTEGER NOT NULL REFERENCES changes ON DELETE CASCADE, sql TEXT NOT NULL
) STRICT;
CREATE INDEX change_log_by_change ON change_log (change);
CREATE TABLE confirmation (
    change INTEGER PRIMARY KEY REFERENCES changes ON DELETE CASCADE, deadline REAL NOT NULL
) STRICT;
""",
    """
CREATE TABLE master (
    only INTEGER PRIMARY KEY CHECK (only = 1), source TEXT NOT NULL, parameters TEXT NOT NULL,
    made_at REAL NOT NULL, failures INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE data_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT, wrapped BLOB NOT NULL, made_at REAL NOT NULL
) STRICT;
""",
    """
CREATE TABLE vault (
    only INTEGER PRIMARY KEY CHECK (only = 1), place TEXT NOT NULL,
    keys_in TEXT NOT NULL CHECK (keys_in IN ('vault', 'file'))
) STRICT;
CREATE TABLE vault_host (id TEXT NOT NULL) STRICT;
INSERT INTO vault_host (id) VALUES (lower(hex(randomblob(8))));
CREATE TABLE vault_entries (id BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
""",
)
"""The store's own tables. settings: small facts such as a seed; sysctl_before: values to give back; changes
and change_log: what was changed lately, and how to undo it; confirmation: the change that waits for one;
master: where the master key comes from, and how often a passphrase was wrong; data_keys: what secrets are
sealed with, each sealed with the master key; vault, vault_host and vault_entries: the Vault that holds the
keys, by what name it knows us, and what we made in it."""


def migrate(store: SqliteStore, features: Iterable[HasMigrations]) -> None:
    """Apply what is missing, a transaction a script; StoreError for a database of a newer version.

    Scripts of features that this program does not have are let be: a feature may have been taken out.
    """
    store.execute(_REGISTER)
    sets = [("core", CORE), *((feature.name, feature.migrations) for feature in features)]
    for name, scripts in sets:
        _refuse_newer(store, name, len(scripts))
    for name, scripts in sets:
        for number in range(_applied(store, name) + 1, len(scripts) + 1):
            _apply(store, name, number, scripts[number - 1])


def _applied(store: SqliteStore, name: str) -> int:
    return int(store.query("SELECT coalesce(max(number), 0) FROM migrations WHERE feature = ?", name)[0][0])


def _refuse_newer(store: SqliteStore, name: str, known: int) -> None:
    applied = _applied(store, name)
    if applied > known:
        raise StoreError(
            f"database {store.path} was made by a newer version: '{name}' is at {applied}, here at {known}",
            "install that version again, or restore a back-up from before it",
        )


def _apply(store: SqliteStore, name: str, number: int, script: str) -> None:
    with store.transaction():
        for statement in statements(script):
            store.execute(statement)
        store.execute(
            "INSERT INTO migrations (feature, number, applied_at) VALUES (?, ?, ?)", name, number, time.time()
        )


def statements(script: str) -> Iterator[str]:
    """The statements of a script; sqlite3's own executescript would commit before the first one."""
    statement = ""
    *parts, last = script.split(";")
    for part in parts:
        statement += f"{part};"
        if sqlite3.complete_statement(statement):  # False inside a trigger's body
            yield statement.strip()
            statement = ""
    if rest := (statement + last).strip():
        yield rest  # without its semicolon, which must not mean: left out
