"""Counters that outlive what counts: totals of peers, and rates between two looks. No I/O.

An engine counts from zero when it starts, and when a peer is made. A total is therefore the sum of what was
seen to grow: a counter below the one seen last was started anew, and so was that of a peer which was seen to
be gone. What an engine carried between the last look and its death is lost, 30 seconds' worth at most.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from resource_wireguard.host.facts import Observation, PeerFacts
from resource_wireguard.host.state import Device, Link
from resource_wireguard.model.keys import PublicKey

PeerKey = tuple[str, PublicKey]
"""A peer: by its interface and its public key."""

SPAN = 1.0
"""Seconds between two looks from which on a rate means something."""

_NOTHING = PeerFacts()


class Count(msgspec.Struct):
    """Bytes of one peer at one place: all there were, and what its engine said at the last look.

    owner names the tunnel and the peer, who may change interface and key.
    """

    rx_total: int = 0
    tx_total: int = 0
    rx_seen: int = 0
    tx_seen: int = 0
    owner: str = ""


def grown(before: int, now: int) -> int:
    """By how much a counter has grown; one that went back was started anew, and has counted from zero."""
    return now - before if now >= before else now


class Totals:
    """The counts of all peers, and which of them have changed since they were last asked for."""

    def __init__(self, saved: Mapping[PeerKey, Count]) -> None:
        self._counts = dict(saved)
        self._changed: set[PeerKey] = set()
        self.nameless = {key for key, count in saved.items() if not count.owner}
        self._last: Mapping[PeerKey, PeerFacts] = {}

    def __getitem__(self, key: PeerKey) -> Count:
        return self._counts.get(key) or Count()

    def see(self, seen: Observation) -> bool:
        """Add what has grown since the last look, and say whether a counter was started anew.

        Peers whose facts are the same object as last time are passed over: at rest, that is all of them.
        """
        last, anew = self._last, False
        for key, facts in seen.peers.items():
            if facts is not last.get(key):
                anew |= self._add(key, facts)
        for key in self._counts.keys() - seen.peers.keys():
            count = self._counts[key]
            if (count.rx_seen or count.tx_seen) and _is_gone(key, seen):
                count.rx_seen = count.tx_seen = 0
                self._changed.add(key)
                anew = True
        self._last = seen.peers
        return anew

    def changed(self) -> Iterator[tuple[PeerKey, Count]]:
        """The counts that are to be saved."""
        return ((key, self._counts[key]) for key in self._changed)

    def saved(self) -> None:
        """All of them are."""
        self._changed.clear()

    def name(self, owners: Mapping[PeerKey, str]) -> None:
        """Say whose the nameless counts are."""
        for key in self.nameless & owners.keys():
            self._counts[key].owner = owners[key]
            self._changed.add(key)
            self.nameless.discard(key)

    def keep(self, wanted: Mapping[PeerKey, str]) -> list[PeerKey]:
        """Drop the places that nobody wants any more; which they were. wanted has the owner of each place.

        What an owner has carried at a place it has left goes over to the first one that it has now.
        """
        heirs: dict[str, PeerKey] = {}
        for key, owner in wanted.items():
            heirs.setdefault(owner, key)
        gone = [key for key in self._counts if key not in wanted and key not in self._last]
        for key in gone:
            left = self._counts.pop(key)
            self._changed.discard(key)
            self.nameless.discard(key)
            if heir := heirs.get(left.owner):
                count = self._counts.setdefault(heir, Count(owner=left.owner))
                count.rx_total += left.rx_total
                count.tx_total += left.tx_total
                self._changed.add(heir)
        return gone

    def _add(self, key: PeerKey, facts: PeerFacts) -> bool:
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = Count()
            self.nameless.add(key)
        if (count.rx_seen, count.tx_seen) == (facts.rx_bytes, facts.tx_bytes):
            return False
        anew = facts.rx_bytes < count.rx_seen or facts.tx_bytes < count.tx_seen
        if anew:  # both counters of a peer begin together
            count.rx_seen = count.tx_seen = 0
        count.rx_total += facts.rx_bytes - count.rx_seen
        count.tx_total += facts.tx_bytes - count.tx_seen
        count.rx_seen, count.tx_seen = facts.rx_bytes, facts.tx_bytes
        self._changed.add(key)
        return anew


def _is_gone(key: PeerKey, seen: Observation) -> bool:
    """Whether a peer that was not seen is not there: its engine answered, or its interface is no more."""
    interface = key[0]
    return interface in seen.state.of(Device) or (seen.complete and interface not in seen.state.of(Link))


class Look(NamedTuple):
    """What rates are made of: Unix seconds, bytes by peer, and the CPU seconds that we had used."""

    at: float
    peers: Mapping[PeerKey, PeerFacts]
    cpu: float


class Rates:
    """Compares the latest look with one that is at least SPAN older."""

    def __init__(self) -> None:
        self._base: Look | None = None
        self._kept: Look | None = None
        self._latest: Look | None = None

    def see(self, look: Look) -> None:
        """One more look; after a clock that was set back, all begins anew."""
        if self._kept and look.at < self._kept.at:
            self._base = self._kept = None
        if self._kept is None or look.at - self._kept.at >= SPAN:
            self._base, self._kept = self._kept, look
        self._latest = look

    @property
    def seconds(self) -> float | None:
        """How long the time is that rates are an average of; None while there were no two looks."""
        return self._latest.at - self._base.at if self._latest and self._base else None

    def of(self, key: PeerKey) -> tuple[float, float] | tuple[None, None]:
        """Bytes a second that one peer sent us and was sent."""
        if not self.seconds or self._base is None or self._latest is None:
            return None, None
        before, now = self._base.peers.get(key, _NOTHING), self._latest.peers.get(key, _NOTHING)
        received, sent = grown(before.rx_bytes, now.rx_bytes), grown(before.tx_bytes, now.tx_bytes)
        return received / self.seconds, sent / self.seconds

    def cpu_percent(self) -> float | None:
        """What the agent itself took of one CPU."""
        if not self.seconds or self._base is None or self._latest is None:
            return None
        return 100 * (self._latest.cpu - self._base.cpu) / self.seconds
