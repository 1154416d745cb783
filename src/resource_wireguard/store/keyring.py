"""The data keys that secrets are sealed with, and the master key that these are wrapped with.

The master key is held only while it is used. A change of it makes a new data key, too, and seals all secrets
anew: who had the old master and an old copy of the database opens nothing that came later. Older data keys
are kept, under the new master, as long as something needs them: a change that can be taken back holds secrets
as they were sealed then.

Database and key file cannot change in one step. So a new key lies beside the old one before the database's
transaction, and takes its place after it; at each start the key that fits is the right one.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from resource_wireguard.errors import InvalidInput, KeysUnavailable, StoreError
from resource_wireguard.store.master import MasterSource
from resource_wireguard.store.passphrase import PassphraseSource
from resource_wireguard.store.seal import KEY_BYTES, Cipher, cipher_of, erase, unwrap, wrap
from resource_wireguard.store.sqlite import SqliteStore

WAIT_MOST = 300.0
"""Seconds at most until another passphrase may be tried: one after the first wrong one, then doubled."""


class Master(msgspec.Struct, frozen=True):
    """What the database says of the master key; made_at in Unix seconds."""

    source: str
    parameters: Mapping[str, Any]
    made_at: float


class Keyring:
    """The data keys of one database, by their numbers; the highest one seals."""

    def __init__(self, store: SqliteStore, sources: Iterable[MasterSource]) -> None:
        self._store = store
        self.sources = {source.kind: source for source in sources}
        self._keys: dict[int, bytearray] = {}
        self._ciphers: dict[int, Cipher] = {}
        self.why: KeysUnavailable | None = None

    def __repr__(self) -> str:
        return f"Keyring({self._store.path})"

    def master(self) -> Master | None:
        """What is known of the master key; None before there is one, and in a database of format 1."""
        rows = self._store.query("SELECT source, parameters, made_at FROM master")
        return Master(rows[0][0], json.loads(rows[0][1]), rows[0][2]) if rows else None

    def sealing(self) -> tuple[int, Cipher]:
        """The data key for what is sealed now; KeysUnavailable while there is none."""
        self.refuse_while_unavailable()
        return self.newest()

    def newest(self) -> tuple[int, Cipher]:
        """The data key that seals, while one is being taken into use as well."""
        number = max(self._ciphers)
        return number, self._ciphers[number]

    def opening(self, number: int) -> Cipher | None:
        """The data key of a number, if it is known."""
        return self._ciphers.get(number)

    def refuse_while_unavailable(self) -> None:
        """KeysUnavailable, in the words of the last attempt."""
        if self.why is not None:
            raise KeysUnavailable(self.why.message, self.why.hint)

    # Opening ------------------------------------------------------------------------------------

    def open(self) -> None:
        """Get the master key from its source and unwrap the data keys; KeysUnavailable if that fails."""
        try:
            master = self.master()
            assert master is not None
            self._open(master)
            self.why = None
        except KeysUnavailable as error:
            self.why = error
            raise

    def _open(self, master: Master) -> None:
        source = self.source(master.source)
        for key in source.find(master.parameters):
            if self._unwrap(key):
                with contextlib.suppress(StoreError):  # the keys are here; the next start tidies up
                    self._settle(source, key)
                erase(key)
                return
            erase(key)
        raise self.does_not_fit(source.place(master.parameters))

    def does_not_fit(self, place: str) -> KeysUnavailable:
        """What to say of a master key that is another one."""
        return DoesNotFit(
            f"the master key in {place} is not the one that sealed {self._store.path}",
            "put back the key that belongs to this database",
        )

    def source(self, kind: str) -> MasterSource:
        """The source of that name; KeysUnavailable where this service has none."""
        if kind not in self.sources:
            raise KeysUnavailable(
                f"the master key comes from '{kind}', which this service was not set up for",
                "docs/keys.md says what it needs",
            )
        return self.sources[kind]

    def _unwrap(self, master: bytearray) -> bool:
        """Whether this master key opens the data key that seals; then all are at hand."""
        rows = self._store.query("SELECT id, wrapped FROM data_keys ORDER BY id")
        found = {number: unwrap(master, number, wrapped) for number, wrapped in rows}
        if not found or found[max(found)] is None:
            return False
        self._hold({number: key for number, key in found.items() if key is not None})
        return True

    def _hold(self, keys: dict[int, bytearray]) -> None:
        kept = {id(key) for key in keys.values()}
        erase(*(key for key in self._keys.values() if id(key) not in kept))
        self._keys = keys
        self._ciphers = {number: cipher_of(key) for number, key in keys.items()}

    def _settle(self, source: MasterSource, key: bytearray) -> None:
        """Put what install() began, or was killed in, to its end."""
        source.settle(key)
        for other in self.sources.values():
            if other is not source:
                other.forget()

    # A passphrase -------------------------------------------------------------------------------

    def unlock(self, passphrase: bytearray) -> None:
        """Open with a passphrase, which is erased; InvalidInput for a wrong one, and while it has to wait."""
        try:
            self._unlock(passphrase)
        finally:
            erase(passphrase)

    def _unlock(self, passphrase: bytearray) -> None:
        """A wrong passphrase counts before it is tried: no end of the agent forgets it."""
        master, source = self.master(), self.sources.get(PassphraseSource.kind)
        if (
            master is None
            or master.source != PassphraseSource.kind
            or not isinstance(source, PassphraseSource)
        ):
            raise InvalidInput(
                "the keys of this host are not locked with a passphrase",
                "see 'resource-wireguard keys status'",
            )
        failures = self._count_attempt()
        source.offer(passphrase)
        try:
            self._open(master)
        except DoesNotFit:
            raise InvalidInput(
                "the passphrase does not open the keys", f"try again in {_wait(failures):.0f} s"
            ) from None
        self.why = None
        self._store.execute("UPDATE master SET failures = 0, not_before = 0")

    def _count_attempt(self) -> int:
        failures, not_before = self._store.query("SELECT failures, not_before FROM master")[0]
        now = time.time()
        left = min(not_before - now, _wait(failures))  # a clock that was set back must not lock for ever
        if left > 0:
            raise InvalidInput(
                f"wrong passphrases so far: {failures}; the next may be tried in {math.ceil(left)} s",
                "then run it again",
            )
        self._store.execute(
            "UPDATE master SET failures = ?, not_before = ?", failures + 1, now + _wait(failures + 1)
        )
        return int(failures) + 1

    # A new master key ---------------------------------------------------------------------------

    def install(self, kind: str, seal_anew: Callable[[], None], found: bytearray | None = None) -> None:
        """A new master key of a source (or one that was found there) and a new data key, in one transaction.

        seal_anew seals all secrets with the new data key; the old ones still open.
        """
        source, before = self.source(kind), self.master()
        same = before is not None and before.source == kind
        key, parameters = (
            (found, {}) if found else source.make(before.parameters if before and same else None)
        )
        with contextlib.ExitStack() as unless_stored:
            unless_stored.callback(source.abandon)
            unless_stored.callback(erase, key)
            unless_stored.callback(self._hold, self._keys)
            with self._store.transaction():
                self._begin_data_key()
                seal_anew()
                self._wrap_needed(key)
                self._store.execute(
                    "INSERT OR REPLACE INTO master (only, source, parameters, made_at) VALUES (1, ?, ?, ?)",
                    *(kind, json.dumps(parameters), time.time()),
                )
            unless_stored.pop_all()
        kept = {number for (number,) in self._store.query("SELECT id FROM data_keys")}
        self._hold({number: key for number, key in self._keys.items() if number in kept})
        self.why = None
        self._store.query("PRAGMA wal_checkpoint(TRUNCATE)")  # the old wrappings are in no file any more
        try:
            self._settle(source, key)
        finally:
            erase(key)

    def _begin_data_key(self) -> None:
        now = time.time()
        self._store.execute("INSERT INTO data_keys (wrapped, made_at) VALUES (x'', ?)", now)
        number = self._store.query("SELECT max(id) FROM data_keys")[0][0]
        self._keys = {**self._keys, number: bytearray(os.urandom(KEY_BYTES))}
        self._ciphers = {**self._ciphers, number: cipher_of(self._keys[number])}

    def _wrap_needed(self, master: bytearray) -> None:
        """Wrap with a new master what something is still sealed with; the rest of the data keys go."""
        newest = max(self._keys)
        for (number,) in self._store.query("SELECT id FROM data_keys"):
            key = self._keys.get(number)
            if key is None or (number != newest and not self._is_needed(number)):
                self._store.execute("DELETE FROM data_keys WHERE id = ?", number)
            else:
                wrapped = wrap(master, number, key)
                self._store.execute("UPDATE data_keys SET wrapped = ? WHERE id = ?", wrapped, number)

    def _is_needed(self, number: int) -> bool:
        """Whether a secret, or what undoes a change of one, is sealed with a data key."""
        begins = f"02{number:08X}"
        return bool(
            self._store.query("SELECT 1 FROM secrets WHERE hex(substr(sealed, 1, 5)) = ?", begins)
            or self._store.query("SELECT 1 FROM change_log WHERE instr(sql, ?)", f"X'{begins}")
        )


class DoesNotFit(KeysUnavailable):
    """The key that was tried is another one."""


def _wait(failures: int) -> float:
    """Seconds until the next attempt, after so many wrong ones."""
    return min(2.0 ** (failures - 1), WAIT_MOST) if failures else 0.0
