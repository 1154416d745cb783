"""Keys at rest: each sealed under one master key that lies in a file of its own.

The seal is ChaCha20-Poly1305 (RFC 8439): the cipher of WireGuard itself, at full speed without AES
instructions (the small ARM boards that run WireGuard), and in every build of OpenSSL; AES-GCM-SIV, which
forgives a repeated nonce, needs OpenSSL 3.2. A repeated nonce is no worry here: 96 random bits, and a host
seals thousands of keys, not the 2**32 after which the chance of a repetition reaches 2**-33.

The name of a secret is sealed along as associated data: a row moved to another name does not open.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from resource_wireguard.errors import StoreError
from resource_wireguard.model.keys import KEY_BYTES, PresharedKey, PrivateKey
from resource_wireguard.store.sqlite import SqliteStore, sync_directory

VERSION = b"\x01"
"""The first byte of every sealed secret: version, 12 bytes of nonce, ciphertext, 16 bytes of tag."""

NONCE_BYTES = 12

PROOF = "proof"
"""The name of a secret that only proves, on opening, that this master key belongs to this database."""

_BEGINS = "name >= ?1 AND name < ?1 || char(1114111)"
"""SQL: the name begins with the parameter. A range, which the primary key's index can serve."""


class FileSecrets:
    """The Secrets port over the table 'secrets', and so part of the surrounding transaction."""

    def __init__(self, store: SqliteStore, key_path: Path) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        self._store = store
        self._key_path = key_path
        self._cipher = ChaCha20Poly1305(self._master_key())
        if self.get(PROOF) is None:
            self.put(PROOF, b"")

    def __repr__(self) -> str:
        return f"FileSecrets({self._key_path})"

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
        nonce = os.urandom(NONCE_BYTES)
        sealed = VERSION + nonce + self._cipher.encrypt(nonce, bytes(secret), name.encode())
        self._store.execute("INSERT OR REPLACE INTO secrets (name, sealed) VALUES (?, ?)", name, sealed)

    def get(self, name: str) -> bytes | None:
        """Open one secret; None where there is none. StoreError where the seal does not hold."""
        rows = self._store.query("SELECT sealed FROM secrets WHERE name = ?", name)
        return self._open(name, rows[0][0]) if rows else None

    def get_many(self, prefix: str) -> Mapping[str, bytes]:
        """Open all secrets whose names begin with prefix."""
        rows = self._store.query(f"SELECT name, sealed FROM secrets WHERE {_BEGINS}", prefix)  # noqa: S608
        return {name: self._open(name, sealed) for name, sealed in rows}

    def delete(self, prefix: str) -> None:
        """Forget all secrets whose names begin with prefix."""
        self._store.execute(f"DELETE FROM secrets WHERE {_BEGINS}", prefix)  # noqa: S608

    def _open(self, name: str, sealed: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        nonce, text = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            if sealed[:1] != VERSION:
                raise InvalidTag
            return self._cipher.decrypt(nonce, text, name.encode())
        except (InvalidTag, ValueError):
            raise StoreError(*self._does_not_open(name)) from None

    def _does_not_open(self, name: str) -> tuple[str, str]:
        if name == PROOF:
            return (
                f"the master key in {self._key_path} is not the one that sealed {self._store.path}",
                "put back the key file that belongs to this database",
            )
        return (
            f"the secret '{name}' in {self._store.path} was altered: its seal is broken",
            "restore a back-up",
        )

    def _master_key(self) -> bytes:
        """The key in the file; made only where there is nothing yet that it would have to open."""
        if self._key_path.exists():
            return _read_key(self._key_path)
        if self._store.query("SELECT 1 FROM secrets LIMIT 1"):
            raise StoreError(
                f"the master key {self._key_path} is missing, and {self._store.path} holds sealed secrets",
                "put back the key file that belongs to this database",
            )
        return _make_key(self._key_path)


def _read_key(path: Path) -> bytes:
    """Exactly 32 bytes from a file that only its owner can read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode & 0o777
            key = file.read(KEY_BYTES + 1)
    except OSError as error:
        raise StoreError(
            f"cannot read the master key {path}: {error.strerror}", "it must be a file of the agent's user"
        ) from None
    if mode & 0o077:
        raise StoreError(
            f"the master key {path} can be read by others (mode {mode:04o})", f"chmod 600 {path}"
        )
    if len(key) != KEY_BYTES:
        raise StoreError(f"the master key {path} is not {KEY_BYTES} bytes long", "put back the right file")
    return key


def _make_key(path: Path) -> bytes:
    """A new master key, durable before anything is sealed under it."""
    key = os.urandom(KEY_BYTES)
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(descriptor)
        fresh.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(
            f"cannot write the master key {path}: {error.strerror}", "look at the disk's space and rights"
        ) from None
    return key
