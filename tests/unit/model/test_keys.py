"""Keys tell nobody what they are, and refuse to be keys with which no safe session exists."""

import base64
import copy
import hashlib
import hmac
import json
import pickle
import traceback
from collections.abc import Callable

import msgspec
import pytest

from resource_wireguard.errors import InvalidInput
from resource_wireguard.host.diff import Action
from resource_wireguard.host.render import line_of
from resource_wireguard.host.state import Device, Peer
from resource_wireguard.model.keys import (
    NO_PRESHARED_KEY,
    PresharedKey,
    PrivateKey,
    PublicKey,
    SecretKey,
    parse_preshared_key,
    parse_private_key,
    parse_public_key,
)

SECRET = bytes(range(100, 132))
TEXT = base64.b64encode(SECRET).decode()

# RFC 7748, section 5.2: the first iteration, in which the scalar is 9 and so is the point.
NINE = PrivateKey((9).to_bytes(32, "little"))
NINE_PUBLIC = bytes.fromhex("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")

# The points whose multiples are few (https://cr.yp.to/ecdh.html, "How do I validate public keys?").
LOW_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (2**255 - 20).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 18).to_bytes(32, "little"),
]


def leaks(text: str) -> bool:
    """Whether a text holds the secret in a form that a person or a log search would find."""
    forms = (TEXT, TEXT.rstrip("="), SECRET.hex(), SECRET[:8].decode("latin-1"), repr(SECRET)[2:12])
    return any(form in text for form in forms)


@pytest.fixture(params=[PrivateKey, PresharedKey], ids=lambda kind: kind.__name__)
def secret(request: pytest.FixtureRequest) -> SecretKey:
    return request.param(SECRET)


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        ascii,
        format,
        "{0} {0!r} {0:>60}".format,
        lambda key: "%s %r" % (key, key),  # noqa: UP031 (people still write it)
        lambda k: f"{[k]}",
    ],
    ids=["str", "repr", "ascii", "format", "str.format", "percent", "inside a list"],
)
def test_a_secret_key_never_prints(secret: SecretKey, show: Callable[[SecretKey], str]) -> None:
    assert "hidden" in show(secret)
    assert not leaks(show(secret))


@pytest.mark.parametrize(
    "encode",
    [json.dumps, msgspec.json.encode, msgspec.to_builtins, pickle.dumps, copy.deepcopy],
    ids=["json", "msgspec", "builtins", "pickle", "deepcopy"],
)
def test_a_secret_key_is_never_serialised_by_accident(
    secret: SecretKey, encode: Callable[[object], object]
) -> None:
    with pytest.raises(TypeError) as refused:
        encode({"key": secret})
    assert not leaks(str(refused.value))


def test_a_traceback_does_not_show_a_secret_key(secret: SecretKey) -> None:
    with pytest.raises(ValueError, match="hidden") as caught:
        raise ValueError(f"cannot use {secret}", secret)
    assert not leaks("".join(traceback.format_exception(caught.value)))


def test_records_and_plan_lines_do_not_show_secret_keys() -> None:
    device = Device("wg-home", PrivateKey(SECRET), 51820)
    peer = Peer("wg-home", PublicKey(b"p" * 32), PresharedKey(SECRET), 0, frozenset())
    other = Peer("wg-home", PublicKey(b"p" * 32), None, 0, frozenset())
    texts = [repr(device), str(peer), line_of(Action("create", after=device))]
    texts += [line_of(Action("change", peer, other)), line_of(Action("change", other, peer))]
    assert not any(map(leaks, texts))
    assert texts[-1] == "change peer cHBwcHBw… on wg-home: preshared key none → (hidden)"


def test_only_reveal_reveals(secret: SecretKey) -> None:
    assert secret.reveal() == TEXT


def test_a_refused_secret_key_is_not_repeated() -> None:
    almost = TEXT[:-4]
    for parse in (parse_private_key, parse_preshared_key):
        with pytest.raises(InvalidInput) as refused:
            parse(almost)
        assert almost[:12] not in refused.value.message + refused.value.hint


def test_the_public_half_is_that_of_rfc_7748() -> None:
    assert NINE.public() == NINE_PUBLIC


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_points_of_low_order_are_refused(point: bytes) -> None:
    with pytest.raises(InvalidInput, match="low order"):
        parse_public_key(base64.b64encode(point).decode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        TEXT[:-1],
        TEXT + "=",
        TEXT[:-2] + "==",
        TEXT.replace("=", "!"),
        "ü" * 44,
        TEXT[:20] + "\n" + TEXT[21:],
    ],
)
def test_what_is_not_44_characters_of_base64_is_refused(text: str) -> None:
    for parse in (parse_public_key, parse_private_key, parse_preshared_key):
        with pytest.raises(InvalidInput, match="not a WireGuard key"):
            parse(text)


def test_a_public_key_keeps_its_text() -> None:
    text = str(PrivateKey(SECRET).public())
    assert str(parse_public_key(f" {text}\n")) == text
    assert parse_public_key(text).short == f"{text[:8]}…"
    assert text[:8] in repr(parse_public_key(text))


def test_a_renewed_key_is_made_of_both_and_is_the_same_at_both_ends() -> None:
    old, fresh = PresharedKey(SECRET), PresharedKey(bytes(range(32)))
    extracted = hmac.digest(old, fresh, hashlib.sha256)  # RFC 5869, section 2
    expanded = hmac.digest(extracted, b"resource-wireguard preshared key 1\x01", hashlib.sha256)
    assert bytes(old.renewed(fresh)) == expanded
    assert len({old.renewed(fresh), fresh.renewed(old), NO_PRESHARED_KEY.renewed(fresh), old, fresh}) == 5
