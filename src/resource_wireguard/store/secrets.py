"""Keys at rest in the database: each sealed with a data key, which is itself sealed with the master key."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from resource_wireguard.errors import DamagedSecret, KeysUnavailable
from resource_wireguard.model.custody import Custody
from resource_wireguard.model.keys import KEY_BYTES, PresharedKey, PrivateKey
from resource_wireguard.model.vault import TransitKey
from resource_wireguard.store.keyring import Keyring
from resource_wireguard.store.master import CredentialSource, FileSource
from resource_wireguard.store.passphrase import PassphraseSource
from resource_wireguard.store.seal import POINTER, Cipher, cipher_of, erase, parse, seal, unseal
from resource_wireguard.store.sqlite import SqliteStore
from resource_wireguard.store.transit import TransitSource

PROOF = "proof"
"""In a database of format 1: a secret that only proved that the master key belongs to it."""

TOLD_EVERY = 1000
"""Secrets between two words of progress: some hundredths of a second."""

_SEALED_HERE = f"SELECT name, sealed FROM secrets WHERE substr(sealed, 1, 1) <> x'{POINTER:02x}'"  # noqa: S608

_BEGINS = "name >= ?1 AND name < ?1 || char(1114111)"
"""SQL: the name begins with the parameter. A range, which the primary key's index can serve."""


class FileSecrets:
    """The Secrets port over the table 'secrets', and so part of the surrounding transaction.

    It opens by itself if it can. If not, it says so when it is asked for a key, and recover() tries again.
    """

    def __init__(
        self,
        store: SqliteStore,
        key_path: Path,
        credentials: Path | None = None,
    ) -> None:
        self._store = store
        self._file, self._credential = FileSource(key_path), CredentialSource(credentials)
        self._keyring = Keyring(store, (self._file, self._credential, PassphraseSource(), TransitSource()))
        self._legacy: Cipher | None = None
        self._try()

    def __repr__(self) -> str:
        return f"FileSecrets({self._store.path})"

    def new_private_key(self) -> PrivateKey:
        """A fresh Curve25519 private key, clamped as wg(8) does (RFC 7748, section 5)."""
        raw = bytearray(os.urandom(KEY_BYTES))
        raw[0] &= 248
        raw[31] = (raw[31] & 127) | 64
        return PrivateKey(bytes(raw))

    def new_preshared_key(self) -> PresharedKey:
        """A fresh symmetric key."""
        return PresharedKey(os.urandom(KEY_BYTES))

    def put(self, name: str, secret: bytes) -> None:
        """Seal and keep a secret; replaces an older one."""
        sealed = self._sealed(name, secret)
        self._store.execute("INSERT OR REPLACE INTO secrets (name, sealed) VALUES (?, ?)", name, sealed)

    def get(self, name: str) -> bytes | None:
        """Open one secret; None where there is none. DamagedSecret where the seal does not hold."""
        rows = self._store.query("SELECT sealed FROM secrets WHERE name = ?", name)
        return self._open(name, rows[0][0]) if rows else None

    def get_many(self, prefix: str) -> Mapping[str, bytes]:
        """Open all secrets whose names begin with prefix."""
        rows = self._store.query(f"SELECT name, sealed FROM secrets WHERE {_BEGINS}", prefix)  # noqa: S608
        return {name: self._open(name, sealed) for name, sealed in rows}

    def delete(self, prefix: str) -> None:
        """Forget all secrets whose names begin with prefix."""
        self._store.execute(f"DELETE FROM secrets WHERE {_BEGINS}", prefix)  # noqa: S608

    def unavailable(self) -> KeysUnavailable | None:
        """Why no key can be had; None while they can."""
        return self._keyring.why

    def recover(self) -> None:
        """Try again to get at the keys, if they cannot be had."""
        if self._keyring.why is not None:
            self._try()

    def custody(self) -> Custody:
        """Where the keys lie, and what opens them."""
        master, why = self._keyring.master(), self._keyring.why
        kind, parameters = (master.source, master.parameters) if master else (FileSource.kind, {})
        source = self._keyring.sources.get(kind)
        return Custody(
            source=kind,
            place=source.place(parameters) if source else "",
            made_at=master.made_at if master else None,
            secrets=self._store.query("SELECT count(*) FROM secrets")[0][0],
            unavailable=why.message if why else "",
            hint=why.hint if why else "",
        )

    def unlock(self, passphrase: bytearray) -> None:
        """Open with a passphrase, which is erased; InvalidInput for a wrong one."""
        self._keyring.unlock(passphrase)

    def rekey(
        self, source: str | None, offer: bytearray | TransitKey | None, progress: Callable[[str], None]
    ) -> Custody:
        """A new master key, from another source if one is named; all secrets are sealed anew, or none is."""
        try:
            return self._rekey(source, offer, progress)
        finally:
            if isinstance(offer, bytearray):
                erase(offer)

    def _rekey(
        self, source: str | None, offer: bytearray | TransitKey | None, progress: Callable[[str], None]
    ) -> Custody:
        self._keyring.refuse_while_unavailable()
        master = self._keyring.master()
        assert master is not None
        kind = source or master.source
        wanted = self._keyring.source(kind)
        if isinstance(offer, bytearray) and isinstance(wanted, PassphraseSource):
            wanted.offer(offer)
        if isinstance(offer, TransitKey) and isinstance(wanted, TransitSource):
            wanted.offer(offer)
        self._keyring.install(kind, lambda: self._seal_anew(progress))
        return self.custody()

    # The first time -----------------------------------------------------------------------------

    def _try(self) -> None:
        try:
            if self._keyring.master() is not None:
                self._keyring.open()
            elif self._store.query("SELECT 1 FROM secrets LIMIT 1"):
                self._migrate()
            else:
                self._begin()
        except KeysUnavailable as error:
            self._keyring.why = error

    def _begin(self) -> None:
        """A new database: a credential if the service has one, else the key file, which may be there."""
        if self._credential.names():
            self._keyring.install(CredentialSource.kind, lambda: None)
        else:
            found = next(self._file.find({})) if self._file.exists() else None
            self._keyring.install(FileSource.kind, lambda: None, found)

    def _migrate(self) -> None:
        """A database of format 1, in which the key in the file sealed each secret: it is the master key."""
        key = next(self._file.find({}))
        self._legacy = cipher_of(key)
        try:
            (sealed,) = self._store.query("SELECT sealed FROM secrets WHERE name = ?", PROOF)[0]
            unseal(self._legacy, parse(sealed), PROOF)
            self._keyring.install(FileSource.kind, self._seal_legacy_anew, key)
        except (ValueError, IndexError):
            raise self._keyring.does_not_fit(self._file.place({})) from None
        finally:
            self._legacy = None
            erase(key)

    def _seal_legacy_anew(self) -> None:
        self._store.execute("DELETE FROM secrets WHERE name = ?", PROOF)
        self._seal_anew(lambda _: None)

    # Sealing ------------------------------------------------------------------------------------

    def _seal_anew(self, progress: Callable[[str], None]) -> None:
        """Seal every secret with the newest data key; a damaged one stays as it is, for others to tell of."""
        rows = self._store.query(_SEALED_HERE)
        number, cipher = self._keyring.newest()
        for count, (name, sealed) in enumerate(rows):
            if count % TOLD_EVERY == 0:
                progress(f"sealing secret {count + 1} of {len(rows)}")
            try:
                anew = seal(cipher, number, name, self._open(name, sealed))
            except DamagedSecret:
                continue
            self._store.execute("UPDATE secrets SET sealed = ? WHERE name = ?", anew, name)

    def _sealed(self, name: str, secret: bytes) -> bytes:
        number, cipher = self._keyring.sealing()
        return seal(cipher, number, name, bytes(secret))

    def _open(self, name: str, sealed: bytes) -> bytes:
        try:
            parts = parse(sealed)
            cipher = self._legacy if parts.key is None else self._keyring.opening(parts.key)
            return unseal(cipher, parts, name)
        except ValueError:
            self._keyring.refuse_while_unavailable()
            raise DamagedSecret(
                f"the secret '{name}' in {self._store.path} was altered: its seal is broken",
                "restore a back-up",
            ) from None
