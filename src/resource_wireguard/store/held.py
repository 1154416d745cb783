"""All the places in the database where a secret lies: the table of secrets, and what undoes their changes.

The history keeps SQL (engine/history.py) in which a secret stands as SQLite's quote() writes it: X'02…'.
Secrets that move elsewhere have to be moved there as well, or taking a change back would find them gone.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from resource_wireguard.store.seal import POINTER
from resource_wireguard.store.sqlite import SqliteStore

_IN_HISTORY = re.compile(r"""'((?:[^']|'')*)', (?:"sealed" = )?X'([0-9A-F]+)'""")


class Held(NamedTuple):
    """One secret in one place: key is its name in the table 'secrets', or a row of the history."""

    key: str | int
    name: str
    sealed: bytes

    @property
    def in_history(self) -> bool:
        """Whether it undoes a change, rather than being in use."""
        return isinstance(self.key, int)

    @property
    def pointer(self) -> bytes | None:
        """The entry in a Vault that holds it; None where it is sealed here."""
        return pointed(self.sealed)


def pointer_to(entry: bytes) -> bytes:
    """What stands in the place of a secret that an entry in a Vault holds."""
    return bytes([POINTER]) + entry


def pointed(sealed: bytes) -> bytes | None:
    """The entry that a pointer names; None for a secret that is sealed here."""
    return sealed[1:] if sealed[:1] == bytes([POINTER]) else None


def all_held(store: SqliteStore) -> Iterator[Held]:
    """Every secret in every place."""
    for name, sealed in store.query("SELECT name, sealed FROM secrets ORDER BY name"):
        yield Held(name, name, sealed)
    noted = """SELECT id, sql FROM change_log WHERE sql LIKE '%"secrets"%' ORDER BY id"""
    for row, sql in store.query(noted):
        if found := _IN_HISTORY.search(sql):
            yield Held(row, found[1].replace("''", "'"), bytes.fromhex(found[2]))


def replace(store: SqliteStore, held: Held, sealed: bytes) -> None:
    """Put another form of the same secret there; nothing happens where it has changed since."""
    if isinstance(held.key, str):
        sql = "UPDATE secrets SET sealed = ? WHERE name = ? AND sealed = ?"
        store.execute(sql, sealed, held.key, held.sealed)
    else:
        sql = "UPDATE change_log SET sql = replace(sql, ?, ?) WHERE id = ?"
        store.execute(sql, _quoted(held.sealed), _quoted(sealed), held.key)


def _quoted(sealed: bytes) -> str:
    return f"X'{sealed.hex().upper()}'"
