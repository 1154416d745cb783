"""A tunnel or a peer as the text that wg-quick(8) and the phone apps read."""

from collections.abc import Iterable

import msgspec

from resource_wireguard.host.facts import Survey
from resource_wireguard.host.ipam import PRIVATE_BLOCKS
from resource_wireguard.model.keys import PrivateKey
from resource_wireguard.model.net import Endpoint, covers, network_of
from resource_wireguard.model.settings import Settings
from resource_wireguard.model.specs import PeerSpec, TunnelSpec

EVERYWHERE = ("0.0.0.0/0", "::/0")
"""Both families, also where the tunnel has only one: the other must not leak past an exit."""

HIDDEN = "(hidden: ask with --show-secrets)"


class Config(msgspec.Struct, frozen=True):
    """A config and what a person should know about it. It holds keys: its repr says nothing."""

    config: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "Config(hidden)"


def peer_config(
    tunnel: TunnelSpec, peer: PeerSpec, private_key: PrivateKey | None, settings: Settings, survey: Survey
) -> Config:
    """What the peer's own device needs, ready to be used unless a note says what is missing."""
    endpoint, note = _reachable_at(tunnel, survey)
    keepalive = settings.keepalive if peer.config_keepalive is None else peer.config_keepalive
    mtu = tunnel.mtu
    lines = [
        f"# tunnel {tunnel.name}, peer {peer.name}",
        "[Interface]",
        f"PrivateKey = {private_key.reveal()}"
        if private_key
        else "# PrivateKey = (the peer's own; put it in)",
        *_line("Address", peer.addresses),
        *_line("DNS", peer.config_dns or tunnel.dns or settings.dns),
        *_line("MTU", [str(mtu)] if mtu else []),
        "",
        "[Peer]",
        f"PublicKey = {tunnel.public_key}",
        *_line("PresharedKey", [peer.preshared_key.reveal()] if peer.preshared_key else []),
        *_line("AllowedIPs", config_allowed_ips(tunnel, peer, settings)),
        f"Endpoint = {endpoint}" if endpoint else f"# Endpoint = (this host):{tunnel.listen_port}",
        *_line("PersistentKeepalive", [str(keepalive)] if keepalive else []),
    ]
    notes = (note, "" if private_key else _key_note(peer), "" if peer.addresses else _address_note(peer))
    return Config("\n".join(lines) + "\n", tuple(filter(None, notes)))


def config_allowed_ips(tunnel: TunnelSpec, peer: PeerSpec, settings: Settings) -> tuple[str, ...]:
    """What the peer sends into the tunnel: its own list, the setting's, or the default."""
    fallback = EVERYWHERE if tunnel.exit else tuple(dict.fromkeys(map(network_of, tunnel.addresses)))
    return peer.config_allowed_ips or settings.allowed_ips or fallback


def tunnel_config(tunnel: TunnelSpec, show_secrets: bool) -> str:
    """This host's own side, as wg-quick would be given it. Routes and firewall are the agent's, not its."""
    lines = [
        f"# tunnel {tunnel.name}, interface {tunnel.interface}",
        "[Interface]",
        _key_line("PrivateKey", tunnel.private_key.reveal() if show_secrets else None),
        *_line("Address", tunnel.addresses),
        f"ListenPort = {tunnel.listen_port}",
        *_line("MTU", [str(tunnel.mtu)] if tunnel.mtu else []),
    ]
    for peer in tunnel.peers:
        if peer.enabled:
            lines.extend(_peer_lines(peer, show_secrets))
    return "\n".join(lines) + "\n"


def _peer_lines(peer: PeerSpec, show_secrets: bool) -> list[str]:
    lines = ["", f"# peer {peer.name}", "[Peer]", f"PublicKey = {peer.public_key}"]
    if peer.preshared_key:
        lines.append(_key_line("PresharedKey", peer.preshared_key.reveal() if show_secrets else None))
    lines.extend(_line("AllowedIPs", sorted(peer.allowed_ips)))
    lines.extend(_line("Endpoint", [str(peer.endpoint)] if peer.endpoint else []))
    lines.extend(_line("PersistentKeepalive", [str(peer.keepalive)] if peer.keepalive else []))
    return lines


def _key_line(name: str, key: str | None) -> str:
    return f"{name} = {key}" if key else f"# {name} = {HIDDEN}"


def _line(name: str, values: Iterable[str]) -> list[str]:
    text = ", ".join(values)
    return [f"{name} = {text}"] if text else []


def _reachable_at(tunnel: TunnelSpec, survey: Survey) -> tuple[Endpoint | None, str]:
    """Where peers find this host, and a note if that will not work from everywhere."""
    if tunnel.endpoint:
        return tunnel.endpoint, ""
    change = f"set it with 'resource-wireguard interface config {tunnel.name} --endpoint HOST'"
    if survey.public_address is None:
        return None, f"this host's address is not known, so the config has no endpoint: {change}"
    endpoint = Endpoint(survey.public_address, tunnel.listen_port)
    if any(covers(str(block), survey.public_address) for block in PRIVATE_BLOCKS):
        return endpoint, (
            f"the endpoint {endpoint} is a private address, which peers elsewhere do not reach: {change}"
        )
    return endpoint, ""


def _key_note(peer: PeerSpec) -> str:
    return f"the private key of '{peer.name}' is not held here: put it into the config on its device"


def _address_note(peer: PeerSpec) -> str:
    return f"peer '{peer.name}' has no address in this tunnel: put one into the config on its device"
