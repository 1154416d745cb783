"""Where a master key comes from: a file, or a credential of systemd. (passphrase.py has the third.)"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

from resource_wireguard.errors import InvalidInput, KeysUnavailable, StoreError
from resource_wireguard.store.seal import KEY_BYTES, erase
from resource_wireguard.store.sqlite import sync_directory

CREDENTIAL = "wireguard.master"
"""What the names of our credentials begin with: while the key changes, there are two."""

Parameters = Mapping[str, Any]
"""What a source needs to find its key again. It lies in the database in clear: nothing secret."""


class MasterSource(Protocol):
    """One place that a master key can come from. The caller owns, and erases, each key that it is given."""

    kind: ClassVar[str]

    def place(self, parameters: Parameters) -> str:
        """Where the key lies, for people."""

    def find(self, parameters: Parameters) -> Iterator[bytearray]:
        """The keys that may be the right one, likeliest first; KeysUnavailable where there is none to try."""

    def make(self, parameters: Parameters | None) -> tuple[bytearray, dict[str, Any]]:
        """A new key and the parameters to find it by, durable before this returns; the old one stays.

        parameters are those of the key in use where it is this source's, else None.
        """

    def settle(self, master: bytearray) -> None:  # noqa: ARG002 - most sources keep nothing
        """This key is the one in use: what make() put beside it takes its place, or goes."""
        return

    def abandon(self) -> None:
        """The key of the last make() is not taken into use after all."""
        return

    def forget(self) -> None:
        """Another source has taken over: remove what this one keeps."""
        return


class FileSource(MasterSource):
    """32 bytes in a file that only its owner can read; a new key waits beside it until it is in use."""

    kind = "file"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = path.with_name(f"{path.name}.new")

    def exists(self) -> bool:
        """Whether there is a key already."""
        return self._path.exists()

    def place(self, _: Parameters) -> str:
        """The path of the file."""
        return str(self._path)

    def find(self, _: Parameters) -> Iterator[bytearray]:
        """The file's key, and one whose taking into use was broken off."""
        if not self._path.exists() and not self._next.exists():
            raise KeysUnavailable(
                f"the master key {self._path} is missing",
                "put back the key file that belongs to this database",
            )
        for path in (self._path, self._next):
            if path.exists():
                yield _read_key(path)

    def make(self, _: Parameters | None) -> tuple[bytearray, dict[str, Any]]:
        """A random key in the file beside."""
        key = bytearray(os.urandom(KEY_BYTES))
        try:
            self._next.unlink(missing_ok=True)
            descriptor = os.open(self._next, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                file.write(key)
                os.fsync(descriptor)
            sync_directory(self._next.parent)
        except OSError as error:
            raise StoreError(
                f"cannot write the master key {self._next}: {error.strerror}",
                "look at the disk's space and rights",
            ) from None
        return key, {}

    def settle(self, master: bytearray) -> None:
        """Put the new file in the old one's place if it holds this key, else remove it."""
        if not self._next.exists():
            return
        if not _holds(self._next, master):
            self.abandon()
            return
        with _named(self._path):
            _shred(self._path)
            self._next.rename(self._path)
            sync_directory(self._path.parent)

    def abandon(self) -> None:
        """Remove the file beside."""
        with _named(self._next):
            _remove(self._next)

    def forget(self) -> None:
        """Remove both files."""
        for path in (self._path, self._next):
            with _named(path):
                _remove(path)


class CredentialSource(MasterSource):
    """32 bytes that systemd lays into a folder for this service alone (systemd.exec(5), LoadCredential=).

    We cannot write there. A new key is one more credential, whose name begins like the first one's.
    """

    kind = "credential"

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Our credentials that the service was started with."""
        if self._folder is None or not self._folder.is_dir():
            return []
        return sorted(path.name for path in self._folder.iterdir() if path.name.startswith(CREDENTIAL))

    def place(self, parameters: Parameters) -> str:
        """The name of the credential."""
        return f"the systemd credential {parameters['name']}"

    def find(self, parameters: Parameters) -> Iterator[bytearray]:
        """The credential of the name in use first: people may have renamed it."""
        names = self.names()
        if not names:
            raise KeysUnavailable(
                f"the service was started without its systemd credential {parameters['name']}",
                "look at LoadCredential= in 'systemctl cat resource-wireguard', then 'manage restart'",
            )
        for name in sorted(names, key=lambda name: name != parameters["name"]):
            yield self._read(name)

    def make(self, parameters: Parameters | None) -> tuple[bytearray, dict[str, Any]]:
        """The first credential that is not in use yet."""
        used = parameters["name"] if parameters else None
        name = next((name for name in self.names() if name != used), None)
        if name is None:
            raise InvalidInput(
                "the service was started without "
                + (f"a second credential beside {used}" if used else f"a credential {CREDENTIAL}"),
                "docs/keys.md says how to make one",
            )
        return self._read(name), {"name": name}

    def _read(self, name: str) -> bytearray:
        assert self._folder is not None
        return _read_key(self._folder / name, 0o037)  # systemd lets a group with an ACL's mask read: 0440


def _read_key(path: Path, closed: int = 0o077) -> bytearray:
    """Exactly 32 bytes from a file that others cannot read."""
    key = bytearray(KEY_BYTES + 1)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            mode = os.fstat(descriptor).st_mode & 0o777
            length = file.readinto(key)
    except OSError as error:
        raise KeysUnavailable(
            f"cannot read the master key {path}: {error.strerror}", "it must be a file of the agent's user"
        ) from None
    if mode & closed:
        raise KeysUnavailable(
            f"the master key {path} can be read by others (mode {mode:04o})", f"chmod 600 {path}"
        )
    if length != KEY_BYTES:
        raise KeysUnavailable(
            f"the master key {path} is not {KEY_BYTES} bytes long", "put back the right file"
        )
    del key[KEY_BYTES:]
    return key


def _holds(path: Path, key: bytearray) -> bool:
    """Whether a file holds this key; one whose writing was broken off holds none."""
    try:
        found = _read_key(path)
    except KeysUnavailable:
        return False
    same = found == key
    erase(found)
    return same


def _shred(path: Path) -> None:
    """Overwrite a file where it lies; on disks that move what they write, the old bytes may live on."""
    if path.exists():
        with path.open("r+b", buffering=0) as file:
            file.write(bytes(path.stat().st_size))
            os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.exists():
        _shred(path)
        path.unlink()
        sync_directory(path.parent)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot put the master key {path} in its place: {error.strerror}",
            "look at the disk's space and rights; no key is lost",
        ) from None
