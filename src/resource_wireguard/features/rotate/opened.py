"""Keys as they are opened for specs: what is known already stays, and what cannot be had says why."""

from collections.abc import Mapping

from resource_wireguard.engine.ports import Secrets
from resource_wireguard.errors import DamagedSecret, KeysUnavailable
from resource_wireguard.model.keys import (
    AbsentPresharedKey,
    AbsentPrivateKey,
    PresharedKey,
    PrivateKey,
    PublicKey,
)

_ABSENT = (KeysUnavailable, DamagedSecret)
"""Why a key may be absent; the other errors of the store are errors of the whole."""


Known = Mapping[tuple[str, PublicKey], PrivateKey | PresharedKey]


class Opened:
    """Keys by the names of their secrets and whose they are; those that were known are not opened again."""

    def __init__(self, secrets: Secrets, known: Known) -> None:
        self._secrets = secrets
        self._known = known
        self.keys: dict[tuple[str, PublicKey], PrivateKey | PresharedKey] = {}

    def private(self, name: str, public: PublicKey) -> PrivateKey:
        """A private key; where it is absent its public half stands for it."""
        known = self._known.get((name, public))
        if isinstance(known, PrivateKey) and not known.why:
            key = known
        else:
            try:
                key = PrivateKey(self._present(name))
            except _ABSENT as why:
                key = AbsentPrivateKey(why, public)
        self.keys[name, public] = key
        return key

    def preshared(self, name: str, public: PublicKey) -> PresharedKey:
        """The preshared key that goes with a public one."""
        known = self._known.get((name, public))
        if isinstance(known, PresharedKey) and not known.why:
            key = known
        else:
            try:
                key = PresharedKey(self._present(name))
            except _ABSENT as why:
                key = AbsentPresharedKey(why)
        self.keys[name, public] = key
        return key

    def _present(self, name: str) -> bytes:
        secret = self._secrets.get(name)
        if secret is None:
            raise DamagedSecret(f"the secret '{name}' is not in the store", "restore a back-up")
        return secret
