"""The master key wrapped by a Vault's transit engine: it is kept here, and only the Vault can unwrap it.

No key of a tunnel ever goes there. The Vault is needed when the agent starts, and not after.
"""

import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any

import msgspec

from resource_wireguard.errors import InvalidInput, KeysUnavailable
from resource_wireguard.model.vault import TransitKey
from resource_wireguard.store.master import MasterSource, Parameters
from resource_wireguard.store.seal import KEY_BYTES
from resource_wireguard.store.vault import Vault


class _Wrapped(msgspec.Struct, frozen=True):
    """What the database holds of it; without the Vault it opens nothing."""

    key: TransitKey
    wrapped: str


class TransitSource(MasterSource):
    """32 random bytes, wrapped with a key that never leaves its Vault."""

    kind = "transit"

    def __init__(self) -> None:
        self._offered: TransitKey | None = None

    def offer(self, key: TransitKey) -> None:
        """What the next make() is to wrap with."""
        self._offered = key

    def place(self, parameters: Parameters) -> str:
        """The name of the key that wraps, and of its Vault."""
        key = msgspec.convert(parameters, _Wrapped).key
        return f"the transit key {key.mount}/{key.name} at {key.vault.address}"

    def find(self, parameters: Parameters) -> Iterator[bytearray]:
        """The key, unwrapped by the Vault; KeysUnavailable while it does not."""
        wrapped = msgspec.convert(parameters, _Wrapped)
        yield _unwrapped(Vault(wrapped.key.vault), wrapped)

    def make(self, parameters: Parameters | None) -> tuple[bytearray, dict[str, Any]]:
        """A new key, wrapped with what was offered, else with what wraps now, and unwrapped to see."""
        wrapping, self._offered = self._offered, None
        if wrapping is None:
            if parameters is None:
                raise InvalidInput("which Vault is to wrap the master key is not known", "name it: --address")
            wrapping = msgspec.convert(parameters, _Wrapped).key
        vault, key = Vault(wrapping.vault), bytearray(os.urandom(KEY_BYTES))
        wrapped = _Wrapped(wrapping, vault.wrap(wrapping, b64encode(key).decode()))
        if _unwrapped(vault, wrapped) != key:
            raise KeysUnavailable(f"{self.place(msgspec.to_builtins(wrapped))} does not unwrap", "try again")
        return key, msgspec.to_builtins(wrapped)


def _unwrapped(vault: Vault, wrapped: _Wrapped) -> bytearray:
    try:
        return bytearray(b64decode(vault.unwrap(wrapped.key, wrapped.wrapped)))
    except InvalidInput as error:
        raise KeysUnavailable(error.message, "is it the same transit key? docs/vault.md") from None
