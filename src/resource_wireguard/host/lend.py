"""Keys that cannot be had now are taken from where they run: from the devices themselves. Pure.

So a tunnel that runs stays as it is, and is kept so, while its keys are locked away or damaged; only what
would have to be made anew has to wait for them.
"""

from collections.abc import Iterable, Iterator

import msgspec

from resource_wireguard.host.facts import Problem
from resource_wireguard.host.state import Device, HostState, Key, Peer, PeerEndpoint, Record
from resource_wireguard.model.keys import SecretKey


class Lent(msgspec.Struct, frozen=True):
    """Desired and actual state without what has to wait, and one problem for each part that does."""

    desired: HostState
    actual: HostState
    problems: tuple[Problem, ...] = ()


def lend(desired: HostState, actual: HostState) -> Lent:
    """Put the keys that run in the place of those that are absent; leave out what no key is known for.

    An interface whose private key is neither at hand nor on its device is left alone, with all on it.
    A peer that would need an absent preshared key to be made is left out.
    """
    devices = [device for device in desired.of(Device).values() if device.private_key.why]
    peers = [peer for peer in desired.of(Peer).values() if peer.preshared_key and peer.preshared_key.why]
    if not devices and not peers:
        return Lent(desired, actual)
    lent = {(type(record), record.key): record for record in _lent(devices, peers, actual)}
    waiting = {d.interface: d for d in devices if (Device, d.key) not in lent}
    left_out = {p.key: p for p in peers if (Peer, p.key) not in lent and p.interface not in waiting}
    absent: list[tuple[str, SecretKey | None]] = [(d.interface, d.private_key) for d in waiting.values()]
    absent += [(p.interface, p.preshared_key) for p in left_out.values()]
    return Lent(
        _replaced(desired, lent, set(waiting), set(left_out)),
        _replaced(actual, {}, set(waiting), set()),
        tuple(dict.fromkeys(_problems(absent))),
    )


def _lent(devices: list[Device], peers: list[Peer], actual: HostState) -> Iterator[Record]:
    """The records for which a key runs: a device's is checked, a preshared one cannot be."""
    for device in devices:
        held = actual.of(Device).get(device.key)
        if held and held.private_key.public() == device.private_key.public():
            yield msgspec.structs.replace(device, private_key=held.private_key)
    for peer in peers:
        found = actual.of(Peer).get(peer.key)
        if found:
            yield msgspec.structs.replace(peer, preshared_key=found.preshared_key)


def _replaced(
    state: HostState, lent: dict[Key, Record], interfaces: set[str], left_out: set[Key]
) -> HostState:
    objects = {
        kind: {
            key: lent.get((kind, key), record)
            for key, record in records.items()
            if record.interface not in interfaces and not (kind in (Peer, PeerEndpoint) and key in left_out)
        }
        for kind, records in state.objects.items()
    }
    return HostState(objects, state.owners)


def _problems(absent: Iterable[tuple[str, SecretKey | None]]) -> Iterator[Problem]:
    """One for each interface and reason."""
    for interface, key in absent:
        assert key and key.why
        yield Problem(key.why.message, key.why.hint, interface)
