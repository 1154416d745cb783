"""A config as JSON, for programs: the fields of wg-quick(8) under the names that this project uses."""

import msgspec

from resource_wireguard.model.formats.config import PeerSection, WgQuickConfig


def render(config: WgQuickConfig) -> str:
    """One object of 'interface' and 'peers'; what is not set is null, 0 or empty, and always there."""
    section = config.interface
    whole = {
        "interface": {
            "private_key": section.private_key.reveal() or None,
            "addresses": section.addresses,
            "listen_port": section.listen_port,
            "fwmark": section.fwmark,
            "mtu": section.mtu,
            "table": section.table,
            "dns": section.dns,
            "search": section.search,
        },
        "peers": [_peer(peer) for peer in config.peers],
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode() + "\n"


def _peer(peer: PeerSection) -> dict[str, object]:
    return {
        "name": peer.name,
        "public_key": str(peer.public_key),
        "preshared_key": peer.preshared_key and peer.preshared_key.reveal(),
        "allowed_ips": peer.allowed_ips,
        "endpoint": str(peer.endpoint) if peer.endpoint else None,
        "keepalive": peer.keepalive,
    }
