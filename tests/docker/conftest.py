"""What the tests of this lane share: a lab, a Docker daemon in its server, and the images, once a session."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docker.daemon import Daemon, daemon_in
from tests.docker.images import make_shell
from tests.netns.harness import Lab


@pytest.fixture(scope="session", autouse=True)
def machine() -> Iterator[None]:
    """After the last daemon there are no more files of Docker's than before the first."""
    before = files_of_docker()
    yield
    assert files_of_docker() <= before


def files_of_docker() -> set[Path]:
    """Where Docker keeps something if it is not told of another place."""
    places = itertools.product(("/etc", "/opt", "/run", "/var/lib"), ("docker", "containerd"))
    tops = [Path(*place) for place in places]
    return {path for top in tops for path in (top, *top.rglob("*")) if path.exists()}


@pytest.fixture(scope="session")
def lab(engine: str) -> Iterator[Lab]:
    """The lab of tests/netns/harness.py: Docker runs in its server, so the uplinks are eth0 and eth1."""
    lab = Lab(engine)
    yield lab
    lab.close()


@pytest.fixture(scope="session")
def daemon(lab: Lab) -> Iterator[Daemon]:
    """A Docker daemon; whoever restarts or kills it leaves it running."""
    with daemon_in(lab.server) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def shell_image(daemon: Daemon) -> str:
    """An image with busybox alone."""
    return make_shell(daemon.client)


@pytest.fixture(autouse=True)
def shown_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """pytest shows what the daemon wrote during a test that fails."""
    daemon = request.getfixturevalue("daemon") if "daemon" in request.fixturenames else None
    before = len(daemon.log) if daemon else 0
    yield
    if daemon:
        print(daemon.log[before:])
