"""What WireGuard is told in one go: the actions on one interface, as the few fields that really change.

Sessions survive this way: a peer's row is never replaced, and a prefix that goes from one peer to another
is only given to the new one, from whom the engine takes it is its own affair (and atomic).
"""

from collections.abc import Iterable, Sequence

import msgspec

from resource_wireguard.host.diff import Action
from resource_wireguard.host.state import Device, Peer, PeerEndpoint
from resource_wireguard.model.keys import PrivateKey, PublicKey

NO_KEY = bytes(32)
"""Both protocols' way to say that there is no preshared key."""


class DeviceChange(msgspec.Struct, frozen=True):
    """The fields of a device to set; None leaves one as it is. fwmark 0 means none."""

    private_key: PrivateKey | None = None
    listen_port: int | None = None
    fwmark: int | None = None


class PeerChange(msgspec.Struct, frozen=True):
    """The fields of a peer to set; None leaves one as it is.

    preshared_key NO_KEY takes it away. allowed_ips are added, or with
    replace_allowed_ips become all it has.
    """

    public_key: PublicKey
    remove: bool = False
    update_only: bool = False
    preshared_key: bytes | None = None
    keepalive: int | None = None
    endpoint: str | None = None
    replace_allowed_ips: bool = False
    allowed_ips: Sequence[str] = ()

    def __repr__(self) -> str:
        return f"PeerChange({self.public_key.short})"


class Transaction(msgspec.Struct, frozen=True):
    """All changes of one device that belong together."""

    device: DeviceChange = DeviceChange()
    peers: Sequence[PeerChange] = ()


def transaction_of(actions: Iterable[Action]) -> Transaction:
    """The actions on one interface's Device, Peer and PeerEndpoint as one transaction."""
    steps = list(actions)
    device = DeviceChange()
    endpoints: dict[PublicKey, str] = {}
    for action in steps:
        if isinstance(action.after, Device):
            device = _device_change(action.before, action.after)
        elif isinstance(action.after, PeerEndpoint):
            endpoints[action.after.public_key] = action.after.endpoint
    peers = [action for action in steps if isinstance(action.record, Peer)]
    gained = {prefix for action in peers for prefix in _gained(action)}
    changes = [_peer_change(action, gained, endpoints) for action in peers]
    changes += [PeerChange(key, update_only=True, endpoint=rest) for key, rest in endpoints.items()]
    return Transaction(device, changes)


def _device_change(before: object, after: Device) -> DeviceChange:
    if not isinstance(before, Device):
        return DeviceChange(after.private_key, after.listen_port, after.fwmark)
    return DeviceChange(
        after.private_key if after.private_key != before.private_key else None,
        after.listen_port if after.listen_port != before.listen_port else None,
        after.fwmark if after.fwmark != before.fwmark else None,
    )


def _gained(action: Action) -> frozenset[str]:
    before, after = action.before, action.after
    if not isinstance(after, Peer):
        return frozenset()
    return after.allowed_ips - before.allowed_ips if isinstance(before, Peer) else after.allowed_ips


def _peer_change(action: Action, gained: set[str], endpoints: dict[PublicKey, str]) -> PeerChange:
    """One peer's change; takes the endpoint that goes with it out of endpoints."""
    before, after = action.before, action.after
    if not isinstance(after, Peer):
        assert isinstance(before, Peer)
        return PeerChange(before.public_key, remove=True)
    endpoint = endpoints.pop(after.public_key, None)
    secret = after.preshared_key or NO_KEY
    if not isinstance(before, Peer):
        return PeerChange(
            after.public_key,
            preshared_key=secret if after.preshared_key else None,
            keepalive=after.keepalive,
            endpoint=endpoint,
            replace_allowed_ips=True,
            allowed_ips=sorted(after.allowed_ips),
        )
    # What another peer gains in this transaction leaves this one by itself; other losses need a new list.
    replaced = bool(before.allowed_ips - after.allowed_ips - gained)
    return PeerChange(
        after.public_key,
        update_only=True,
        preshared_key=secret if after.preshared_key != before.preshared_key else None,
        keepalive=after.keepalive if after.keepalive != before.keepalive else None,
        endpoint=endpoint,
        replace_allowed_ips=replaced,
        allowed_ips=sorted(after.allowed_ips if replaced else after.allowed_ips - before.allowed_ips),
    )
