"""What engines are tried on: a host in memory that obeys the kernel's rules, and a clock that tests set."""

import pytest
from tests.unit.worlds import StoppedClock

from resource_wireguard.system.fake import FakeHost


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()
