"""What an engine says of an interface, as records; and a memory for what it says over and over again."""

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

import msgspec

from resource_wireguard.host.facts import PeerFacts
from resource_wireguard.host.state import Device, Peer, PeerEndpoint
from resource_wireguard.model.keys import PublicKey

PeerKey = tuple[str, PublicKey]

Words = TypeVar("Words", str, bytes)
"""An engine's words for one peer: lines of the UAPI, or a netlink attribute."""


class Row(NamedTuple):
    """One peer, or a further part of one that was told before."""

    key: PeerKey
    peer: Peer
    endpoint: PeerEndpoint | None
    facts: PeerFacts


class Reading(msgspec.Struct, frozen=True):
    """What one engine said of its interface; device is None while it has no private key."""

    device: Device | None
    peers: dict[PeerKey, Peer]
    endpoints: dict[PeerKey, PeerEndpoint]
    facts: dict[PeerKey, PeerFacts]


class Memory(Generic[Words]):
    """Rows by the very words an engine used for them the last time, so that nothing is read twice.

    Of ten thousand peers most are silent between two looks, and their words stay the same.
    """

    def __init__(self) -> None:
        self._rows: dict[Words, Row] = {}

    def rows(self, said: Iterable[Words], read: Callable[[Words], Row]) -> Iterable[Row]:
        """A row for each peer's words, in their order; what was not said again is forgotten."""
        before, self._rows = self._rows, {}
        for words in said:
            self._rows[words] = before.get(words) or read(words)
        return self._rows.values()


def reading_of(device: Device | None, rows: Iterable[Row]) -> Reading:
    """Rows by their keys; a further row of a peer adds its allowed IPs."""
    peers: dict[PeerKey, Peer] = {}
    endpoints: dict[PeerKey, PeerEndpoint] = {}
    facts: dict[PeerKey, PeerFacts] = {}
    for key, peer, endpoint, fact in rows:
        if key in peers:
            allowed_ips = peers[key].allowed_ips | peer.allowed_ips
            peers[key] = msgspec.structs.replace(peers[key], allowed_ips=allowed_ips)
            continue
        peers[key] = peer
        facts[key] = fact
        if endpoint is not None:
            endpoints[key] = endpoint
    return Reading(device, peers, endpoints, facts)
