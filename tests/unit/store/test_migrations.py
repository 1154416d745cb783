"""Migrations: each once, in order, all of a script or nothing; never backwards."""

from pathlib import Path

import msgspec
import pytest

from resource_wireguard.errors import StoreError
from resource_wireguard.store.migrations import migrate, statements
from resource_wireguard.store.sqlite import SqliteStore


class Feature(msgspec.Struct):
    name: str
    migrations: tuple[str, ...]


FIRST = "CREATE TABLE a (x TEXT) STRICT; INSERT INTO a VALUES ('first; of two');"
SECOND = "INSERT INTO a VALUES ('second');"


def rows(store: SqliteStore) -> list[str]:
    return [x for (x,) in store.query("SELECT x FROM a")]


def test_only_what_is_missing_is_applied(store: SqliteStore) -> None:
    migrate(store, [Feature("f", (FIRST,))])
    migrate(store, [Feature("f", (FIRST, SECOND))])
    migrate(store, [Feature("f", (FIRST, SECOND))])
    assert rows(store) == ["first; of two", "second"]


def test_a_script_that_fails_leaves_nothing(store: SqliteStore) -> None:
    with pytest.raises(StoreError):
        migrate(
            store, [Feature("f", (FIRST, "INSERT INTO a VALUES ('half'); INSERT INTO nowhere VALUES (1);"))]
        )
    assert rows(store) == ["first; of two"]
    assert store.query("SELECT number FROM migrations WHERE feature = 'f'") == [(1,)]


def test_a_newer_database_is_refused_before_anything_is_changed(store: SqliteStore) -> None:
    migrate(store, [Feature("f", (FIRST, SECOND))])
    with pytest.raises(StoreError, match="newer version"):
        migrate(store, [Feature("g", ("CREATE TABLE g (x);",)), Feature("f", (FIRST,))])
    assert store.query("SELECT 1 FROM sqlite_schema WHERE name = 'g'") == []


def test_a_feature_that_was_taken_out_does_no_harm(store: SqliteStore, path: Path) -> None:
    migrate(store, [Feature("f", (FIRST,))])
    migrate(SqliteStore(path), [])


def test_triggers_are_one_statement() -> None:
    script = "CREATE TRIGGER t BEFORE UPDATE ON a BEGIN SELECT 1; SELECT 2; END; SELECT 'x;y';"
    assert len(list(statements(script))) == 2


@pytest.mark.parametrize("sql", ["UPDATE journal SET text = ''", "DELETE FROM journal"])
def test_the_journal_is_only_added_to(store: SqliteStore, sql: str) -> None:
    store.execute(
        "INSERT INTO journal (at, actor, subject, text, result) VALUES (1, 'uid 0', 'home', 'x', '')"
    )
    with pytest.raises(StoreError, match="only added to"):
        store.execute(sql)
    assert store.query("SELECT text FROM journal") == [("x",)]
