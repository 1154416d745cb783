"""Agents that are killed in the middle of a rotation: it ends complete or as if it had not begun."""

import contextlib
import itertools
from collections.abc import Iterator

import pytest
from tests.netns.harness import PATIENCE, Agent, Lab, Refused, wait_until
from tests.netns.mortal import MortalAgent
from tests.netns.test_exchange import A_INSIDE, Site, agree, introduce, moved

ENDS_WITHIN = 3 * PATIENCE


@pytest.fixture(scope="module")
def sites(lab: Lab) -> Iterator[tuple[Site, Site]]:
    """Two sites whose agents can be made to die."""
    made = []
    for role, namespace in (("a", lab.server), ("b", lab.laptop)):
        agent = MortalAgent(namespace, lab.folder / f"mortal-{role}", lab.engine)
        agent.open()
        agent.live()
        made.append(agent)
    a, b = introduce(made[0], made[1])
    yield a, b
    for agent in made:
        agent.stop()
        agent.process.communicate(timeout=PATIENCE)


def one_life(mortal: MortalAgent, lifetime: float, a: Site, b: Site) -> bool:
    """Rotate A's keys while one agent has only so long to live; whether it died of that."""
    mortal.retire()
    if mortal.live(lifetime):
        with contextlib.suppress(ConnectionError, Refused):  # it dies of it, or is dead
            a.agent.call("rotate.keys", tunnel=a.tunnel, overlap=3600)
    sure = isinstance(lifetime, float)  # of seconds: they pass, whatever there is to do
    wait_until(lambda: mortal.is_dead() or (not sure and quiet(a, b)), ENDS_WITHIN, "a death or an end")
    died = mortal.is_dead()
    if died:
        assert mortal.death() < 0
        assert mortal.live()
    wait_until(lambda: quiet(a, b), ENDS_WITHIN, f"an end, after a life of {lifetime}")
    return died


def quiet(a: Site, b: Site) -> bool:
    """Whether nothing is being rotated, both agree, and neither has anything to do."""
    with contextlib.suppress(OSError):  # the agent that is to die
        return not running(a.agent, a.tunnel) and agree(a, b)
    return False


def running(agent: Agent, tunnel: str) -> list[dict]:
    return [r for r in agent.call("rotate.history", tunnel=tunnel) if not r["ended_at"]]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("whose", ["a", "b"])
def test_killed_after_any_action_of_a_rotation(sites: tuple[Site, Site], whose: str) -> None:
    """a: the agent whose key changes. b: the one that takes the new key in."""
    a, b = sites
    mortal = (a if whose == "a" else b).agent
    for position in itertools.count(1):
        if not one_life(mortal, position, a, b):
            break
        assert b.namespace.ping(A_INSIDE)
        outcomes = {r["outcome"] for r in a.agent.call("rotate.history", tunnel=a.tunnel)}
        assert outcomes <= {"complete"}
        assert len(a.interfaces()) == 1
    assert position > 8, "a rotation has many steps"
    mortal.retire()
    mortal.live()


@pytest.mark.any_engine
@pytest.mark.timeout(600)
@pytest.mark.parametrize("whose", ["a", "b"])
def test_killed_at_any_moment_of_a_rotation(sites: tuple[Site, Site], whose: str) -> None:
    a, b = sites
    mortal = (a if whose == "a" else b).agent
    for number in range(10):
        assert one_life(mortal, 0.3 + number * 0.12, a, b)
        assert len(a.interfaces()) == 1


@pytest.mark.timeout(600)
@pytest.mark.parametrize("whose", ["a", "b"])
def test_killed_while_it_goes_back(sites: tuple[Site, Site], phone: None, whose: str) -> None:
    """a: the agent that withdraws its new key. b: the one that has moved to it."""
    a, b = sites
    mortal = (a if whose == "a" else b).agent
    before, interfaces = a.shown()["public_key"], a.interfaces()
    for position in itertools.count(1):
        a.agent.call("rotate.keys", tunnel=a.tunnel, overlap=3600)
        wait_until(lambda: moved(a), ENDS_WITHIN, "B's handshake with A's new key")
        wait_until(lambda: a.agent.settled() and b.agent.settled(), ENDS_WITHIN, "nothing left to do")
        mortal.retire()
        died = not mortal.live(position)
        with contextlib.suppress(ConnectionError, Refused):
            a.agent.call("rotate.rollback", tunnel=a.tunnel)
        wait_until(lambda: mortal.is_dead() or quiet(a, b), ENDS_WITHIN, "a death or an end")
        if died := died or mortal.is_dead():
            assert mortal.death() < 0
            assert mortal.live()
        wait_until(lambda: quiet(a, b), ENDS_WITHIN, f"an end, after a life of {position}")
        assert a.agent.call("rotate.history", tunnel=a.tunnel)[0]["outcome"] == "rolled back"
        assert (a.shown()["public_key"], a.interfaces()) == (before, interfaces)
        assert b.namespace.ping(A_INSIDE)
        if not died:
            break
    assert position > 2
    mortal.retire()
    mortal.live()
