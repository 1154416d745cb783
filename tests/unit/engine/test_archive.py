"""An archive is opened whole with its passphrase, or refused; and never says more than it must."""

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resource_wireguard.engine import archive
from resource_wireguard.engine.archive import MAGIC, seal, unseal
from resource_wireguard.errors import InvalidInput

BODY = b"the keys of a whole network" * 20
PASSPHRASE = "correct horse"
REAL_COST = (archive.LOG2_N, archive.R, archive.P)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Deriving a key takes half a second on purpose: here it takes a tenth of a millisecond."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "LOG2_N", 4)
        yield


@pytest.fixture(scope="module")
def sealed(quick: None) -> bytes:
    return seal(BODY, PASSPHRASE)


def resealed(changed: bytes) -> bytes:
    """With the checksum made right again, as somebody who means harm would."""
    return changed[:-32] + hashlib.sha256(changed[:-32]).digest()


def test_what_was_sealed_comes_back_and_cannot_be_seen_from_outside(sealed: bytes) -> None:
    assert unseal(sealed, PASSPHRASE) == BODY
    assert b"network" not in sealed
    assert seal(BODY, PASSPHRASE) != sealed, "another salt and nonce each time"


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_flipped_bit_is_refused_as_damage_or_as_foreign(sealed: bytes, data: st.DataObject) -> None:
    at, bit = data.draw(st.integers(0, len(sealed) - 1)), data.draw(st.integers(0, 7))
    flipped = sealed[:at] + bytes([sealed[at] ^ 1 << bit]) + sealed[at + 1 :]
    with pytest.raises(InvalidInput) as refused:
        unseal(flipped, PASSPHRASE)
    assert ("no back-up" if at < len(MAGIC) else "damaged") in refused.value.message


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whoever_mends_the_checksum_is_stopped_by_the_seal(sealed: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(len(MAGIC), len(sealed) - 33))
    changed = sealed[:at] + bytes([sealed[at] ^ 1 << data.draw(st.integers(0, 7))]) + sealed[at + 1 :]
    asks_for_much = at in (9, 10, 11)  # of memory and time, which the bounds allow
    if not asks_for_much:
        with pytest.raises(InvalidInput):
            unseal(resealed(changed), PASSPHRASE)


@pytest.mark.parametrize("at", [9, 10, 11])
def test_a_file_cannot_ask_for_all_of_the_memory(sealed: bytes, at: int) -> None:
    greedy = resealed(sealed[:at] + b"\xff" + sealed[at + 1 :])
    with pytest.raises(InvalidInput, match="damaged"):
        unseal(greedy, PASSPHRASE)


def test_every_truncation_is_refused(sealed: bytes) -> None:
    for length in range(len(sealed)):
        with pytest.raises(InvalidInput):
            unseal(sealed[:length], PASSPHRASE)
    with pytest.raises(InvalidInput, match="damaged"):
        unseal(sealed + b"\x00", PASSPHRASE)


@given(st.binary(max_size=300))
def test_foreign_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput):
        unseal(content, PASSPHRASE)


def test_a_wrong_passphrase_is_told_from_damage(sealed: bytes) -> None:
    with pytest.raises(InvalidInput, match="passphrase is not that of") as refused:
        unseal(sealed, "correct hoarse")
    assert "hoarse" not in str(refused.value) + refused.value.hint


def test_a_newer_format_is_told_from_damage(sealed: bytes) -> None:
    newer = resealed(sealed[:8] + b"\x02" + sealed[9:])
    with pytest.raises(InvalidInput, match="has format 2"):
        unseal(newer, PASSPHRASE)


def test_one_passphrase_is_the_same_on_every_keyboard(quick: None) -> None:
    assert unseal(seal(BODY, "caf\u00e9 au lait"), "cafe\u0301 au lait") == BODY


def test_a_body_that_swells_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    swelling = seal(bytes(100_000), PASSPHRASE)
    monkeypatch.setattr(archive, "BODY_MOST", 50_000)
    with pytest.raises(InvalidInput, match="damaged"):
        unseal(swelling, PASSPHRASE)


def test_a_guess_costs_what_owasp_asks_for() -> None:
    """OWASP's cheat sheet on storing passwords: N = 2^17, r = 8, p = 1; less is a weaker archive."""
    assert REAL_COST == (17, 8, 1)
