"""The agent's container, as Docker describes it."""

import pytest
from docker.models.containers import Container

from resource_wireguard.cli.container import Running


@pytest.mark.parametrize(
    ("network", "engines"), [("host", {"userspace"}), ("default", {"userspace", "kernel"})]
)
def test_in_the_hosts_network_the_kernels_tunnels_outlive_it(network: str, engines: set[str]) -> None:
    running = Running(Container(attrs={"HostConfig": {"NetworkMode": network}}))
    assert running.takes_along == engines
