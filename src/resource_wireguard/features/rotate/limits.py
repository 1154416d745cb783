"""How much is done for the agents of peers: root on the other host can say anything, as fast as it likes.

Every bound lies far above what agents do that mean well, and a refused one simply says it again.
"""

import time
from collections.abc import Callable

KEYS_AT_ONCE, KEYS_PER_SECOND = 10, 1.0
"""New keys that are taken in from one peer, preshared ones too: each costs a device, or a change of one, and
a tenth of a second of the engine."""

KEYS_IN_ALL_AT_ONCE, KEYS_IN_ALL_PER_SECOND = 20, 2.0
"""The same from all peers together, so that commands are answered meanwhile."""

KEYS_LASTING, KEYS_LASTING_PER_SECOND = 1200, 1 / 600
"""The same in the long run: each leaves some lines in a journal that is never shortened."""

WISHES_AT_ONCE, WISHES_PER_SECOND = 10, 1 / 600
"""Rotations of our own keys that one peer may ask for: each leaves a retired key, kept for 30 days."""

BUCKETS_MOST = 4096
"""Senders whose rate is remembered: a flood from a wide network costs memory no more than so."""

SIDES_MOST = 9
"""Side devices of a tunnel: peers share them, and two or three serve any number that mean well."""

HISTORY_MOST = 100
"""Rotations of one peer's key by its agent that are remembered."""

Whose = tuple[str, str]
"""A tunnel and a peer, or an interface and an address."""


class Rates:
    """A bucket of tokens for each sender."""

    def __init__(
        self, at_once: float, per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._at_once, self._per_second, self._clock = float(at_once), per_second, clock
        self._buckets: dict[Whose, tuple[float, float]] = {}

    def admit(self, first: str = "", second: str = "") -> bool:
        """Whether one more of a sender is looked at."""
        now, sender = self._clock(), (first, second)
        tokens, at = self._buckets.pop(sender, (self._at_once, now))
        tokens = min(self._at_once, tokens + (now - at) * self._per_second)
        if len(self._buckets) >= BUCKETS_MOST:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[sender] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1


class Limits:
    """What one agent does for the agents of its peers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = Rates(KEYS_AT_ONCE, KEYS_PER_SECOND, clock)
        self._lasting = Rates(KEYS_LASTING, KEYS_LASTING_PER_SECOND, clock)
        self._in_all = Rates(KEYS_IN_ALL_AT_ONCE, KEYS_IN_ALL_PER_SECOND, clock)
        self._wishes = Rates(WISHES_AT_ONCE, WISHES_PER_SECOND, clock)

    def may_bring_key(self, tunnel: str, peer: str) -> bool:
        """Whether one more new key of a peer is taken in now."""
        whose = (tunnel, peer)
        return self._keys.admit(*whose) and self._in_all.admit() and self._lasting.admit(*whose)

    def may_wish(self, tunnel: str, peer: str) -> bool:
        """Whether one more wish of a peer is granted now."""
        return self._wishes.admit(tunnel, peer)
