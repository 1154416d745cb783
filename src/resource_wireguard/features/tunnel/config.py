"""A tunnel or a peer as a config file: what goes into it; model/formats writes it."""

from collections.abc import Mapping

import msgspec

from resource_wireguard.host.facts import Survey
from resource_wireguard.host.ipam import PRIVATE_BLOCKS
from resource_wireguard.model.formats.config import (
    AUTO,
    KEY_ELSEWHERE,
    OFF,
    InterfaceSection,
    PeerSection,
    WgQuickConfig,
    masked,
)
from resource_wireguard.model.formats.fields import is_dns_address
from resource_wireguard.model.formats.files import NETWORKD, WG_QUICK, files_of, text_of
from resource_wireguard.model.keys import PrivateKey
from resource_wireguard.model.net import Endpoint, covers, network_of
from resource_wireguard.model.settings import Settings
from resource_wireguard.model.specs import NO_TABLE, DeviceSpec, PeerSpec, Seat, TunnelSpec

EVERYWHERE = ("0.0.0.0/0", "::/0")
"""Both families, also where the tunnel has only one: the other must not leak past an exit."""

NETWORKD_NOTE = "networkd reads its files as group systemd-network: chown root:systemd-network, chmod 0640"


class Config(msgspec.Struct, frozen=True):
    """A config as one text and as its files, and what a person should know about it.

    It holds keys: its repr says nothing.
    """

    config: str
    notes: tuple[str, ...] = ()
    files: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return "Config(hidden)"


def peer_config(
    tunnel: TunnelSpec,
    peer: PeerSpec,
    private_key: PrivateKey | None,
    settings: Settings,
    survey: Survey,
    format_: str = WG_QUICK,
) -> Config:
    """What the peer's own device needs, ready to be used unless a note says what is missing."""
    endpoint, note = reachable_at(tunnel, survey)
    hub = PeerSection(
        public_key=tunnel.public_key,
        preshared_key=peer.preshared_key,
        allowed_ips=config_allowed_ips(tunnel, peer, settings),
        endpoint=endpoint,
        keepalive=config_keepalive(peer, settings),
    )
    device = InterfaceSection(
        private_key=private_key or KEY_ELSEWHERE,
        addresses=peer.addresses,
        dns=config_dns(tunnel, peer, settings),
        mtu=tunnel.mtu,
    )
    missing = (
        "" if endpoint else note,
        "" if private_key else _key_note(peer),
        "" if peer.addresses else _address_note(peer),
    )
    head = (f"tunnel {tunnel.name}, peer {peer.name}", *filter(None, missing))
    files = files_of(WgQuickConfig(interface=device, peers=(hub,)), format_, tunnel.interface, head)
    return _printed(files, format_, (note if endpoint else "", *missing))


def succeeded(tunnel: TunnelSpec, successor: DeviceSpec) -> TunnelSpec:
    """A tunnel as peers are to see it once the successor has taken the first device's place."""
    return msgspec.structs.replace(
        tunnel,
        public_key=successor.public_key,
        listen_port=successor.listen_port,
        endpoint=successor.endpoint,
    )


def rekeyed(peer: PeerSpec, seat: Seat) -> PeerSpec:
    """A peer as it is once it has taken up a further key."""
    return msgspec.structs.replace(
        peer,
        public_key=seat.public_key,
        preshared_key=seat.preshared_key,
        has_private_key=seat.private_key is not None,
    )


def config_allowed_ips(tunnel: TunnelSpec, peer: PeerSpec, settings: Settings) -> tuple[str, ...]:
    """What the peer sends into the tunnel: its own list, the setting's, or the default."""
    fallback = EVERYWHERE if tunnel.exit else tuple(dict.fromkeys(map(network_of, tunnel.addresses)))
    return peer.config_allowed_ips or settings.allowed_ips or fallback


def config_dns(tunnel: TunnelSpec, peer: PeerSpec, settings: Settings) -> tuple[str, ...]:
    """Whom the peer asks for names: its own list, the tunnel's, or the setting's."""
    return peer.config_dns or tunnel.dns or settings.dns


def config_keepalive(peer: PeerSpec, settings: Settings) -> int:
    """Seconds between signs of life of the peer's own."""
    return settings.keepalive if peer.config_keepalive is None else peer.config_keepalive


def tunnel_config(tunnel: TunnelSpec, show_secrets: bool, format_: str = WG_QUICK) -> Config:
    """This host's own side, as another program would be given it. The firewall is the agent's, not its."""
    whole = own_side(tunnel)
    head = [f"tunnel {tunnel.name}, interface {tunnel.interface}"]
    if not show_secrets:
        head.append("keys are hidden: ask with --show-secrets")
    files = files_of(whole if show_secrets else masked(whole), format_, tunnel.interface, head)
    return _printed(files, format_, ())


def own_side(tunnel: TunnelSpec) -> WgQuickConfig:
    """The tunnel as wg-quick(8) would be told it; disabled peers are left out."""
    interface = InterfaceSection(
        private_key=tunnel.private_key,
        addresses=tunnel.addresses,
        listen_port=tunnel.listen_port,
        fwmark=tunnel.fwmark,
        mtu=tunnel.mtu,
        table={None: AUTO, NO_TABLE: OFF}.get(tunnel.table, str(tunnel.table)),
        dns=tuple(filter(is_dns_address, tunnel.host_dns)),
        search=tuple(word for word in tunnel.host_dns if not is_dns_address(word)),
    )
    peers = (
        PeerSection(
            public_key=peer.public_key,
            name=peer.name,
            preshared_key=peer.preshared_key,
            allowed_ips=tuple(sorted(peer.allowed_ips)),
            endpoint=peer.endpoint,
            keepalive=peer.keepalive,
        )
        for peer in tunnel.peers
        if peer.enabled
    )
    return WgQuickConfig(interface=interface, peers=tuple(peers))


def _printed(files: Mapping[str, str], format_: str, notes: tuple[str, ...]) -> Config:
    of_format = NETWORKD_NOTE if format_ == NETWORKD else ""
    return Config(text_of(files), tuple(filter(None, (*notes, of_format))), files)


def reachable_at(tunnel: TunnelSpec, survey: Survey) -> tuple[Endpoint | None, str]:
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
