"""The database: what was committed stays, what was not leaves nothing, and a bad file stays as it was."""

import os
import resource
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from resource_wireguard.errors import StoreError
from resource_wireguard.store.migrations import migrate
from resource_wireguard.store.sqlite import SqliteStore


@pytest.fixture
def names(store: SqliteStore) -> SqliteStore:
    store.execute("CREATE TABLE names (name TEXT) STRICT")
    return store


def rows(store: SqliteStore) -> list[str]:
    return [name for (name,) in store.query("SELECT name FROM names ORDER BY rowid")]


def add(store: SqliteStore, name: str) -> None:
    store.execute("INSERT INTO names VALUES (?)", name)


class Refused(Exception):
    pass


def test_what_is_committed_is_there_after_reopening(names: SqliteStore, path: Path) -> None:
    with names.transaction():
        add(names, "one")
    assert rows(SqliteStore(path)) == ["one"]


def test_the_file_and_its_directory_are_the_owners_alone(names: SqliteStore, path: Path) -> None:
    add(names, "one")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    files = sorted(file.name for file in path.parent.iterdir())
    assert files == ["state.db", "state.db-shm", "state.db-wal"]
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("why", [Refused, KeyboardInterrupt])
def test_an_exception_undoes_all(names: SqliteStore, why: type[BaseException]) -> None:
    with pytest.raises(why), names.transaction():
        add(names, "one")
        raise why
    assert rows(names) == []
    add(names, "two")
    assert rows(names) == ["two"]


def test_what_is_refused_just_before_the_commit_is_undone(names: SqliteStore) -> None:
    def refuse() -> None:
        raise Refused

    names.before_commit.append(refuse)
    with pytest.raises(Refused), names.transaction():
        add(names, "one")
    names.before_commit.clear()
    assert rows(names) == []


def test_an_inner_transaction_undoes_only_itself(names: SqliteStore) -> None:
    with names.transaction():
        add(names, "outer")
        with pytest.raises(Refused), names.transaction():
            add(names, "inner")
            with names.transaction():
                add(names, "innermost")
            raise Refused
        add(names, "after")
    assert rows(names) == ["outer", "after"]


def test_an_outer_transaction_undoes_the_inner_one(names: SqliteStore) -> None:
    with pytest.raises(Refused), names.transaction():
        with names.transaction():
            add(names, "inner")
        raise Refused
    assert rows(names) == []


def test_many_rows_go_in_all_or_none(names: SqliteStore) -> None:
    names.execute("CREATE UNIQUE INDEX one_name ON names (name)")
    with pytest.raises(StoreError, match="UNIQUE"):
        names.execute_many("INSERT INTO names VALUES (?)", [("a",), ("b",), ("a",)])
    assert rows(names) == []


def test_foreign_keys_hold_and_commits_are_durable(store: SqliteStore) -> None:
    pragmas = {name: store.query(f"PRAGMA {name}")[0][0] for name in ("foreign_keys", "synchronous")}
    assert pragmas == {"foreign_keys": 1, "synchronous": 2}
    assert store.query("PRAGMA journal_mode") == [("wal",)]


def test_a_killed_writer_leaves_the_committed_state(names: SqliteStore, path: Path) -> None:
    add(names, "kept")
    child = os.fork()
    if child == 0:
        other = SqliteStore(path)
        with other.transaction():
            add(other, "never committed")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert rows(SqliteStore(path)) == ["kept"]


def test_another_holder_of_the_lock_is_named(
    names: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource_wireguard.store.sqlite.BUSY_SECONDS", 0.05)
    second = SqliteStore(path)
    with names.transaction(), pytest.raises(StoreError) as refused, second.transaction():
        pass
    assert "another program" in refused.value.hint


# Files that are not ours, or not whole ----------------------------------------------------------


def refused_untouched(path: Path) -> StoreError:
    """Opening refuses; the bytes of the file are as they were, and nothing new lies beside it."""
    before = path.read_bytes()
    with pytest.raises(StoreError) as refused:
        SqliteStore(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir() if "new" in file.name] == []
    assert str(path) in refused.value.message
    return refused.value


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\x00", os.urandom(8192)])
def test_what_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    assert "back-up" in refused_untouched(path).hint


def test_a_damaged_page_is_refused(path: Path) -> None:
    opened = SqliteStore(path)
    migrate(opened, [])
    opened.execute("CREATE TABLE names (name TEXT) STRICT")
    opened.execute_many("INSERT INTO names VALUES (?)", [("x" * 500,)] * 100)
    opened.close()
    content = bytearray(path.read_bytes())
    content[-4096 * 3 : -4096] = os.urandom(8192)
    path.write_bytes(content)
    assert "back-up" in refused_untouched(path).hint


def test_a_truncated_file_is_refused(path: Path) -> None:
    opened = SqliteStore(path)
    migrate(opened, [])
    opened.close()
    os.truncate(path, 4096 * 2)
    refused_untouched(path)


def test_the_database_of_another_program_is_refused(path: Path) -> None:
    path.parent.mkdir()
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE theirs (x)")
    foreign.commit()
    foreign.close()
    assert "another program" in refused_untouched(path).message


def test_a_log_without_its_database_is_not_written_over(path: Path) -> None:
    path.parent.mkdir()
    log = path.with_name("state.db-wal")
    log.write_bytes(b"the only copy of something")
    with pytest.raises(StoreError, match="missing, but its log"):
        SqliteStore(path)
    assert log.read_bytes() == b"the only copy of something"
    assert not path.exists()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot make"):
        SqliteStore(tmp_path / "file" / "state.db")


# A full disk ------------------------------------------------------------------------------------


@pytest.fixture
def no_file_grows() -> Iterator[None]:
    """As on a full disk: a write beyond 128 kB fails with EFBIG, which SQLite reports as it does ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (131_072, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_leaves_the_old_state(names: SqliteStore, no_file_grows: None) -> None:
    add(names, "old")
    with pytest.raises(StoreError) as refused, names.transaction():
        add(names, "x" * 200_000)
    assert "space" in refused.value.hint
    assert rows(names) == ["old"]
    assert names.query("PRAGMA integrity_check") == [("ok",)]


def test_a_transaction_that_sqlite_undid_does_not_go_on_in_pieces(names: SqliteStore) -> None:
    with pytest.raises(StoreError, match="was undone"), names.transaction():
        add(names, "one")
        names._connection.execute("ROLLBACK")  # what SQLite does by itself on some errors
        add(names, "two")
    assert rows(names) == []
