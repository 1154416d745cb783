"""Names of endpoints: looked up when a peer is silent, again and again, ever more seldom."""

import asyncio
import socket
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from tests.unit.features.tunnel.test_compile import NOW, peer, tunnel
from tests.unit.worlds import key_of

from resource_wireguard.features.tunnel import source
from resource_wireguard.features.tunnel.source import RETRY_FIRST, RETRY_MOST, names_wanted, resolve_endpoints
from resource_wireguard.host.facts import Facts, Observation, PeerFacts
from resource_wireguard.model.specs import Specs

NAMED = peer("site", endpoint="vpn.example.org:51820")


def facts(handshake: float | None, resolved: dict[str, str] | None = None) -> Facts:
    known = {("wg-home", key_of("site")): PeerFacts(latest_handshake=handshake)}
    return Facts(NOW, Observation(peers=known), resolved or {})


@pytest.mark.parametrize(
    ("spec", "seen", "wanted"),
    [
        (tunnel(NAMED), None, True),
        (tunnel(NAMED), facts(None), True),
        (tunnel(NAMED), facts(NOW - 200), True),
        (tunnel(NAMED), facts(NOW - 100), False),
        (tunnel(NAMED, active=False), None, False),
        (tunnel(peer("site", endpoint="vpn.example.org:1", enabled=False)), None, False),
        (tunnel(peer("site", endpoint="192.0.2.1:1")), None, False),
        (tunnel(peer("site")), None, False),
    ],
)
def test_which_names_are_wanted(spec: Any, seen: Facts | None, wanted: bool) -> None:
    assert names_wanted(Specs({"tunnel": (spec,)}), seen) == (["vpn.example.org"] if wanted else [])


class Ended(Exception):
    pass


class Agent:
    """What the source sees of an agent, on a clock that jumps when it waits."""

    def __init__(self, clock: "Clock", seconds: float) -> None:
        self.learned: list[str] = []
        self.handshake: float | None = None
        self._clock, self._end = clock, clock.now + seconds
        self._resolved: dict[str, str] = {}

    def specs(self) -> Specs:
        return Specs({"tunnel": (tunnel(NAMED),)})

    def facts(self) -> Facts:
        return facts(self.handshake, dict(self._resolved))

    def learn_address(self, host: str, address: str) -> None:
        self.learned.append(address)
        self._resolved[host] = address

    async def wait(self, seconds: float) -> None:
        assert 0 < seconds <= RETRY_FIRST
        self._clock.now += seconds
        if self._clock.now > self._end:
            raise Ended


class Clock:
    now = 5_000.0

    def monotonic(self) -> float:
        return self.now


def run(
    monkeypatch: pytest.MonkeyPatch, seconds: float, answer: Callable[[int], list[str]]
) -> tuple[Agent, list[float]]:
    """The source for some seconds against a resolver that answers as told; when it was asked."""
    clock, asked = Clock(), list[float]()
    agent = Agent(clock, seconds)

    async def lookup(host: str, port: None, **_: object) -> list[tuple[object, ...]]:
        asked.append(clock.now - 5_000)
        found = answer(len(asked))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(None, None, 0, "", (address, 0)) for address in found]

    async def main() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)
        monkeypatch.setattr(source, "time", clock)
        await resolve_endpoints(agent)

    with pytest.raises(Ended):
        asyncio.run(main())
    return agent, asked


def test_it_asks_at_once_and_then_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    _, asked = run(monkeypatch, 4000, lambda _: [])
    pauses = [later - before for before, later in pairwise(asked)]
    assert asked[0] == 0
    assert pauses[:4] == [30, 60, 120, 240]
    assert max(pauses) <= RETRY_MOST + RETRY_FIRST


def test_a_name_that_does_not_resolve_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, asked = run(monkeypatch, 600, lambda _: [])
    assert len(asked) > 2
    assert caplog.messages == ["endpoint vpn.example.org is not resolved: no such name"]


def test_a_moved_name_is_learned_and_a_known_one_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {1: ["192.0.2.1"], 2: ["192.0.2.9", "192.0.2.1"], 3: ["192.0.2.2", "192.0.2.3"]}
    agent, _ = run(monkeypatch, 300, lambda n: answers.get(n, ["192.0.2.2"]))
    assert agent.learned == ["192.0.2.1", "192.0.2.2"], "no change while the known one is among the answers"


def test_the_real_resolver_is_asked() -> None:
    class Once(Agent):
        async def wait(self, seconds: float) -> None:
            raise Ended

        def specs(self) -> Specs:
            return Specs({"tunnel": (tunnel(peer("site", endpoint="localhost:1")),)})

    agent = Once(Clock(), 1)
    with pytest.raises(Ended):
        asyncio.run(resolve_endpoints(agent))
    assert agent.learned
    assert agent.learned[0] in ("127.0.0.1", "::1")
