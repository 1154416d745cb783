"""One SQLite file: durable, opened only if it is ours and whole, never made anew over an old one."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from resource_wireguard.errors import StoreError

APPLICATION_ID = 0x52_77_67_31
"""'Rwg1' in the file's header (SQLite file format, section 1.3.17): tells our database from a foreign one."""

BUSY_SECONDS = 5.0
"""How long to wait for a lock: only a person with the sqlite3 shell can hold one, the agent is alone."""

FULL_CHECK_MOST = 16 * 1024 * 1024
"""Bytes up to which every page is checked on opening: 16 MB take about 50 ms, and hold some 30,000 peers.
Of larger files only header and schema are read; SQLite still refuses a bad page when it meets one."""

_MAGIC = b"SQLite format 3\x00"

_ASIDE = "restore a back-up, or move the file away to begin anew"

_HINTS = {
    sqlite3.SQLITE_FULL: "free some space on the disk, then try again",
    sqlite3.SQLITE_IOERR: "look at the disk and its free space, then try again",
    sqlite3.SQLITE_READONLY: "make the file and its directory writable for the agent",
    sqlite3.SQLITE_CANTOPEN: "make the file and its directory accessible for the agent",
    sqlite3.SQLITE_PERM: "make the file and its directory accessible for the agent",
    sqlite3.SQLITE_BUSY: "another program holds the database: close it, then try again",
    sqlite3.SQLITE_CORRUPT: _ASIDE,
    sqlite3.SQLITE_NOTADB: _ASIDE,
}


class SqliteStore:
    """The Store port over one file. Owned by the agent alone, and used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _make_directory(path.parent)
        if path.exists():
            _refuse_unsound(path)
        else:
            _create(path)
        self._depth = 0
        self.before_commit: list[Callable[[], None]] = []
        self._connection = _connect(path)
        with self._told_plainly():
            for pragma in (
                "journal_mode = WAL",
                "synchronous = FULL",
                "foreign_keys = ON",
                "secure_delete = ON",
            ):
                self._connection.execute(f"PRAGMA {pragma}")

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """All rows of a SELECT."""
        with self._told_plainly():
            return self._connection.execute(sql, parameters).fetchall()

    def execute(self, sql: str, *parameters: Any) -> int:
        """One change; how many rows it met."""
        self._refuse_if_undone()
        with self._told_plainly():
            return self._connection.execute(sql, parameters).rowcount

    def execute_many(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """One change for many rows, all or nothing."""
        with self.transaction(), self._told_plainly():
            self._connection.executemany(sql, rows)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable at the end; an inner one undoes only what was done in it.

        before_commit is called last, inside: what it raises undoes all.
        """
        self._refuse_if_undone()
        begin, commit, undo = _statements(self._depth)
        self._run(begin)
        self._depth += 1
        try:
            with contextlib.ExitStack() as unless_committed:
                unless_committed.callback(self._undo, undo)
                yield
                self._refuse_if_undone()
                if self._depth == 1:
                    for work in self.before_commit:
                        work()
                self._run(commit)
                unless_committed.pop_all()
        finally:
            self._depth -= 1

    def close(self) -> None:
        """Write the log back into the file and let go of it."""
        with self._told_plainly():
            self._connection.close()

    def _run(self, sql: str) -> None:
        with self._told_plainly():
            self._connection.execute(sql)

    def _undo(self, statements: tuple[str, ...]) -> None:
        """Roll back, unless SQLite did so by itself, as it may when the disk is full."""
        if self._connection.in_transaction:
            for statement in statements:
                self._run(statement)

    def _refuse_if_undone(self) -> None:
        """A transaction that SQLite undid must not go on as a row of single changes."""
        if self._depth and not self._connection.in_transaction:
            raise StoreError(f"{self.path}: the change was undone after an error", "try again")

    @contextlib.contextmanager
    def _told_plainly(self) -> Iterator[None]:
        """Turn SQLite's errors into ours; their texts name tables and columns, never values."""
        try:
            yield
        except sqlite3.Error as error:
            raise _store_error(self.path, error) from None


def _statements(depth: int) -> tuple[str, str, tuple[str, ...]]:
    """How to begin, to commit and to undo at this depth of nesting."""
    if depth == 0:
        return "BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",)
    name = f"depth_{depth}"
    return f"SAVEPOINT {name}", f"RELEASE {name}", (f"ROLLBACK TO {name}", f"RELEASE {name}")


def _store_error(path: Path, error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    return StoreError(f"database {path}: {error}", _HINTS.get(code, "see the log of the agent"))


def _connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    """Open the file without ever creating it; transactions are begun by us alone.

    The thread that opens need not be the one that works (the agent hands the store to its engine's thread).
    """
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        return sqlite3.connect(
            uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise _store_error(path, error) from None


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make {directory}: {error.strerror}", "set CONFIG_DIR to a place you can write"
        ) from None


def _create(path: Path) -> None:
    """A new database, made under another name and then moved: an empty file is never a new one."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists():
        raise StoreError(f"database {path} is missing, but its log {log.name} is there", _ASIDE)
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _stamp(fresh)
        fresh.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(
            f"cannot make database {path}: {error.strerror}", "look at the disk's space and rights"
        ) from None


def _stamp(fresh: Path) -> None:
    connection = _connect(fresh)
    try:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    except sqlite3.Error as error:
        raise _store_error(fresh, error) from None
    finally:
        connection.close()


def sync_directory(directory: Path) -> None:
    """Make a rename durable (fsync(2): the directory needs its own)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_unsound(path: Path) -> None:
    """StoreError unless the file is ours and whole; looks read-only, so that a bad file stays as it is."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
        path.chmod(0o600)
    except OSError as error:
        raise StoreError(f"database {path}: {error.strerror}", _HINTS[sqlite3.SQLITE_CANTOPEN]) from None
    if magic != _MAGIC:
        raise StoreError(f"{path} is not a database, or its beginning is damaged", _ASIDE)
    connection = _connect(path, "ro")
    try:
        _check_pages(path, connection)
    except sqlite3.Error as error:
        raise _store_error(path, error) from None
    finally:
        connection.close()


def _check_pages(path: Path, connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{path} is the database of another program", "set CONFIG_DIR to another place")
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if path.stat().st_size > FULL_CHECK_MOST:
        return
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreError(f"database {path} is damaged: {found}", _ASIDE)
