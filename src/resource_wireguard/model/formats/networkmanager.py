"""A config as a connection of NetworkManager: nm-settings-keyfile(5), nm-settings-nmcli(5)."""

from collections.abc import Iterable
from functools import partial

from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.formats import lines
from resource_wireguard.model.formats.config import AUTO, OFF, InterfaceSection, PeerSection, WgQuickConfig
from resource_wireguard.model.formats.lines import comment, text_of
from resource_wireguard.model.names import check_interface
from resource_wireguard.model.net import is_v6

EXCLUSIVE = -50
"""dns-priority below zero: no other connection's servers are asked, as with wg-quick(8)'s resolvconf -x."""

_TABLES = {"default": "253", "main": "254", "local": "255"}
"""The names of /etc/iproute2/rt_tables that are the same everywhere; NetworkManager takes numbers only."""

setting = partial(lines.setting, equals="=")


def render(config: WgQuickConfig, interface: str) -> dict[str, str]:
    """File name → text, for /etc/NetworkManager/system-connections (mode 0600, or it is ignored).

    Hooks and SaveConfig have no counterpart in a connection and are left out.
    """
    check_interface(interface)
    sections = [
        _connection(interface),
        _wireguard(config.interface),
        *map(_peer, config.peers),
        _family(config.interface, v6=False),
        _family(config.interface, v6=True),
    ]
    return {f"{interface}.nmconnection": text_of(sections)}


def _connection(interface: str) -> list[str]:
    return [
        "[connection]",
        *setting("id", interface),
        *setting("type", "wireguard"),
        *setting("interface-name", interface),
    ]


def _wireguard(section: InterfaceSection) -> list[str]:
    """[wireguard]; NetworkManager makes its own rules for a default route, as Table=auto asks."""
    no_rules = None if section.table == AUTO else "0"
    return [
        "[wireguard]",
        *setting("private-key", section.private_key.reveal()),
        *setting("listen-port", section.listen_port),
        *setting("fwmark", section.fwmark),
        *setting("mtu", section.mtu),
        *setting("peer-routes", "false" if section.table == OFF else None),
        *setting("ip4-auto-default-route", no_rules),
        *setting("ip6-auto-default-route", no_rules),
    ]


def _peer(peer: PeerSection) -> list[str]:
    return [
        f"[wireguard-peer.{peer.public_key}]",
        *comment("Name", peer.name),
        *setting("endpoint", peer.endpoint),
        *setting("preshared-key", peer.preshared_key and peer.preshared_key.reveal()),
        # "0": the key is in this file, nobody has to be asked for it.
        *setting("preshared-key-flags", "0" if peer.preshared_key else None),
        *setting("persistent-keepalive", peer.keepalive),
        *setting("allowed-ips", _list(peer.allowed_ips)),
    ]


def _family(section: InterfaceSection, *, v6: bool) -> list[str]:
    """[ipv4] or [ipv6]; without an address the family is off, and then it may have no DNS either."""
    title = "[ipv6]" if v6 else "[ipv4]"
    addresses = [address for address in section.addresses if is_v6(address) == v6]
    if not addresses:
        return [title, *setting("method", "disabled")]
    servers = [server for server in section.dns if is_v6(server) == v6]
    return [
        title,
        *setting("method", "manual"),
        *(line for n, address in enumerate(addresses, 1) for line in setting(f"address{n}", address)),
        *setting("dns", _list(servers)),
        *setting("dns-search", _list(section.search or ("~",)) if servers else None),
        *setting("dns-priority", EXCLUSIVE if servers else None),
        *setting("route-table", _route_table(section.table)),
    ]


def _route_table(table: str) -> str:
    if table in (AUTO, OFF):
        return ""
    number = _TABLES.get(table, table)
    if not number.isdigit():
        raise InvalidInput(
            f"table '{table}' has a name, and NetworkManager takes numbers only",
            "write its number, as /etc/iproute2/rt_tables has it",
        )
    return number


def _list(words: Iterable[str]) -> str:
    """A list of the keyfile format: every element is followed by ';'."""
    return "".join(f"{word};" for word in words)
