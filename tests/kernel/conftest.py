"""What the kernel lane's tests share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.lanes import host_has_wireguard

# Where the host's own kernel does, no other one is built, and there is nothing to test about it.
collect_ignore = ["test_uml.py", "test_systemd.py"] if host_has_wireguard() else []


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that host and guest can write, and nobody else reads."""
    with tempfile.TemporaryDirectory(prefix="resource-wireguard-kernel-", dir="/var/tmp") as folder:
        yield Path(folder)
