"""The agent's container, as Docker describes it."""

import pytest
from docker.models.containers import Container as Described

from resource_wireguard.cli.container import Running
from resource_wireguard.cli.placement import Container

BOTH = {"userspace", "kernel"}


@pytest.mark.parametrize(
    ("network", "wants_hosts", "engines", "leaves"),
    [
        ("host", True, {"userspace"}, False),
        ("host", False, BOTH, True),
        ("default", True, BOTH, False),
        ("default", False, BOTH, False),
    ],
)
def test_what_a_container_takes_along_and_what_it_would_leave(
    network: str, wants_hosts: bool, engines: set[str], leaves: bool
) -> None:
    described = Described(attrs={"HostConfig": {"NetworkMode": network}})
    running = Running(described, Container("c", "i", (51820,), wants_hosts, 100))
    assert (running.takes_along, running.leaves_behind) == (engines, leaves)
