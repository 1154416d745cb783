"""A sealed secret as bytes. Pure.

    version 1 | number of the data key 4 | nonce 12 | ciphertext | tag 16

The seal is ChaCha20-Poly1305 (RFC 8439): the cipher of WireGuard itself, at full speed without AES
instructions (the small ARM boards that run WireGuard), and in every build of OpenSSL; AES-GCM-SIV, which
forgives a repeated nonce, needs OpenSSL 3.2. A repeated nonce is no worry here: 96 random bits, and a host
seals thousands of keys, not the 2**32 after which the chance of a repetition reaches 2**-33.

The name of a secret is sealed along as associated data, with all that stands before the nonce: a row moved
to another name, or said to be of another data key, does not open. Version 1 had no number: its key was the
master key. What begins with POINTER is not sealed here: an entry in a Vault holds it (held.py).
"""

import os
import struct
from typing import NamedTuple, Protocol

VERSION, WITHOUT_NUMBER, POINTER = 2, 1, 3

KEY_BYTES, NONCE_BYTES, TAG_BYTES = 32, 12, 16

_HEAD = struct.Struct(">BI")


class Cipher(Protocol):
    """ChaCha20-Poly1305 with one key."""

    def encrypt(self, nonce: bytes, data: bytes | bytearray, associated_data: bytes, /) -> bytes:
        """Ciphertext and tag."""

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes:
        """What was encrypted."""


class Sealed(NamedTuple):
    """The parts of a sealed secret; key is None in version 1."""

    key: int | None
    nonce: bytes
    text: bytes

    def bound(self, name: str) -> bytes:
        """The associated data."""
        return name.encode() if self.key is None else _HEAD.pack(VERSION, self.key) + name.encode()


def parse(sealed: bytes) -> Sealed:
    """The parts of what was sealed; ValueError for anything that seal() never made."""
    version = sealed[0] if sealed else 0
    head = {VERSION: _HEAD.size, WITHOUT_NUMBER: 1}.get(version)
    if head is None or len(sealed) < head + NONCE_BYTES + TAG_BYTES:
        raise ValueError
    key = _HEAD.unpack(sealed[:head])[1] if version == VERSION else None
    return Sealed(key, sealed[head : head + NONCE_BYTES], sealed[head + NONCE_BYTES :])


def seal(cipher: Cipher, key: int, name: str, secret: bytes) -> bytes:
    """A secret of that name, sealed with the data key of that number."""
    nonce = os.urandom(NONCE_BYTES)
    bound = _HEAD.pack(VERSION, key) + name.encode()
    return _HEAD.pack(VERSION, key) + nonce + cipher.encrypt(nonce, secret, bound)


def unseal(cipher: Cipher | None, sealed: Sealed, name: str) -> bytes:
    """The secret of that name; ValueError where this cipher did not seal it so."""
    from cryptography.exceptions import InvalidTag

    if cipher is None:
        raise ValueError
    try:
        return cipher.decrypt(sealed.nonce, sealed.text, sealed.bound(name))
    except InvalidTag:
        raise ValueError from None


def wrap(master: bytearray, number: int, key: bytearray) -> bytes:
    """A data key, sealed with a master key: nonce, ciphertext, tag."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + cipher_of(master).encrypt(nonce, key, _data_key_name(number))


def unwrap(master: bytearray, number: int, wrapped: bytes) -> bytearray | None:
    """A data key again; None where this master key, or these bytes, are not the right ones."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    key = bytearray(KEY_BYTES)
    try:
        ChaCha20Poly1305(master).decrypt_into(
            wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _data_key_name(number), key
        )
    except (InvalidTag, ValueError):
        return None
    return key


def erase(*keys: bytearray) -> None:
    """Overwrite keys in memory; what Python copied of them meanwhile is out of reach (docs/security.md)."""
    for key in keys:
        key[:] = bytes(len(key))


def _data_key_name(number: int) -> bytes:
    return f"data-key/{number}".encode()


def cipher_of(key: bytearray) -> Cipher:
    """The cipher of one key."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key)
