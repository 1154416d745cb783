"""The peer.* commands of docs/bus.md."""

from collections.abc import Iterable, Sequence

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.engine.views import PeerView, peer_view
from resource_wireguard.errors import AlreadyExists, HostError, InvalidInput, NotFound
from resource_wireguard.features.tunnel import choose, tables
from resource_wireguard.features.tunnel.config import Config, peer_config, rekeyed, succeeded
from resource_wireguard.features.tunnel.document import default_keepalive
from resource_wireguard.host.facts import Problem
from resource_wireguard.host.state import Device, Link
from resource_wireguard.model.formats.files import WG_QUICK
from resource_wireguard.model.keys import (
    PresharedKey,
    PrivateKey,
    PublicKey,
    parse_preshared_key,
    parse_public_key,
)
from resource_wireguard.model.names import check_name
from resource_wireguard.model.net import (
    host_prefix,
    parse_address,
    parse_endpoint,
    parse_interface_address,
    parse_prefix,
)
from resource_wireguard.model.specs import NOTHING_FURTHER, PeerSpec, TunnelSpec

KEEPALIVE_MOST = 65535
"""Seconds: the field is 16 bits wide (wg(8))."""


class Add(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new peer: with a key pair made here, or by the public key of one made elsewhere."""

    tunnel: str
    name: str
    public_key: str | None = None
    preshared_key: str = "auto"
    addresses: tuple[str, ...] | None = None
    routes: tuple[str, ...] | None = None
    endpoint: str | None = None
    keepalive: int | None = None
    allowed_ips: tuple[str, ...] | None = None
    dns: tuple[str, ...] | None = None
    keep_key: bool = True

    def __repr__(self) -> str:
        return f"Add({self.tunnel}, {self.name})"


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One peer of one tunnel."""

    tunnel: str
    name: str


class Print(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One peer's config in one of model/formats/files.py's formats; old: without what a rotation changes."""

    tunnel: str
    name: str
    format: str = WG_QUICK
    old: bool = False


class Remove(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One peer of one tunnel, by name or by public key."""

    tunnel: str
    name: str | None = None
    public_key: str | None = None


class Listing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All peers of one tunnel."""

    tunnel: str


class Added(msgspec.Struct, frozen=True):
    """The new peer; config is None where its private key was made elsewhere. Holds keys: repr is masked."""

    peer: PeerView
    config: str | None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Added({self.peer.name})"


class Removed(msgspec.Struct, frozen=True):
    """The name that is free again."""

    tunnel: str
    name: str


def add(engine: Engine, request: Add) -> Added:
    """Store a peer, give it to the device, and print its config, for the only time if its key is not kept."""
    tunnel = engine.specs().tunnel(request.tunnel)
    _refuse_taken_name(tunnel, check_name(request.name, "peer"))
    choose.refuse_too_many(tunnel, engine.resources.settings.peers_max)
    private_key = None if request.public_key is not None else engine.resources.secrets.new_private_key()
    peer = _new_peer(engine, tunnel, request, private_key)
    choose.refuse_taken_key(tunnel, peer.name, peer.public_key)
    choose.refuse_other_key(engine.specs().further(tunnel.name), peer.name, peer.public_key)
    choose.refuse_taken_prefixes(tunnel, peer.name, peer.allowed_ips)
    with engine.change():
        tables.put_peer(engine.resources, tunnel.name, peer, private_key if request.keep_key else None)
        engine.journal(tunnel.name, f"peer '{peer.name}' added: {', '.join(sorted(peer.allowed_ips))}")
    report = settled(engine, tunnel)
    notes = problem_notes(tunnel, peer, report)
    if private_key is None:
        return Added(peer_view(tunnel, peer, report), None, notes)
    printed = _config(engine, tunnel, peer, private_key)
    return Added(peer_view(tunnel, peer, report), printed.config, (*printed.notes, *notes))


def remove(engine: Engine, request: Remove) -> Removed:
    """Take a peer off the device and forget it and its keys."""
    tunnel = engine.specs().tunnel(request.tunnel)
    peer = _wanted(tunnel, request)
    places = engine.specs().places(tunnel, peer)
    with engine.change():
        tables.delete_peer(engine.resources, tunnel.name, peer.name)
        engine.journal(tunnel.name, f"peer '{peer.name}' removed")
    _refuse_leftover(places, settled(engine, tunnel), f"peer '{peer.name}' is removed")
    return Removed(tunnel.name, peer.name)


def enable(engine: Engine, request: Named) -> PeerView:
    """Let a peer in again."""
    return _set_enabled(engine, request, True)


def disable(engine: Engine, request: Named) -> PeerView:
    """Keep a peer out; it keeps its addresses and keys."""
    return _set_enabled(engine, request, False)


def show(engine: Engine, request: Named) -> PeerView:
    """One peer as asked for and as the device sees it."""
    tunnel = engine.specs().tunnel(request.tunnel)
    return peer_view(tunnel, tunnel.peer(request.name), engine.report())


def listing(engine: Engine, request: Listing) -> list[PeerView]:
    """All peers of a tunnel, in the order in which they were added."""
    tunnel = engine.specs().tunnel(request.tunnel)
    report = engine.report()
    return [peer_view(tunnel, peer, report) for peer in tunnel.peers]


def config(engine: Engine, request: Print) -> Config:
    """The peer's own config, as it would be printed now: while keys are rotated, with the new ones."""
    specs = engine.specs()
    tunnel = specs.tunnel(request.tunnel)
    peer = tunnel.peer(request.name)
    further = NOTHING_FURTHER if request.old else specs.further(tunnel.name)
    seat = next((seat for seat in further.seats if seat.peer == peer.name), None)
    if seat is not None:
        return _config(engine, tunnel, rekeyed(peer, seat), seat.private_key, request.format)
    held = peer.has_private_key
    private_key = tables.peer_private_key(engine.resources, tunnel.name, peer.name) if held else None
    return _config(engine, tunnel, peer, private_key, request.format, old=request.old)


COMMANDS = (
    Command("peer.add", Add, add),
    Command("peer.remove", Remove, remove),
    Command("peer.enable", Named, enable),
    Command("peer.disable", Named, disable),
    Command("peer.show", Named, show),
    Command("peer.list", Listing, listing),
    Command("peer.config", Print, config),
)


# What a peer is to be -----------------------------------------------------------------------------


def _new_peer(engine: Engine, tunnel: TunnelSpec, request: Add, private_key: PrivateKey | None) -> PeerSpec:
    settings, now = engine.resources.settings, engine.resources.clock.now()
    routes = prefixes(request.routes, "route")
    addresses = _addresses(tunnel, request)
    refuse_unreachable(request.name, addresses, routes)
    endpoint = parse_endpoint(request.endpoint) if request.endpoint else None
    dialled = default_keepalive(endpoint, settings)
    keepalive = checked_keepalive(request.keepalive)
    return PeerSpec(
        name=request.name,
        public_key=_public_key(request, private_key),
        addresses=addresses,
        allowed_ips=choose.allowed_ips(addresses, routes),
        preshared_key=_preshared_key(engine, request),
        has_private_key=private_key is not None and request.keep_key,
        endpoint=endpoint,
        endpoint_since=now,
        keepalive=dialled if keepalive is None else keepalive,
        config_keepalive=keepalive,
        config_allowed_ips=prefixes(request.allowed_ips, "allowed IPs"),
        config_dns=tuple(parse_address(text, "DNS server") for text in request.dns or ()),
        created_at=now,
    )


def _public_key(request: Add, private_key: PrivateKey | None) -> PublicKey:
    if private_key is not None:
        return private_key.public()
    return parse_public_key(request.public_key or "")


def _preshared_key(engine: Engine, request: Add) -> PresharedKey | None:
    """'auto' makes one only for peers made here: another's config would have to be changed by hand."""
    match request.preshared_key:
        case "none":
            return None
        case "auto":
            made_here = request.public_key is None
            return engine.resources.secrets.new_preshared_key() if made_here else None
        case given:
            return parse_preshared_key(given)


def _addresses(tunnel: TunnelSpec, request: Add) -> tuple[str, ...]:
    if request.addresses is None:
        return choose.peer_addresses(tunnel)
    return tuple(dict.fromkeys(host_prefix(parse_interface_address(text)) for text in request.addresses))


def prefixes(texts: Iterable[str] | None, what: str) -> tuple[str, ...]:
    """Networks as they were typed, each once."""
    return tuple(dict.fromkeys(parse_prefix(text, what) for text in texts or ()))


def checked_keepalive(seconds: int | None) -> int | None:
    """InvalidInput where the field of a peer has no room for so many seconds."""
    if seconds is not None and not 0 <= seconds <= KEEPALIVE_MOST:
        raise InvalidInput(f"keepalive {seconds} is out of range", f"use 0 (off) to {KEEPALIVE_MOST} seconds")
    return seconds


def refuse_unreachable(name: str, addresses: Sequence[str], routes: Sequence[str]) -> None:
    """InvalidInput where nothing would ever be sent to a peer."""
    if not addresses and not routes:
        raise InvalidInput(
            f"peer '{name}' has neither an address nor a route", "give it one, or leave them out"
        )


def _refuse_taken_name(tunnel: TunnelSpec, name: str) -> None:
    if any(peer.name == name for peer in tunnel.peers):
        raise AlreadyExists(
            f"tunnel '{tunnel.name}' has a peer '{name}' already",
            f"see 'resource-wireguard peer show {tunnel.name} {name}', or choose another name",
        )


def _wanted(tunnel: TunnelSpec, request: Remove) -> PeerSpec:
    """The peer that a request names in one of two ways."""
    if (request.name is None) == (request.public_key is None):
        raise InvalidInput("a peer is named by its name or by its public key", "give exactly one of them")
    if request.name is not None:
        return tunnel.peer(request.name)
    key = parse_public_key(request.public_key or "")
    for peer in tunnel.peers:
        if peer.public_key == key:
            return peer
    raise NotFound(
        f"tunnel '{tunnel.name}' has no peer with the public key {key}",
        f"see 'resource-wireguard peer list {tunnel.name}'",
    )


# What became of it --------------------------------------------------------------------------------


def _set_enabled(engine: Engine, request: Named, enabled: bool) -> PeerView:
    tunnel = engine.specs().tunnel(request.tunnel)
    peer = msgspec.structs.replace(tunnel.peer(request.name), enabled=enabled)
    if enabled and peer.preshared_key:
        peer.preshared_key.need()
    places = engine.specs().places(tunnel, peer)
    with engine.change():
        tables.put_peer(engine.resources, tunnel.name, peer)
        engine.journal(tunnel.name, f"peer '{peer.name}' {'enabled' if enabled else 'disabled'}")
    report = settled(engine, tunnel)
    if not enabled:
        _refuse_leftover(places, report, f"peer '{peer.name}' is disabled")
    elif notes := problem_notes(tunnel, peer, report):
        raise HostError(f"peer '{peer.name}' is enabled, but {notes[0]}", "the agent keeps trying")
    return peer_view(tunnel, peer, report)


def settled(engine: Engine, tunnel: TunnelSpec) -> Report:
    """A pass where it changes something; a tunnel that is not active has nothing on the host."""
    return engine.settle(tunnel.name) if tunnel.active else engine.last or engine.report()


def _refuse_leftover(places: Sequence[tuple[str, PublicKey]], report: Report, done: str) -> None:
    """HostError where a device still lets a peer in, or does not say that it has it no more."""
    seen = report.observation
    for interface, key in places:
        silent = interface in seen.state.of(Link) and interface not in seen.state.of(Device)
        if silent or (interface, key) in seen.peers:
            problem = (*report.problems_of(interface), Problem("no reason was given"))[0]
            left = "may still let it in" if silent else "still lets it in"
            raise HostError(
                f"{done}, but {interface} {left}: {problem.message}", problem.hint or "the agent keeps trying"
            )


def problem_notes(
    tunnel: TunnelSpec, peer: PeerSpec, report: Report, what: str = "the peer"
) -> tuple[str, ...]:
    """Said beside the result, not raised: the peer is stored, and its config is printed this once."""
    missing = any(
        action.record.key == (tunnel.interface, peer.public_key) for action in report.drift_of(tunnel.name)
    )
    if not missing:
        return ()
    told = "; ".join(problem.message for problem in report.problems_of(tunnel.interface))
    return (f"{tunnel.interface} does not have {what} yet{f': {told}' if told else ''}",)


def _config(
    engine: Engine,
    tunnel: TunnelSpec,
    peer: PeerSpec,
    private_key: PrivateKey | None,
    format_: str = WG_QUICK,
    *,
    old: bool = False,
) -> Config:
    resources, further = engine.resources, engine.specs().further(tunnel.name)
    side = tunnel if old or further.successor is None else succeeded(tunnel, further.successor)
    return peer_config(side, peer, private_key, resources.settings, resources.host.survey(), format_)
