"""Nothing in the contract is passed over: each of its statements has a test that answers for it."""

import re

import pytest
from tests import contract
from tests.unit.contract.claims import CLAIMS, PROSE


def test_it_is_the_contract_we_know() -> None:
    """Another version is to be read by a person first."""
    given = contract.contract()
    assert (given["version"], given["contract_type"], given["migration_from"]) == ("2.0", "universal", "1.0")
    assert set(given["migration"]) == {"from_version", "breaking_changes", "timeline"}


def test_every_statement_has_a_test() -> None:
    unclaimed = [place for place, _ in contract.leaves() if not _answer(place)]
    assert not unclaimed


def test_every_claim_is_needed() -> None:
    """A pattern that matches nothing is one that was misspelt."""
    places = [place for place, _ in contract.leaves()]
    assert [p for p, _ in CLAIMS if not any(re.fullmatch(p, place) for place in places)] == []


@pytest.mark.parametrize("test", sorted({test for _, test in CLAIMS} - {PROSE}))
def test_every_named_test_exists(test: str) -> None:
    file, _, name = test.partition("::")
    assert re.search(rf"^def {name}\(", (contract.CHECKOUT / file).read_text(), re.MULTILINE)


def test_a_new_statement_would_be_missed() -> None:
    assert _answer("commands/fly/exit_codes/0"), "the tests of exit codes walk the file: they would be red"
    assert not _answer("commands/manage/subcommands/install/colour")
    assert not _answer("accessibility/contrast")


def _answer(place: str) -> str | None:
    return next((test for pattern, test in CLAIMS if re.fullmatch(pattern, place)), None)
