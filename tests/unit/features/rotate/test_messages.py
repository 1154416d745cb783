"""Datagrams of strangers: whatever they hold, it is a message of ours or nothing."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.worlds import key_of

from resource_wireguard.features.rotate.messages import (
    SIZE_MOST,
    VERSION,
    Heard,
    KeyAt,
    NotYet,
    Preshared,
    Statement,
    Wish,
    decode,
    encode,
    keys_of,
)
from resource_wireguard.model.keys import fingerprint

IDENTITY = "0123456789abcdef"
KEYS = (KeyAt(str(key_of("old")), 51820), KeyAt(str(key_of("new")), 51821))
MESSAGES = (
    Statement(VERSION, IDENTITY, KEYS),
    Wish(VERSION, IDENTITY, 3600.0),
    Preshared(VERSION, IDENTITY, str(key_of("fresh")), fingerprint(key_of("new")), use=True),
    Heard(VERSION, IDENTITY, 51822),
    Heard(VERSION, IDENTITY),
    NotYet(VERSION, IDENTITY, "x" * 200),
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_out_as_it_went_in_and_fits_in_one_packet(message: Statement) -> None:
    datagram = encode(message)
    assert decode(datagram) == message
    assert len(datagram) <= SIZE_MOST


@given(st.binary(max_size=2 * SIZE_MOST))
def test_bytes_are_no_message(datagram: bytes) -> None:
    assert decode(datagram) is None


@given(
    st.sampled_from(MESSAGES),
    st.sampled_from(["v", "id", "keys", "port", "fresh", "key", "use", "say", "why", "more"]),
    json_values,
)
def test_a_message_with_one_field_of_another_kind_is_none_or_still_sound(
    message: Statement, name: str, value: object
) -> None:
    fields = json.loads(encode(message)) | {name: value}
    decoded = decode(json.dumps(fields).encode())
    if decoded is not None:
        assert decoded.v == VERSION
        assert len(decoded.id) == 16
        if isinstance(decoded, Statement):
            assert 1 <= len(decoded.keys) <= 2
            assert all(1 <= entry.port <= 65535 for entry in decoded.keys)
        if isinstance(decoded, Preshared):
            assert len(decoded.fresh) == 44
            assert decoded.key.startswith("SHA256:")
            assert len(decoded.key) == 19


@given(st.sampled_from(MESSAGES), st.data())
def test_a_damaged_message_raises_nothing(message: Statement, data: st.DataObject) -> None:
    datagram = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        datagram[data.draw(st.integers(0, len(datagram) - 1))] = data.draw(st.integers(0, 255))
    decoded = decode(bytes(datagram))
    assert decoded is None or isinstance(decoded, msgspec.Struct)


def test_a_message_with_a_secret_does_not_show_it() -> None:
    assert str(key_of("fresh")) not in repr(decode(encode(MESSAGES[2])))


def test_what_is_too_long_is_not_even_decoded() -> None:
    assert decode(encode(MESSAGES[0]) + b" " * SIZE_MOST) is None


def test_another_version_is_not_understood() -> None:
    assert decode(encode(Statement(VERSION + 1, IDENTITY, KEYS))) is None


@pytest.mark.parametrize("text", ["A" * 43 + "=", "?" * 44, str(key_of("old"))[:-1] + "A"])
def test_a_statement_with_what_is_no_key_states_nothing(text: str) -> None:
    assert keys_of(Statement(VERSION, IDENTITY, (KEYS[0], KeyAt(text, 1)))) is None


def test_a_key_that_is_stated_twice_states_nothing() -> None:
    assert keys_of(Statement(VERSION, IDENTITY, (KEYS[0], KEYS[0]))) is None
