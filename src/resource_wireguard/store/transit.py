"""The master key wrapped by a Vault's transit engine: it is kept here, and only the Vault can unwrap it.

No key of a tunnel ever goes there. The Vault is needed when the agent starts, and not after.
"""

import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any

import msgspec

from resource_wireguard.errors import InvalidInput, KeysUnavailable
from resource_wireguard.model.vault import TransitKey, VaultPlace
from resource_wireguard.store.master import MasterSource, Parameters
from resource_wireguard.store.seal import KEY_BYTES
from resource_wireguard.store.vault import Vault


class _Wrapped(msgspec.Struct, frozen=True):
    """What the database holds of it; without the Vault it opens nothing."""

    vault: VaultPlace
    key: TransitKey
    wrapped: str


class TransitSource(MasterSource):
    """32 random bytes, wrapped under a key that never leaves its Vault."""

    kind = "transit"

    def __init__(self) -> None:
        self._offered: tuple[VaultPlace, TransitKey] | None = None

    def offer(self, vault: VaultPlace, key: TransitKey) -> None:
        """Where the next make() is to wrap."""
        self._offered = vault, key

    def place(self, parameters: Parameters) -> str:
        """The name of the key that wraps, and of its Vault."""
        wrapped = msgspec.convert(parameters, _Wrapped)
        return (
            f"the transit key {wrapped.key.mount}/{wrapped.key.name} of the Vault at {wrapped.vault.address}"
        )

    def find(self, parameters: Parameters) -> Iterator[bytearray]:
        """The key, unwrapped by the Vault; KeysUnavailable while it does not."""
        wrapped = msgspec.convert(parameters, _Wrapped)
        yield _unwrapped(Vault(wrapped.vault), wrapped)

    def make(self, parameters: Parameters | None) -> tuple[bytearray, dict[str, Any]]:
        """A new key, wrapped at the place offered, else where the old one was, and unwrapped to see."""
        offered, self._offered = self._offered, None
        if offered is None and parameters is None:
            raise InvalidInput(
                "which Vault is to wrap the master key is not known", "--address and the way in say so"
            )
        if offered is None:
            before = msgspec.convert(parameters, _Wrapped)
            offered = before.vault, before.key
        vault, key = Vault(offered[0]), bytearray(os.urandom(KEY_BYTES))
        wrapped = _Wrapped(*offered, vault.wrap(offered[1], b64encode(key).decode()))
        if _unwrapped(vault, wrapped) != key:
            raise KeysUnavailable(f"{vault} does not unwrap what it wrapped", "try again")
        return key, msgspec.to_builtins(wrapped)


def _unwrapped(vault: Vault, wrapped: _Wrapped) -> bytearray:
    try:
        return bytearray(b64decode(vault.unwrap(wrapped.key, wrapped.wrapped)))
    except InvalidInput as error:
        raise KeysUnavailable(error.message, "is it the same transit key? docs/vault.md") from None
