"""What the tests of this lane share: a lab and an agent for each module, and its log where a test fails."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.netns.harness import Agent, Lab


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On the kernel's engine, which may be a slow one's, leave out what no engine makes a difference to."""
    if config.getoption("--engine") == "kernel":
        same = [item for item in items if item.get_closest_marker("any_engine")]
        config.hook.pytest_deselected(items=same)
        items[:] = [item for item in items if item not in same]


@pytest.fixture(scope="module")
def lab(engine: str) -> Iterator[Lab]:
    """A network of its own for each module of tests."""
    lab = Lab(engine)
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def server(lab: Lab) -> Agent:
    """An agent that the module's tests share; each makes tunnels of its own."""
    return lab.agent().start()


@pytest.fixture
def agent(lab: Lab) -> Iterator[Agent]:
    """An agent of the test's own."""
    with lab.own_agent() as agent:
        yield agent


@pytest.fixture
def phone(sites: tuple[Any, Any]) -> Iterator[None]:
    """A peer of A that never moves: a rotation is half done till its overlap is over or it is rolled back."""
    a, _ = sites
    a.agent.call("peer.add", tunnel=a.tunnel, name="phone")
    yield
    a.agent.call("peer.remove", tunnel=a.tunnel, name="phone")


@pytest.fixture(autouse=True)
def shown_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """pytest shows what the agent wrote during a test that fails."""
    agent = request.getfixturevalue("server") if "server" in request.fixturenames else None
    before = len(agent.log) if agent else 0
    yield
    if agent:
        print(agent.log[before:])
