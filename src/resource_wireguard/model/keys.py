"""WireGuard keys: 32 bytes that print themselves only where printing is safe."""

import binascii
import hashlib

from resource_wireguard.errors import InvalidInput, ResourceError

KEY_BYTES = 32


class PublicKey(bytes):
    """A Curve25519 public key (RFC 7748); its text is base64, as everywhere in WireGuard."""

    __slots__ = ()

    def __str__(self) -> str:
        return binascii.b2a_base64(self, newline=False).decode()

    def __repr__(self) -> str:
        return f"PublicKey({self.short})"

    @property
    def short(self) -> str:
        """The first eight characters, enough to tell peers apart in a table."""
        return f"{str(self)[:8]}…"


def fingerprint(key: bytes) -> str:
    """What tells keys apart without showing them: 72 bits of a SHA-256, as ssh-keygen(1) writes its own."""
    return f"SHA256:{binascii.b2a_base64(hashlib.sha256(key).digest()[:9], newline=False).decode()}"


class SecretKey(bytes):
    """Key material whose text never leaves by accident: str, repr and format are masked.

    why says of a key that cannot be had now why it cannot; None where the key is here.
    """

    __slots__ = ()
    why: ResourceError | None = None

    def __str__(self) -> str:
        return "(hidden)"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hidden)"

    def __format__(self, spec: str) -> str:
        return "(hidden)"

    def __reduce_ex__(self, protocol: object) -> str:
        raise TypeError("keys are not pickled")

    def need(self) -> None:
        """Refuse, and say why, if the key cannot be had now."""
        if self.why is not None:
            raise type(self.why)(self.why.message, self.why.hint)

    def reveal(self) -> str:
        """The key as base64; called only where a config is printed or a key is stored."""
        self.need()
        return binascii.b2a_base64(self, newline=False).decode()


class PrivateKey(SecretKey):
    """A Curve25519 private key."""

    __slots__ = ()

    def public(self) -> PublicKey:
        """The public half."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        return PublicKey(X25519PrivateKey.from_private_bytes(bytes(self)).public_key().public_bytes_raw())


class PresharedKey(SecretKey):
    """A symmetric key mixed into the handshake (WireGuard paper, section 5.2)."""

    __slots__ = ()

    def renewed(self, fresh: "PresharedKey") -> "PresharedKey":
        """The key that follows this one: HKDF-SHA256 (RFC 5869) of both, so that neither alone gives it.

        They go in as in the key schedule of TLS 1.3 (RFC 8446, section 7.1).
        """
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        self.need()
        return PresharedKey(HKDF(SHA256(), KEY_BYTES, bytes(self), _RENEWED).derive(bytes(fresh)))


NO_PRESHARED_KEY = PresharedKey(bytes(KEY_BYTES))
"""What WireGuard mixes in where there is none (section 5.4 of its paper)."""

_RENEWED = b"resource-wireguard preshared key 1"


class AbsentPrivateKey(PrivateKey):
    """Stands for a private key that cannot be had now. One byte long: no engine would ever take it."""

    _public: PublicKey

    def __new__(cls, why: ResourceError, public: PublicKey) -> "AbsentPrivateKey":
        """The public half is no secret, and tells the key where it runs."""
        key = super().__new__(cls, b"?")
        key.why, key._public = why, public
        return key

    def public(self) -> PublicKey:
        """The public half, which is known all the same."""
        return self._public


class AbsentPresharedKey(PresharedKey):
    """Stands for a preshared key that cannot be had now. One byte long: no engine would ever take it."""

    def __new__(cls, why: ResourceError) -> "AbsentPresharedKey":
        """There is nothing to say of it but why."""
        key = super().__new__(cls, b"?")
        key.why = why
        return key


def parse_public_key(text: str) -> PublicKey:
    """A peer's public key from base64; refuses wrong lengths and points of low order."""
    key = PublicKey(_decode(text, "public key"))
    if _is_low_order(key):
        raise InvalidInput(
            f"public key {text} is a point of low order: no safe session exists with it",
            "ask the peer for the output of 'wg pubkey'",
        )
    return key


def parse_private_key(text: str) -> PrivateKey:
    """A private key from base64, clamped; the message never repeats it, and zeros are no key.

    Clamping (RFC 7748, section 5) changes no session: every engine does it, and shows the key so.
    """
    raw = bytearray(_decode(text, "private key"))
    if not any(raw):
        raise InvalidInput("private key is all zeros, which means 'none'", "make one with 'wg genkey'")
    raw[0] &= 248
    raw[31] = raw[31] & 127 | 64
    return PrivateKey(raw)


def parse_preshared_key(text: str) -> PresharedKey:
    """A preshared key from base64; the message never repeats it."""
    return PresharedKey(_decode(text, "preshared key"))


def _decode(text: str, what: str) -> bytes:
    shown = f" '{text[:60]}'" if what == "public key" else ""
    try:
        raw = binascii.a2b_base64(text.strip().encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raw = b""
    if len(raw) != KEY_BYTES or len(text.strip()) != 44:
        raise InvalidInput(
            f"{what}{shown} is not a WireGuard key", "a key is 44 characters of base64, ending in '='"
        )
    return raw


def _is_low_order(key: PublicKey) -> bool:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    probe = X25519PrivateKey.from_private_bytes(bytes(range(KEY_BYTES)))
    try:
        probe.exchange(X25519PublicKey.from_public_bytes(bytes(key)))
    except ValueError:
        return True  # the shared secret is all zeros: RFC 7748, section 6.1
    return False
