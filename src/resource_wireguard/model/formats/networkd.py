"""A config as units of systemd-networkd: systemd.netdev(5), sections [WireGuard], and systemd.network(5)."""

from functools import partial

from resource_wireguard.model.formats import lines
from resource_wireguard.model.formats.config import AUTO, InterfaceSection, PeerSection, WgQuickConfig
from resource_wireguard.model.formats.lines import comment, list_of, text_of
from resource_wireguard.model.names import check_interface

DEFAULT_MARK = 51820
"""Mark and routing table of a tunnel that takes all traffic: what wg-quick(8) tries first."""

RULE_PRIORITY = 32764
"""Of the two rules, just before the kernel's main table at 32766 (ip-rule(8))."""

setting = partial(lines.setting, equals="=")


def render(config: WgQuickConfig, interface: str) -> dict[str, str]:
    """File name → text, for /etc/systemd/network (mode 0640, group systemd-network: there are keys in it).

    Hooks and SaveConfig have no counterpart in networkd and are left out.
    """
    check_interface(interface)
    return {
        f"{interface}.netdev": text_of(_netdev(config, interface)),
        f"{interface}.network": text_of(_network(config, interface)),
    }


def _netdev(config: WgQuickConfig, interface: str) -> list[list[str]]:
    section = config.interface
    device = [
        "[NetDev]",
        *setting("Name", interface),
        *setting("Kind", "wireguard"),
        *setting("MTUBytes", section.mtu),
    ]
    wireguard = [
        "[WireGuard]",
        *setting("PrivateKey", section.private_key.reveal()),
        *setting("ListenPort", section.listen_port),
        *setting("FirewallMark", _mark(config)),
        *setting("RouteTable", "main" if section.table == AUTO else section.table),
    ]
    return [device, wireguard, *(_peer(config, peer) for peer in config.peers)]


def _peer(config: WgQuickConfig, peer: PeerSection) -> list[str]:
    """[WireGuardPeer]; a peer that takes all traffic gets its routes in the marked table."""
    takes_all = config.interface.table == AUTO and peer.default_routes
    return [
        "[WireGuardPeer]",
        *comment("Name", peer.name),
        *setting("PublicKey", peer.public_key),
        *setting("PresharedKey", peer.preshared_key and peer.preshared_key.reveal()),
        *setting("AllowedIPs", list_of(peer.allowed_ips)),
        *setting("Endpoint", peer.endpoint),
        *setting("PersistentKeepalive", peer.keepalive),
        *setting("RouteTable", _mark(config) if takes_all else None),
    ]


def _network(config: WgQuickConfig, interface: str) -> list[list[str]]:
    section = config.interface
    network = [
        "[Network]",
        *(line for address in section.addresses for line in setting("Address", address)),
        *(line for server in section.dns for line in setting("DNS", server)),
        *setting("Domains", _domains(section)),
    ]
    return [["[Match]", *setting("Name", interface)], network, *_rules(config)]


def _domains(section: InterfaceSection) -> str:
    """The search domains, and '~.' where there are servers: wg-quick(8) sends them every question."""
    everything = ("~.",) if section.dns and "~." not in section.search else ()
    return list_of(section.search + everything, " ")


def _rules(config: WgQuickConfig) -> list[list[str]]:
    """The two rules by which wg-quick(8) sends all traffic into the tunnel but the tunnel's own packets."""
    families = config.default_families
    if config.interface.table != AUTO or not families:
        return []
    family = setting("Family", families[0] if len(families) == 1 else "both")
    specific_routes_first = [
        *setting("Table", "main"),
        "SuppressPrefixLength=0",
        *setting("Priority", RULE_PRIORITY),
    ]
    rest_into_tunnel = [
        *setting("FirewallMark", _mark(config)),
        *setting("InvertRule", "yes"),
        *setting("Table", _mark(config)),
        *setting("Priority", RULE_PRIORITY + 1),
    ]
    rules = (specific_routes_first, rest_into_tunnel)
    return [["[RoutingPolicyRule]", *family, *rule] for rule in rules]


def _mark(config: WgQuickConfig) -> int:
    """The mark of the tunnel's own packets; one is needed where all traffic goes into the tunnel."""
    needs_one = config.interface.table == AUTO and config.default_families
    return config.interface.fwmark or (DEFAULT_MARK if needs_one else 0)
