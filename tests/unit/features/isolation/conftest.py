"""The namespace that these tests share."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def private(call: Callable[..., Any], home: Any) -> Any:
    """A namespace through a tunnel that runs."""
    return call("namespace.create", name="private", tunnel="home")
