"""The Secrets port with the keys in a Vault: the database holds pointers, and goes on where a Vault cannot.

A change of the database is a transaction, and a Vault is no part of it. So nothing in a Vault is ever
changed: the secrets of a change are written there as one new entry just before its commit, and if they
cannot be, there is no change. An entry goes when no secret, and no change that can be taken back, points
to it any more.

What was read is kept in memory, as the specs are: while the Vault is sealed or out of reach, all that was
read before goes on, whatever passes and failing changes come meanwhile.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from resource_wireguard.errors import ConflictError, DamagedSecret, InvalidInput, KeysUnavailable
from resource_wireguard.model.custody import Custody, VaultCustody
from resource_wireguard.model.vault import VaultPlace
from resource_wireguard.store.entries import MOST, Entries, new_id
from resource_wireguard.store.held import Held, all_held, pointed, pointer_to, replace
from resource_wireguard.store.secrets import FileSecrets
from resource_wireguard.store.sqlite import SqliteStore

PAUSE_FIRST, PAUSE_MOST = 0.5, 10.0
"""Seconds until a Vault that gave nothing is asked again, doubled each time."""

TIDY_EVERY = 60.0
"""Seconds between two looks for entries that nothing needs any more."""

TIDIED = 16
"""Entries that are removed in one go, as each takes two questions to the Vault."""

ENTRIES_MOST = 64
"""Entries in use from which on small ones are put together: as many round trips does a start take."""

Progress = Callable[[str], None]

Opened = tuple[Held, bytes]


class VaultSecrets(FileSecrets):
    """Sealed secrets in the database, and pointers to those in a Vault, where one was set up by migrate()."""

    def __init__(self, store: SqliteStore, key_path: Path, credentials: Path | None = None) -> None:
        self._entries: Entries | None = None
        self._keys_in = "file"
        self._read: dict[bytes, dict[str, bytes]] = {}
        self._damaged: dict[bytes, DamagedSecret] = {}
        self._fresh: list[bytes] = []
        self._trouble: KeysUnavailable | None = None
        self._missing = False
        self._pause, self._not_before, self._tidy_at = PAUSE_FIRST, 0.0, 0.0
        super().__init__(store, key_path, credentials)
        store.before_commit.append(self._write_fresh)
        self._set_up()
        self.recover()

    # The port -----------------------------------------------------------------------------------

    def put(self, name: str, secret: bytes) -> None:
        """Keep a secret: sealed here, or in the entry that the commit of this change writes."""
        if self._keys_in != "vault":
            super().put(name, secret)
            return
        rows = self._store.query("SELECT sealed FROM secrets WHERE name = ?", name)
        entry = pointed(rows[0][0]) if rows else None
        if entry is not None and self._read.get(entry, {}).get(name) == secret:
            return  # as it was: no reason to ask a Vault that may be sealed
        with self._store.transaction():
            entry = self._fresh_entry(name)
            self._read[entry][name] = bytes(secret)
            self._store.execute(
                "INSERT OR REPLACE INTO secrets (name, sealed) VALUES (?, ?)", name, pointer_to(entry)
            )

    def unavailable(self) -> KeysUnavailable | None:
        """Why no key can be had; None while they can, if only because they were read before."""
        return super().unavailable() or (self._trouble if self._missing else None)

    def recover(self) -> None:
        """Renew what gives access, read what was not read yet, and tidy up; after a failure, with pauses."""
        super().recover()
        if self._entries is None or time.monotonic() < self._not_before:
            return
        try:
            self._look(self._entries)
        except (KeysUnavailable, InvalidInput) as error:
            self._note(error)

    def custody(self) -> Custody:
        """Where the keys lie, what opens them, and how the Vault is: it is asked, unless it pauses."""
        told = super().custody()
        if self._entries is None:
            return told
        if time.monotonic() >= self._not_before:
            try:
                self._entries.vault.look()
            except (KeysUnavailable, InvalidInput) as error:
                self._note(error)
        inside = len(self._in_use(count_all=True))
        trouble = self._trouble
        vault = VaultCustody(
            place=self._entries.place,
            keys_in=self._keys_in,
            inside=inside,
            outside=told.secrets - inside,
            trouble=trouble.message if trouble else "",
            hint=trouble.hint if trouble else "",
        )
        why = self.unavailable()
        return msgspec.structs.replace(
            told,
            vault=vault,
            unavailable=why.message if why else "",
            hint=why.hint if why else "",
        )

    def migrate(self, place: VaultPlace | None, progress: Progress) -> int:
        """Move all secrets, history included, into a Vault (None: the one in use); how many were moved.

        Whatever breaks off, each secret is in one place or the other; the next call goes on with the rest.
        """
        self._keyring.refuse_while_unavailable()
        entries = self._arrange(place)
        self._keep(entries, "vault")
        moved = self._move_all(self._move_in, "to the Vault", progress, inside=False)
        self._forget_old_pages()
        entries.remove_all_but(self._made())
        return moved

    def migrate_back(self, progress: Progress) -> int:
        """Seal all secrets in the database again, and remove what was ours in the Vault; how many moved."""
        if self._entries is None:
            return 0
        self._keyring.refuse_while_unavailable()
        entries = self._entries
        self._keep(entries, "file")
        moved = self._move_all(self._move_out, "from the Vault", progress, inside=True)
        progress("removing our entries from the Vault")
        if not any(held.pointer for held in all_held(self._store)):
            self._leave(entries)
        return moved

    # Reading and writing ------------------------------------------------------------------------

    def _open(self, name: str, sealed: bytes) -> bytes:
        entry = pointed(sealed)
        if entry is None:
            return super()._open(name, sealed)
        if damage := self._damaged.get(entry):
            raise DamagedSecret(damage.message, damage.hint)
        if entry not in self._read:
            self._fetch(entry)
        if name not in self._read[entry]:
            raise DamagedSecret(
                f"the secret '{name}' is not where it was put in the Vault", "restore a back-up"
            )
        return self._read[entry][name]

    def _fetch(self, entry: bytes) -> None:
        """Read an entry; at once KeysUnavailable, while the Vault was found to give nothing."""
        if self._entries is None:
            raise KeysUnavailable("the Vault that holds the keys is not known", "restore a back-up")
        if self._trouble is not None and time.monotonic() < self._not_before:
            raise KeysUnavailable(self._trouble.message, self._trouble.hint)
        try:
            self._read[entry] = self._entries.read(entry)
        except DamagedSecret as error:
            self._damaged[entry] = error
            raise
        except KeysUnavailable as error:
            self._note(error)
            raise

    def _fresh_entry(self, name: str) -> bytes:
        """The entry that the open transaction makes; another one if it is full, or has that name already."""
        if not self._fresh or name in self._read[self._fresh[-1]] or len(self._read[self._fresh[-1]]) >= MOST:
            self._fresh.append(new_id())
            self._read[self._fresh[-1]] = {}
        return self._fresh[-1]

    def _write_fresh(self) -> None:
        """The last step of a transaction: what it still wants of its new secrets goes into the Vault."""
        fresh, self._fresh = self._fresh, []
        for entry in fresh:
            rows = self._store.query("SELECT name FROM secrets WHERE sealed = ?", pointer_to(entry))
            wanted = {name: self._read[entry][name] for (name,) in rows}
            del self._read[entry]
            if wanted:
                self._write(entry, wanted)

    def _write(self, entry: bytes, secrets: dict[str, bytes]) -> None:
        assert self._entries is not None
        self._store.execute("INSERT INTO vault_entries (id) VALUES (?)", entry)
        try:
            self._entries.write(entry, secrets)
        except KeysUnavailable as error:
            self._note(error)
            raise
        self._read[entry] = secrets

    # Looking after it ---------------------------------------------------------------------------

    def _look(self, entries: Entries) -> None:
        entries.vault.tend()
        self._missing, self._damaged = True, {}
        for entry in self._in_use():
            if entry not in self._read:
                try:
                    self._read[entry] = entries.read(entry)
                except DamagedSecret as error:
                    self._damaged[entry] = error
        self._missing = False
        if time.monotonic() >= self._tidy_at:
            self._tidy(entries)
            self._tidy_at = time.monotonic() + TIDY_EVERY
        self._trouble, self._pause = None, PAUSE_FIRST

    def _note(self, error: KeysUnavailable | InvalidInput) -> None:
        """Remember what is wrong, and wait longer each time."""
        self._trouble = KeysUnavailable(error.message, error.hint)
        self._not_before = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, PAUSE_MOST)

    def _tidy(self, entries: Entries) -> None:
        """Remove some entries that nothing points to, and put small ones together where there are many."""
        in_use = self._in_use()
        idle = self._made().difference(in_use)
        if idle:
            idle.difference_update(held.pointer for held in all_held(self._store) if held.pointer)
        for entry in sorted(idle)[:TIDIED]:
            entries.remove(entry)
            self._store.execute("DELETE FROM vault_entries WHERE id = ?", entry)
            self._read.pop(entry, None)
        small = {entry for entry in in_use if 0 < len(self._read.get(entry, ())) < MOST // 2}
        if self._keys_in == "vault" and len(small) > ENTRIES_MOST:
            for batch in _batches(self._opened(h for h in all_held(self._store) if h.pointer in small)):
                self._move_in(batch)

    def _made(self) -> set[bytes]:
        """The entries that this database knows to be its own."""
        return {entry for (entry,) in self._store.query("SELECT id FROM vault_entries")}

    def _in_use(self, *, count_all: bool = False) -> list[bytes]:
        """The entries that secrets are in; count_all: once for each secret."""
        some = "" if count_all else "DISTINCT"
        rows = self._store.query(f"SELECT {some} sealed FROM secrets WHERE substr(sealed, 1, 1) = x'03'")  # noqa: S608
        return [sealed[1:] for (sealed,) in rows]

    # Moving -------------------------------------------------------------------------------------

    def _move_all(
        self, move: Callable[[list[Opened]], None], where: str, progress: Progress, *, inside: bool
    ) -> int:
        """Move all that is inside or outside; first what is in use: that much a lost Vault leaves us."""
        every = [held for held in all_held(self._store) if (held.pointer is not None) == inside]
        moved = 0
        for history in (False, True):
            for batch in _batches(self._opened(held for held in every if held.in_history == history)):
                progress(f"moving secret {moved + 1} of {len(every)} {where}")
                move(batch)
                moved += len(batch)
        return moved

    def _opened(self, every: Iterable[Held]) -> list[Opened]:
        """These with their secrets; damaged ones are left out, and so stay where they are."""
        opened = []
        for held in every:
            with suppress(DamagedSecret):
                opened.append((held, self._open(held.name, held.sealed)))
        return opened

    def _move_in(self, batch: list[Opened]) -> None:
        """Write some secrets as one entry, see that it is there, and only then point to it."""
        entry = new_id()
        with self._store.transaction():
            for held, _ in batch:
                replace(self._store, held, pointer_to(entry))
            self._write(entry, {held.name: secret for held, secret in batch})

    def _move_out(self, batch: list[Opened]) -> None:
        """Seal some secrets here, and see that they open."""
        with self._store.transaction():
            for held, secret in batch:
                sealed = self._sealed(held.name, secret)
                if super()._open(held.name, sealed) != secret:
                    raise KeysUnavailable(f"the secret '{held.name}' does not open once sealed", "try again")
                replace(self._store, held, sealed)

    def _forget_old_pages(self) -> None:
        """Old sealed copies are overwritten in the file (secure_delete), and now in its log as well."""
        self._store.query("PRAGMA wal_checkpoint(TRUNCATE)")

    # Setting up ---------------------------------------------------------------------------------

    def _set_up(self) -> None:
        for place, keys_in in self._store.query("SELECT place, keys_in FROM vault"):
            self._entries = self._entries_at(msgspec.json.decode(place, type=VaultPlace))
            self._keys_in, self._missing = keys_in, True

    def _entries_at(self, place: VaultPlace) -> Entries:
        return Entries(place, self._store.query("SELECT id FROM vault_host")[0][0])

    def _arrange(self, place: VaultPlace | None) -> Entries:
        """The way to a place that is ours; ConflictError where it is not, or where the keys lie elsewhere."""
        if self._entries is None and place is None:
            raise InvalidInput("no Vault is set up yet", "--address, --path and the way in say where it is")
        entries = self._entries_at(place) if place else self._entries
        assert entries is not None
        if self._entries is not None and place is not None:
            self._refuse_elsewhere(self._entries.place, entries)
        entries.claim()
        return entries

    def _refuse_elsewhere(self, now: VaultPlace, entries: Entries) -> None:
        """Another address of the same Vault and another way in are welcome; another place is not."""
        for entry in self._in_use()[:1]:
            try:
                entries.read(entry)
            except DamagedSecret:
                raise ConflictError(
                    f"the keys lie in {now}", "'keys migrate --to file' brings them back first"
                ) from None

    def _keep(self, entries: Entries, keys_in: str) -> None:
        self._store.execute(
            "INSERT OR REPLACE INTO vault (only, place, keys_in) VALUES (1, ?, ?)",
            *(msgspec.json.encode(entries.place).decode(), keys_in),
        )
        self._entries, self._keys_in, self._trouble = entries, keys_in, None

    def _leave(self, entries: Entries) -> None:
        entries.leave()
        with self._store.transaction():
            self._store.execute("DELETE FROM vault_entries")
            self._store.execute("DELETE FROM vault")
        self._entries, self._read, self._fresh, self._missing = None, {}, [], False


def _batches(opened: list[Opened]) -> Iterator[list[Opened]]:
    """Groups that fit into an entry each: a name may be in it twice, with one and the same secret."""
    names: dict[str, bytes] = {}
    batch: list[Opened] = []
    for held, secret in opened:
        if len(names) >= MOST or names.get(held.name, secret) != secret:
            yield batch
            names, batch = {}, []
        names[held.name] = secret
        batch.append((held, secret))
    if batch:
        yield batch
