"""Our entries in a Vault: some secrets each, written once under a name of chance, and never changed.

One entry takes all secrets of one change of the database, so a change is a round trip or two, however
many keys it brings, and loading a thousand keys is a few. Each says whose it is, and carries a digest of
what is in it. Its first version alone is read: what others may write over it counts for nothing. The
secrets are one text, as servers bound the number of strings in a request (OpenBao: 1,000).

    MOUNT/PATH/owner        whose PATH is; made with check-and-set, so two hosts never share one
    MOUNT/PATH/keys/ID      secrets by name
"""

import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from resource_wireguard.errors import ConflictError, DamagedSecret, KeysUnavailable
from resource_wireguard.model.vault import VaultPlace
from resource_wireguard.store.vault import Vault

MARK = "resource-wireguard"

ID_BYTES = 16

MOST = 2000
"""Secrets in one entry: some 200 kB, and Vaults keep half a megabyte (Consul) to one (raft) in an entry."""


class Entries:
    """The entries of one host in one Vault; each failure is one line (KeysUnavailable, DamagedSecret)."""

    def __init__(self, place: VaultPlace, host: str) -> None:
        self.vault = Vault(place)
        self.place = place
        self._owner = {"owner": MARK, "host": host}

    def claim(self) -> None:
        """Make the path ours; ConflictError where there is anything in it that is not."""
        path, where = self.place.path, f"'{self.place.mount}/{self.place.path}'"
        self.vault.check_engine()
        ours = self.vault.read(f"{path}/owner")
        if ours == self._owner:
            return
        if ours is not None and ours.get("owner") == MARK:
            raise ConflictError(f"{where} in the Vault holds the keys of another host", _ANOTHER_PATH)
        if ours is not None or self.vault.read(path) is not None or self.vault.names(path):
            raise ConflictError(f"{where} in the Vault holds secrets of others", _ANOTHER_PATH)
        self.vault.create(f"{path}/owner", self._owner)

    def write(self, id_: bytes, secrets: Mapping[str, bytes]) -> None:
        """Make an entry, and read it back; KeysUnavailable unless it is there as it was meant."""
        self.vault.create(self._path(id_), {**self._owner, **_encoded(id_, secrets)})
        if self.read(id_) != secrets:
            raise KeysUnavailable(
                f"Vault at {self.place.address} does not keep what it is given", "try again"
            )

    def read(self, id_: bytes) -> dict[str, bytes]:
        """The secrets of an entry; DamagedSecret where it is gone, or not as it was written."""
        held = self.vault.read(self._path(id_), version=1)
        secrets = _decoded(id_, held) if held is not None else None
        if secrets is None:
            fate = "was altered or cut short" if held is not None else "is gone"
            raise DamagedSecret(
                f"the entry {self.place.mount}/{self._path(id_)} in the Vault {fate}", "restore a back-up"
            )
        return secrets

    def remove(self, id_: bytes) -> None:
        """Remove an entry if it is ours; one that is gone already is as it should be."""
        path = self._path(id_)
        if self._is_ours(path):
            self.vault.delete(path)

    def remove_all_but(self, kept: Iterable[bytes]) -> None:
        """Remove what else of ours is there: entries whose change was broken off just before its commit."""
        keys = f"{self.place.path}/keys"
        for name in sorted(set(self.vault.names(keys)).difference(id_.hex() for id_ in kept)):
            if self._is_ours(f"{keys}/{name}"):
                self.vault.delete(f"{keys}/{name}")

    def leave(self) -> None:
        """Remove all of our entries, and then our claim on the path."""
        self.remove_all_but(())
        if self._is_ours(f"{self.place.path}/owner"):
            self.vault.delete(f"{self.place.path}/owner")

    def _is_ours(self, path: str) -> bool:
        held = self.vault.read(path)
        return held is not None and self._owner.items() <= held.items()

    def _path(self, id_: bytes) -> str:
        return f"{self.place.path}/keys/{id_.hex()}"


_ANOTHER_PATH = "name a path that is this host's alone: --path; nothing was written"


def new_id() -> bytes:
    """The name of an entry that nobody else makes."""
    return os.urandom(ID_BYTES)


def _encoded(id_: bytes, secrets: Mapping[str, bytes]) -> dict[str, str]:
    text = msgspec.json.encode({name: b64encode(secret).decode() for name, secret in secrets.items()})
    return {"secrets": text.decode(), "sha256": _digest(id_, text)}


def _decoded(id_: bytes, held: Mapping[str, Any]) -> dict[str, bytes] | None:
    text = str(held.get("secrets", "")).encode()
    if held.get("sha256") != _digest(id_, text):
        return None
    named = msgspec.json.decode(text, type=dict[str, str])
    return {name: b64decode(secret) for name, secret in named.items()}


def _digest(id_: bytes, text: bytes) -> str:
    return hashlib.sha256(id_ + text).hexdigest()
