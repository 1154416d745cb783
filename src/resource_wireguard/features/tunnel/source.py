"""Resolves the DNS names of endpoints, again when a peer has fallen silent: addresses of homes change."""

import asyncio
import logging
import socket
import time
from collections.abc import Iterator
from typing import Protocol

import msgspec

from resource_wireguard.host.facts import Facts
from resource_wireguard.model.specs import Specs

log = logging.getLogger(__name__)

STALE_AFTER = 135.0
"""Seconds: a living session has a new handshake every 120 (REKEY_AFTER_TIME), and 15 of grace are the
keepalive and rekey timeouts (WireGuard paper, section 6.1). As wg's contributed reresolve-dns.sh has it."""

RETRY_FIRST, RETRY_MOST = 30.0, 600.0
"""Seconds between two look-ups of one name: doubled each time, so that a peer that is away costs little."""


class Listener(Protocol):
    """What a source works with: the agent."""

    def specs(self) -> Specs:
        """The specs of the last pass."""

    def facts(self) -> Facts | None:
        """The facts of the last pass."""

    def learn_address(self, host: str, address: str) -> None:
        """A name was resolved."""

    async def wait(self, seconds: float) -> None:
        """Until the next report, at most some seconds."""


class Attempt(msgspec.Struct, frozen=True):
    """When a name is to be looked up next (monotonic seconds), and how long to wait after that."""

    due: float = 0.0
    pause: float = RETRY_FIRST


async def resolve_endpoints(agent: Listener) -> None:
    """Look up what is wanted and due, for ever. A name that nobody waits for is forgotten."""
    attempts: dict[str, Attempt] = {}
    while True:
        wanted = names_wanted(agent.specs(), agent.facts())
        attempts = {host: attempts.get(host, Attempt()) for host in wanted}
        for host, attempt in attempts.items():
            if attempt.due <= time.monotonic():
                attempts[host] = _next(attempt)
                await _resolve(agent, host, told=attempt.pause == RETRY_FIRST)
        next_due = min((attempt.due for attempt in attempts.values()), default=float("inf"))
        await agent.wait(min(RETRY_FIRST, max(0.1, next_due - time.monotonic())))


def names_wanted(specs: Specs, facts: Facts | None) -> list[str]:
    """The names behind which a peer is silent, or was never heard."""
    return list(dict.fromkeys(_silent_names(specs, facts)))


def _silent_names(specs: Specs, facts: Facts | None) -> Iterator[str]:
    for tunnel in specs.tunnels:
        for peer in tunnel.peers if tunnel.active else ():
            if peer.enabled and peer.endpoint and peer.endpoint.is_name:
                age = facts.handshake_age(tunnel.interface, peer.public_key) if facts else None
                if age is None or age > STALE_AFTER:
                    yield peer.endpoint.host


async def _resolve(agent: Listener, host: str, told: bool) -> None:
    """Ask once; told: say what goes wrong, as later attempts follow by themselves."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        if told:
            reason = error.strerror if isinstance(error, OSError) else "it is no name of a host"
            log.warning("endpoint %s is not resolved: %s", host, reason)
        return
    addresses = [str(address[4][0]) for address in found]
    known = facts.resolved.get(host) if (facts := agent.facts()) else None
    if addresses and known not in addresses:
        # The resolver sorts by what this host can reach (RFC 6724, rule 1): the first has a route.
        agent.learn_address(host, addresses[0])


def _next(attempt: Attempt) -> Attempt:
    return Attempt(time.monotonic() + attempt.pause, min(attempt.pause * 2, RETRY_MOST))
