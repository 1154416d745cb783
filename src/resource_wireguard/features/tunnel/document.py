"""The tunnels and peers of a host as one document: what network.yaml says, as plain values.

Reading checks everything and collects what is wrong with the path of each; writing leaves out what is
the default. Private and preshared keys are never in it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from resource_wireguard.errors import InvalidInput, ResourceError
from resource_wireguard.model.formats.fields import is_dns_address
from resource_wireguard.model.keys import PublicKey, parse_public_key
from resource_wireguard.model.names import check_interface, check_name
from resource_wireguard.model.net import (
    Endpoint,
    host_prefix,
    parse_address,
    parse_endpoint,
    parse_interface_address,
    parse_mtu,
    parse_port,
    parse_prefix,
)
from resource_wireguard.model.settings import Settings
from resource_wireguard.model.specs import NO_TABLE, PeerSpec, TunnelSpec

VERSION = 1
"""The form of the document; a newer one is refused by older programs."""

AUTO, OFF = "auto", "off"
"""The MTU that is found from the path to the peers, the table that wg-quick(8) would take; and no table."""

U32_MOST = (1 << 32) - 1
"""Marks and the numbers of routing tables have 32 bits."""

KEEPALIVE_MOST = 65535
"""Seconds: the field is 16 bits wide (wg(8))."""

_DOMAIN = re.compile(r"[A-Za-z0-9_.~-]{1,253}", re.ASCII)

Path = tuple[str | int, ...]

T = TypeVar("T")


class Fault(msgspec.Struct, frozen=True):
    """Something wrong in a document, and where: keys and list indexes from the top."""

    path: Path
    message: str
    hint: str = ""
    at_key: bool = False

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.path))}: {self.message}" if self.path else self.message


class Faults:
    """Collects what is wrong, so that all of it is told at once."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, path: Path, message: str, hint: str = "", *, at_key: bool = False) -> None:
        """Note one."""
        self.found.append(Fault(path, message, hint, at_key))

    def judged(self, path: Path, parse: Callable[[Any], T], value: Any) -> T | None:
        """What a parser makes of a value; None where it refuses it."""
        try:
            return parse(value)
        except ResourceError as error:
            self.add(path, error.message, error.hint)
            return None

    @contextmanager
    def at(self, path: Path) -> Iterator[None]:
        """What is refused in here is wrong at this path."""
        try:
            yield
        except ResourceError as error:
            self.add(path, error.message, error.hint)


class WantedPeer(msgspec.Struct, frozen=True, kw_only=True):
    """A peer as a document has it; None stays as it is, or is chosen for a new one."""

    public_key: PublicKey | None = None
    preshared_key: bool | None = None
    enabled: bool = True
    addresses: tuple[str, ...] | None = None
    routes: tuple[str, ...] = ()
    endpoint: Endpoint | None = None
    keepalive: int | None = None
    config_allowed_ips: tuple[str, ...] = ()
    config_dns: tuple[str, ...] = ()
    config_keepalive: int | None = None


class WantedTunnel(msgspec.Struct, frozen=True, kw_only=True):
    """A tunnel as a document has it; None stays as it is, or is chosen. No peers: they are not spoken of."""

    active: bool = True
    interface: str | None = None
    port: int | None = None
    addresses: tuple[str, ...] | None = None
    mtu: int | UnsetType | None = UNSET
    exit: bool = False
    endpoint: str | None = None
    dns: tuple[str, ...] = ()
    host_dns: tuple[str, ...] = ()
    fwmark: int = 0
    table: int | None = None
    peers: Mapping[str, WantedPeer] | None = None


class Wanted(msgspec.Struct, frozen=True):
    """A whole document. prune: what it does not speak of is to go."""

    tunnels: Mapping[str, WantedTunnel] = {}
    prune: bool = False


# Reading --------------------------------------------------------------------------------------------

Reader = Callable[[Any, Path, Faults], Any]
"""Reads one value; what is wrong goes to the faults, and any value may then come back."""


def read(document: Any, faults: Faults) -> Wanted:
    """A document from plain values, as far as it can be understood."""
    top = _fields(document, (), faults, {"version": _version, "prune": _flag, "tunnels": _tunnels})
    if isinstance(document, dict) and "version" not in document:
        faults.add((), "'version' is missing", f"begin the file with 'version: {VERSION}'")
    return Wanted(**{name: value for name, value in top.items() if name != "version"})


def _fields(value: Any, path: Path, faults: Faults, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """A mapping with these keys and no others; null is as if the key were not there."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        faults.add(path, f"{_kind(value)} stands where a mapping is wanted", f"it has {_listing(readers)}")
        return {}
    for key in value.keys() - readers.keys():
        near = get_close_matches(key, readers, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {_listing(readers)}"
        faults.add((*path, key), f"'{key[:60]}' is not known here", hint, at_key=True)
    return {
        key: reader(value[key], (*path, key), faults)
        for key, reader in readers.items()
        if value.get(key) is not None
    }


def _named(value: Any, path: Path, faults: Faults, noun: str, read_one: Reader) -> dict[str, Any]:
    """A mapping from names to tunnels or peers."""
    if not isinstance(value, dict):
        faults.add(
            path, f"{_kind(value)} stands where {noun}s by name are wanted", f"write '{noun}: …' in it"
        )
        return {}
    for name in value:
        with faults.at((*path, name)):
            check_name(name, noun)
    return {name: read_one(item, (*path, name), faults) for name, item in value.items()}


def _tunnels(value: Any, path: Path, faults: Faults) -> dict[str, WantedTunnel]:
    return _named(value, path, faults, "tunnel", _tunnel)


def _tunnel(value: Any, path: Path, faults: Faults) -> WantedTunnel:
    return WantedTunnel(**_fields(value, path, faults, TUNNEL))


def _peers(value: Any, path: Path, faults: Faults) -> dict[str, WantedPeer]:
    return _named(value, path, faults, "peer", _peer)


def _peer(value: Any, path: Path, faults: Faults) -> WantedPeer:
    fields = _fields(value, path, faults, PEER)
    config = fields.pop("config", {})
    return WantedPeer(**fields, **{f"config_{name}": found for name, found in config.items()})


def _config(value: Any, path: Path, faults: Faults) -> dict[str, Any]:
    return _fields(value, path, faults, CONFIG)


def _version(value: Any, path: Path, faults: Faults) -> None:
    if value != VERSION or isinstance(value, bool):
        newer = isinstance(value, int) and value > VERSION
        hint = (
            "it was written for a newer version of this program" if newer else f"write 'version: {VERSION}'"
        )
        faults.add(path, f"version {str(value)[:20]!r} is not understood", hint)


def _flag(value: Any, path: Path, faults: Faults) -> bool:
    if not isinstance(value, bool):
        faults.add(path, f"{_kind(value)} is neither true nor false", "write true or false")
    return bool(value)


def _parsed(parse: Callable[[str], Any]) -> Reader:
    """Reads a text that a parser of the model judges."""

    def reader(value: Any, path: Path, faults: Faults) -> Any:
        if not isinstance(value, str):
            faults.add(path, f"{_kind(value)} stands where text is wanted", "put it in quotes")
            return None
        return faults.judged(path, parse, value)

    return reader


def _number(parse: Callable[[int], int]) -> Reader:
    def reader(value: Any, path: Path, faults: Faults) -> int | None:
        if not isinstance(value, int) or isinstance(value, bool):
            faults.add(path, f"{_kind(value)} is not a number", "write a whole number without quotes")
            return None
        return faults.judged(path, parse, value)

    return reader


def _each(parse: Callable[[str], Any]) -> Reader:
    one = _parsed(parse)

    def reader(value: Any, path: Path, faults: Faults) -> tuple[Any, ...]:
        if not isinstance(value, list):
            faults.add(
                path, f"{_kind(value)} stands where a list is wanted", "write [a, b], or a '- a' a line"
            )
            return ()
        return tuple(dict.fromkeys(one(item, (*path, index), faults) for index, item in enumerate(value)))

    return reader


def _mtu(value: Any, path: Path, faults: Faults) -> int | None:
    return None if value == AUTO else _number(parse_mtu)(value, path, faults)


def _table(value: Any, path: Path, faults: Faults) -> int | None:
    """As in wg-quick(8): auto, off, or a number."""
    if value in (AUTO, OFF):
        return NO_TABLE if value == OFF else None
    found: int | None = _number(partial(_within, "table", 1, U32_MOST))(value, path, faults)
    return found


def _within(what: str, least: int, most: int, number: int) -> int:
    if not least <= number <= most:
        raise InvalidInput(f"{what} {number} is out of range", f"use {least} to {most}")
    return number


def _dns_word(text: str) -> str:
    """A server's address, or a search domain ('~.' is systemd's word for all of them)."""
    if is_dns_address(text):
        return parse_address(text, "DNS server")
    if not _DOMAIN.fullmatch(text) or not text.strip("0123456789."):
        raise InvalidInput(
            f"'{text[:60]}' is neither a DNS server nor a search domain", "write 1.1.1.1 or example.org"
        )
    return text


def _checked_endpoint(text: str) -> str:
    parse_endpoint(text, 1)  # the tunnel's port stands in where the text has none
    return text


def _host(text: str) -> str:
    return host_prefix(parse_interface_address(text))


TUNNEL: dict[str, Reader] = {
    "active": _flag,
    "interface": _parsed(check_interface),
    "port": _number(parse_port),
    "addresses": _each(parse_interface_address),
    "mtu": _mtu,
    "exit": _flag,
    "endpoint": _parsed(_checked_endpoint),
    "dns": _each(partial(parse_address, what="DNS server")),
    "host_dns": _each(_dns_word),
    "fwmark": _number(partial(_within, "fwmark", 0, U32_MOST)),
    "table": _table,
    "peers": _peers,
}
PEER: dict[str, Reader] = {
    "public_key": _parsed(parse_public_key),
    "preshared_key": _flag,
    "enabled": _flag,
    "addresses": _each(_host),
    "routes": _each(partial(parse_prefix, what="route")),
    "endpoint": _parsed(parse_endpoint),
    "keepalive": _number(partial(_within, "keepalive", 0, KEEPALIVE_MOST)),
    "config": _config,
}
CONFIG: dict[str, Reader] = {
    "allowed_ips": _each(partial(parse_prefix, what="allowed IPs")),
    "dns": _each(partial(parse_address, what="DNS server")),
    "keepalive": _number(partial(_within, "keepalive", 0, KEEPALIVE_MOST)),
}


def _kind(value: Any) -> str:
    """What a person wrote, in a word or two."""
    match value:
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case None:
            return "nothing"
        case str():
            return f"'{value[:40]}'"
    return str(value).lower()[:40]


def _listing(words: Iterable[str]) -> str:
    return ", ".join(words)


# Writing --------------------------------------------------------------------------------------------


def written(tunnels: Iterable[TunnelSpec], settings: Settings) -> dict[str, Any]:
    """All tunnels as a document that, read and applied here, changes nothing."""
    return {
        "version": VERSION,
        "tunnels": {tunnel.name: _written_tunnel(tunnel, settings) for tunnel in tunnels},
    }


def _written_tunnel(tunnel: TunnelSpec, settings: Settings) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "active": tunnel.active,
        "interface": tunnel.interface,
        "port": tunnel.listen_port,
        "addresses": list(tunnel.addresses),
    }
    if tunnel.mtu != settings.mtu:
        fields["mtu"] = tunnel.mtu or AUTO
    if tunnel.exit:
        fields["exit"] = True
    if tunnel.endpoint:
        fields["endpoint"] = str(tunnel.endpoint)
    if tunnel.dns:
        fields["dns"] = list(tunnel.dns)
    if tunnel.host_dns:
        fields["host_dns"] = list(tunnel.host_dns)
    if tunnel.fwmark:
        fields["fwmark"] = tunnel.fwmark
    if tunnel.table is not None:
        fields["table"] = OFF if tunnel.table == NO_TABLE else tunnel.table
    return {**fields, "peers": {peer.name: _written_peer(peer, settings) for peer in tunnel.peers}}


def _written_peer(peer: PeerSpec, settings: Settings) -> dict[str, Any]:
    fields: dict[str, Any] = {"public_key": str(peer.public_key), "addresses": list(peer.addresses)}
    if not peer.enabled:
        fields["enabled"] = False
    fields["preshared_key"] = peer.preshared_key is not None
    if routes := peer.allowed_ips - set(peer.addresses):
        fields["routes"] = sorted(routes)
    if peer.endpoint:
        fields["endpoint"] = str(peer.endpoint)
    if peer.keepalive != default_keepalive(peer.endpoint, settings):
        fields["keepalive"] = peer.keepalive
    config = {
        "allowed_ips": list(peer.config_allowed_ips) or None,
        "dns": list(peer.config_dns) or None,
        "keepalive": peer.config_keepalive,
    }
    if any(value is not None for value in config.values()):
        fields["config"] = {name: value for name, value in config.items() if value is not None}
    return fields


def default_keepalive(endpoint: Endpoint | None, settings: Settings) -> int:
    """Seconds on our side: who dials may sit behind a NAT, and keeps the way open."""
    return settings.keepalive if endpoint else 0
