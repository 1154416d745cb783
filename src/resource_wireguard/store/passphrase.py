"""A master key that is nowhere but in a person's head: made from a passphrase each time.

The key is made by Argon2id with RFC 9106's second choice of parameters (64 MiB, three passes, four lanes), or
by scrypt (RFC 7914) where OpenSSL is older than 3.2 and has none. The parameters lie in the database.
"""

import os
import unicodedata
from collections.abc import Iterator
from typing import Any

from resource_wireguard.errors import InvalidInput, KeysUnavailable
from resource_wireguard.store.master import MasterSource, Parameters
from resource_wireguard.store.seal import KEY_BYTES, erase

LEAST = 8
"""Characters: fewer are guessed in no time, whatever Argon2id does."""

ARGON2ID = {"kdf": "argon2id", "iterations": 3, "lanes": 4, "memory_kib": 64 * 1024}
SCRYPT = {"kdf": "scrypt", "n": 1 << 17, "r": 8, "p": 1}

MOST = {"iterations": 20, "lanes": 16, "memory_kib": 1 << 20, "n": 1 << 20, "r": 8, "p": 4}
"""What a database may ask for: 1 GiB of memory, and not the whole machine."""


class PassphraseSource(MasterSource):
    """Holds a passphrase from offer() until it was tried once."""

    kind = "passphrase"

    def __init__(self) -> None:
        self._offered: bytearray | None = None

    def offer(self, passphrase: bytearray) -> None:
        """What the next find() or make() works with; erased there."""
        self._offered = _normal(passphrase)

    def place(self, parameters: Parameters) -> str:
        """How the key is made."""
        return f"a passphrase, by {parameters['kdf']}"

    def find(self, parameters: Parameters) -> Iterator[bytearray]:
        """The key of the passphrase that was offered."""
        passphrase = self._taken()
        if passphrase is None:
            raise KeysUnavailable(
                "the keys are locked: they need the passphrase", "run 'resource-wireguard keys unlock'"
            )
        try:
            yield _derive(passphrase, parameters)
        finally:
            erase(passphrase)

    def make(self, _: Parameters | None) -> tuple[bytearray, dict[str, Any]]:
        """The key of the passphrase that was offered, with new salt."""
        passphrase = self._taken()
        if passphrase is None:
            raise InvalidInput("there is no passphrase", "give one: it is asked for, or read with --stdin")
        try:
            if len(passphrase.decode()) < LEAST:
                raise InvalidInput(f"the passphrase has less than {LEAST} characters", "take a longer one")
            parameters = {**_best(), "salt": os.urandom(16).hex()}
            return _derive(passphrase, parameters), parameters
        finally:
            erase(passphrase)

    def _taken(self) -> bytearray | None:
        passphrase, self._offered = self._offered, None
        return passphrase


def _normal(passphrase: bytearray) -> bytearray:
    """The same bytes for one passphrase on every keyboard (Unicode NFC); what came is erased."""
    try:
        return bytearray(unicodedata.normalize("NFC", passphrase.decode()).encode())
    except UnicodeDecodeError:
        raise InvalidInput("the passphrase is not UTF-8 text", "type it again") from None
    finally:
        erase(passphrase)


def _best() -> dict[str, Any]:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        erase(_derive(bytearray(b"-"), {**ARGON2ID, "salt": "00" * 16, "iterations": 1, "memory_kib": 64}))
    except UnsupportedAlgorithm:
        return SCRYPT
    return ARGON2ID


def _derive(passphrase: bytearray, parameters: Parameters) -> bytearray:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    numbers = {name: int(value) for name, value in parameters.items() if name in MOST}
    if any(not 1 <= value <= MOST[name] for name, value in numbers.items()):
        raise KeysUnavailable("the passphrase's parameters in the database are absurd", "restore a back-up")
    salt = bytes.fromhex(parameters["salt"])
    if parameters["kdf"] == "scrypt":
        return bytearray(Scrypt(salt, KEY_BYTES, numbers["n"], numbers["r"], numbers["p"]).derive(passphrase))
    argon2 = Argon2id(
        salt=salt,
        length=KEY_BYTES,
        iterations=numbers["iterations"],
        lanes=numbers["lanes"],
        memory_cost=numbers["memory_kib"],
    )
    return bytearray(argon2.derive(passphrase))  # type: ignore[arg-type]  # it takes any buffer
