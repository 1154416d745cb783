"""A host's database and its place in a Vault."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.vault.server import Bao

from resource_wireguard.engine.history import Change, History
from resource_wireguard.model.vault import VaultPlace, checked
from resource_wireguard.store.migrations import migrate
from resource_wireguard.store.sqlite import SqliteStore
from resource_wireguard.store.vault_secrets import VaultSecrets
from resource_wireguard.system.clock import SystemClock


def policy(path: str, mount: str = "secret") -> str:
    """The policy that docs/vault.md tells people to write."""
    return f"""
path "{mount}/data/{path}/*" {{ capabilities = ["create", "read"] }}
path "{mount}/data/{path}" {{ capabilities = ["read"] }}
path "{mount}/metadata/{path}/*" {{ capabilities = ["list", "delete"] }}
"""


def silent(_: str) -> None:
    """No progress is told."""


class World:
    """Opens the database as often as a test wants; each time it is as after a start of the agent."""

    def __init__(self, bao: Bao, folder: Path, path: str) -> None:
        self.bao, self.folder, self.path = bao, folder, path
        folder.mkdir(exist_ok=True)
        self.token_file = folder / "token"
        self.write(self.token_file, bao.token(policy(path)))
        self._stores: list[SqliteStore] = []

    @staticmethod
    def write(file: Path, text: str) -> None:
        """A file that only its owner can read."""
        file.touch(0o600)
        file.write_text(f"{text}\n")

    def place(self, **more: Any) -> VaultPlace:
        """Our place, with the token as the way in unless another one is named."""
        way_in = {} if "role_id" in more else {"token_file": str(self.token_file)}
        given = {"ca": str(self.bao.ca), "path": self.path, **way_in, **more}
        return checked(VaultPlace(**{"address": self.bao.address, **given}))

    def open(self) -> VaultSecrets:
        """The secrets, as after a start."""
        self.close()
        store = SqliteStore(self.folder / "config" / "state.db")
        self._stores.append(store)
        migrate(store, [])
        self.history = History(store, SystemClock())
        return VaultSecrets(store, self.folder / "config" / "master.key")

    def migrated(self, **secrets: bytes) -> VaultSecrets:
        """Some secrets, moved into the Vault."""
        opened = self.open()
        for name, secret in secrets.items():
            opened.put(name, secret)
        opened.migrate(self.place(), silent)
        return opened

    @property
    def store(self) -> SqliteStore:
        return self._stores[-1]

    def close(self) -> None:
        for store in self._stores:
            store.close()
        self._stores.clear()

    @contextmanager
    def change(self) -> Iterator[None]:
        """A change that can be taken back."""
        with self.store.transaction(), self.history.recording("test"):
            yield

    def undo(self) -> Change:
        """Take the last change back."""
        change = self.history.last()
        with self.change():
            self.history.take_back(change)
        return change

    def local(self) -> list[str]:
        """The names of secrets that are sealed in the database, the history included."""
        rows = self.store.query("SELECT name FROM secrets WHERE substr(sealed, 1, 1) <> x'03'")
        told = self.store.query("SELECT sql FROM change_log WHERE sql LIKE '%X''02%'")
        return [name for (name,) in rows] + [sql for (sql,) in told]

    def entries(self) -> list[str]:
        """The entries of ours that lie in the Vault."""
        return self.bao.entries(f"{self.path}/keys")

    def files(self) -> bytes:
        """All bytes of the folder of the database."""
        return b"".join(file.read_bytes() for file in (self.folder / "config").iterdir())
