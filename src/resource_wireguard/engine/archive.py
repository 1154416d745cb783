"""A back-up as bytes: one file, encrypted and authenticated as a whole under a passphrase.

    magic 8 | version 1 | log2 N 1 | r 1 | p 1 | salt 16 | nonce 12 | sealed body | SHA-256 of all before

The key comes from the passphrase by scrypt (RFC 7914), the seal is ChaCha20-Poly1305 (RFC 8439) with all that
stands before the body as associated data. The checksum at the end is no seal, anybody can make one: it
tells damage from a wrong passphrase, which the seal alone cannot. Every version will have magic, version
and checksum in these places, so that an older program can say that a file is newer rather than damaged.
"""

import hashlib
import os
import struct
import unicodedata
import zlib

from resource_wireguard.errors import InvalidInput

MAGIC = b"RWGbckp\n"
VERSION = 1

LOG2_N, R, P = 17, 8, 1
"""128 MiB and some 0.4 s for each guess (OWASP's first choice for scrypt)."""

LOG2_N_MOST, R_MOST, P_MOST = 20, 8, 4
"""What a file may ask for: 1 GiB of memory, and not the whole machine."""

BODY_MOST = 256 * 1024 * 1024
"""Bytes of an opened back-up: a small file must not swell without end."""

_HEADER = struct.Struct(f">{len(MAGIC)}sBBBB16s12s")
_CHECKSUM_BYTES = 32

_DAMAGED = ("the back-up is damaged or cut short", "take another copy of it; nothing was changed")


def seal(body: bytes, passphrase: str) -> bytes:
    """A whole archive, each time with a new salt and nonce."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    salt, nonce = os.urandom(16), os.urandom(12)
    header = _HEADER.pack(MAGIC, VERSION, LOG2_N, R, P, salt, nonce)
    cipher = ChaCha20Poly1305(_key(passphrase, salt, LOG2_N, R, P))
    whole = header + cipher.encrypt(nonce, zlib.compress(body), header)
    return whole + hashlib.sha256(whole).digest()


def unseal(archive: bytes, passphrase: str) -> bytes:
    """What was sealed; InvalidInput for anything that is not exactly that."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    header, sealed = _checked(archive)
    *_, log2_n, r, p, salt, nonce = _HEADER.unpack(header)
    cipher = ChaCha20Poly1305(_key(passphrase, salt, log2_n, r, p))
    try:
        return _inflated(cipher.decrypt(nonce, sealed, header))
    except InvalidTag:
        raise InvalidInput(
            "the passphrase is not that of this back-up", "or somebody altered the file on purpose"
        ) from None


def _checked(archive: bytes) -> tuple[bytes, bytes]:
    """Header and sealed body of an archive that is whole and of this version."""
    if archive[: len(MAGIC)] != MAGIC[: len(archive)] or not archive:
        raise InvalidInput("this is no back-up of this program", "name a file made by 'backup create'")
    whole, checksum = archive[:-_CHECKSUM_BYTES], archive[-_CHECKSUM_BYTES:]
    if len(whole) < _HEADER.size or hashlib.sha256(whole).digest() != checksum:
        raise InvalidInput(*_DAMAGED)
    header = whole[: _HEADER.size]
    _, version, log2_n, r, p, _, _ = _HEADER.unpack(header)
    if version != VERSION:
        raise InvalidInput(
            f"the back-up has format {version}, and this program knows {VERSION}",
            "restore it with the version that made it, or a later one",
        )
    if not (1 <= log2_n <= LOG2_N_MOST and 1 <= r <= R_MOST and 1 <= p <= P_MOST):
        raise InvalidInput(*_DAMAGED)
    return header, whole[_HEADER.size :]


def _key(passphrase: str, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    """32 bytes; a passphrase is the same on every keyboard (Unicode NFC)."""
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    text = unicodedata.normalize("NFC", passphrase).encode()
    return Scrypt(salt, length=32, n=1 << log2_n, r=r, p=p).derive(text)


def _inflated(packed: bytes) -> bytes:
    inflate = zlib.decompressobj()
    body = inflate.decompress(packed, BODY_MOST)
    if not inflate.eof:
        raise InvalidInput(*_DAMAGED)
    return body
