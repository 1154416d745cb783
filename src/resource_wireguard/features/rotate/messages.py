"""What two agents say to each other inside a tunnel: one datagram asks, one answers. See docs/exchange.md.

A request is a statement of how things are, never a step: it may be lost, repeated or come late, and says the
same. What cannot be decoded whole is dropped without a word.
"""

from typing import Annotated

import msgspec

from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.keys import PublicKey, parse_public_key

VERSION = 1

PORT = 864
"""UDP. Below 1024, so that on the other host only root, and no user's program, can speak for a peer."""

SIZE_MOST = 1200
"""Bytes of a datagram: fits in one packet of every tunnel."""

KEYS_MOST = 2
"""The key that was, and the key that will be."""

Base64Key = Annotated[str, msgspec.Meta(min_length=44, max_length=44)]
UdpPort = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Fingerprint = Annotated[str, msgspec.Meta(pattern=r"\ASHA256:[A-Za-z0-9+/]{12}\Z")]
Identity = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]


class KeyAt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public key of the speaker's tunnel, and the UDP port at which its device listens."""

    key: Base64Key
    port: UdpPort


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="keys", tag_field="say"):
    """These keys are mine, and no others: the one that will stay is the last."""

    v: int
    id: Identity
    keys: Annotated[tuple[KeyAt, ...], msgspec.Meta(min_length=1, max_length=KEYS_MOST)]


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="rotate", tag_field="say"):
    """Please rotate your keys of this tunnel, with an overlap of so many seconds."""

    v: int
    id: Identity
    overlap: Annotated[float, msgspec.Meta(ge=60, le=365 * 86400)]


class Preshared(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="psk", tag_field="say"):
    """The preshared key that the one before and this secret give, by fingerprint. use: it is in use here."""

    v: int
    id: Identity
    fresh: Base64Key
    key: Fingerprint
    use: bool

    def __repr__(self) -> str:
        return f"Preshared({self.key}, use={self.use})"


class Heard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="heard", tag_field="say"):
    """It is so here. port: where the speaker's new key is awaited, None where no key is new."""

    v: int
    id: Identity
    port: UdpPort | None = None


class NotYet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="not-yet", tag_field="say"):
    """It is not so here, and why."""

    v: int
    id: Identity
    why: Annotated[str, msgspec.Meta(max_length=200)]


Request = Statement | Wish | Preshared
Answer = Heard | NotYet

_decoder = msgspec.json.Decoder(Statement | Wish | Preshared | Heard | NotYet)


def decode(datagram: bytes) -> Request | Answer | None:
    """The message in a datagram; None for whatever else somebody may send."""
    if len(datagram) > SIZE_MOST:
        return None
    try:
        message: Request | Answer = _decoder.decode(datagram)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return message if message.v == VERSION else None


def encode(message: Request | Answer) -> bytes:
    """A message as a datagram."""
    return msgspec.json.encode(message)


def keys_of(statement: Statement) -> dict[PublicKey, int] | None:
    """The keys with their ports; None where one is no key, or comes twice."""
    try:
        keys = {parse_public_key(entry.key): entry.port for entry in statement.keys}
    except InvalidInput:
        return None
    return keys if len(keys) == len(statement.keys) else None
