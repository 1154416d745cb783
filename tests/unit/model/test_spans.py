"""Spans as people type them."""

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_wireguard.cli.options import Span
from resource_wireguard.model.spans import typed


@pytest.mark.parametrize(
    ("seconds", "text"), [(604800, "7d"), (3600.0, "1h"), (90, "90s"), (600, "10m"), (0, "0s"), (0.5, "0.5s")]
)
def test_the_largest_unit_that_leaves_nothing_over(seconds: float, text: str) -> None:
    assert typed(seconds) == text


@given(st.integers(0, 10**9 - 1))
def test_what_is_said_can_be_typed(seconds: int) -> None:
    assert Span().convert(typed(seconds), None, click.Context(click.Command("x"))) == seconds
