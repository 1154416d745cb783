"""What a wg-quick(8) config file says, as frozen values; every format here is written from them."""

import msgspec

from resource_wireguard.model.keys import PresharedKey, PrivateKey, PublicKey, SecretKey
from resource_wireguard.model.net import Endpoint, is_v6

AUTO, OFF = "auto", "off"
"""The two words of wg-quick(8)'s Table; anything else is a routing table's number or name."""

_MASK = "(hidden)"


class Hook(msgspec.Struct, frozen=True):
    """A shell command of wg-quick(8) (PreUp, PostUp, PreDown, PostDown); kept as text, never run."""

    key: str
    command: str
    line: int


class InterfaceSection(msgspec.Struct, frozen=True, kw_only=True):
    """[Interface] of wg(8) and wg-quick(8); fwmark 0 is "off", None is "found when it starts"."""

    private_key: PrivateKey
    addresses: tuple[str, ...] = ()
    listen_port: int | None = None
    fwmark: int = 0
    mtu: int | None = None
    table: str = AUTO
    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    save_config: bool = False


class PeerSection(msgspec.Struct, frozen=True, kw_only=True):
    """[Peer] of wg(8); the name comes from a comment, keepalive is in seconds and 0 is "off"."""

    public_key: PublicKey
    name: str = ""
    preshared_key: PresharedKey | None = None
    allowed_ips: tuple[str, ...] = ()
    endpoint: Endpoint | None = None
    keepalive: int = 0

    @property
    def default_routes(self) -> tuple[str, ...]:
        """Those of its allowed IPs that mean "everything": 0.0.0.0/0, ::/0."""
        return tuple(prefix for prefix in self.allowed_ips if prefix.endswith("/0"))


class WgQuickConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One wg-quick(8) file; the hooks stand apart, because whoever takes them over has to say so."""

    interface: InterfaceSection
    peers: tuple[PeerSection, ...] = ()
    hooks: tuple[Hook, ...] = ()

    @property
    def default_families(self) -> tuple[str, ...]:
        """The families ("ipv4", "ipv6") whose whole traffic goes into the tunnel (wg-quick(8), Table)."""
        routes = [route for peer in self.peers for route in peer.default_routes]
        return tuple(sorted({"ipv6" if is_v6(route) else "ipv4" for route in routes}))


class _Masked(SecretKey):
    """A key that has gone: its place is kept, its bytes are zeros, and it reveals nothing."""

    __slots__ = ()

    def reveal(self) -> str:
        return _MASK


class _MaskedPrivateKey(_Masked, PrivateKey):
    __slots__ = ()


class _ElsewherePrivateKey(PrivateKey):
    __slots__ = ()

    def reveal(self) -> str:
        return ""


KEY_ELSEWHERE: PrivateKey = _ElsewherePrivateKey(32)
"""For a config whose owner puts the key in: every renderer leaves the line out."""


class _MaskedPresharedKey(_Masked, PresharedKey):
    __slots__ = ()


def masked(config: WgQuickConfig) -> WgQuickConfig:
    """A copy for display: every renderer writes "(hidden)" for its keys, as wg(8) show does."""
    replace = msgspec.structs.replace
    interface = replace(config.interface, private_key=_MaskedPrivateKey(32))
    peers = tuple(
        replace(peer, preshared_key=_MaskedPresharedKey(32)) if peer.preshared_key else peer
        for peer in config.peers
    )
    return replace(config, interface=interface, peers=peers)
