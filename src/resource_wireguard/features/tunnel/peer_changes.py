"""peer.change of docs/bus.md: other settings for a peer that is there."""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.engine.views import PeerView, peer_view
from resource_wireguard.features.tunnel import choose, tables
from resource_wireguard.features.tunnel.document import default_keepalive
from resource_wireguard.features.tunnel.outdated import outdated_note
from resource_wireguard.features.tunnel.peers import (
    checked_keepalive,
    prefixes,
    problem_notes,
    refuse_unreachable,
    settled,
)
from resource_wireguard.model.net import parse_address, parse_endpoint
from resource_wireguard.model.specs import PeerSpec, TunnelSpec


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; null gives the default back, an absent field stays."""

    tunnel: str
    name: str
    endpoint: str | UnsetType | None = UNSET
    keepalive: int | UnsetType | None = UNSET
    routes: tuple[str, ...] | UnsetType | None = UNSET
    allowed_ips: tuple[str, ...] | UnsetType | None = UNSET
    dns: tuple[str, ...] | UnsetType | None = UNSET


class Changed(PeerView, frozen=True, kw_only=True):
    """A peer after a change, and what a person should know of it."""

    notes: tuple[str, ...] = ()


def change(engine: Engine, request: Change) -> Changed:
    """Change some of a peer's settings; its session lives on. Nothing is written where nothing differs."""
    tunnel = engine.specs().tunnel(request.tunnel)
    before = tunnel.peer(request.name)
    after = _changed(engine, before, request)
    # What it has already may lie within another peer's network: an imported tunnel may have such.
    choose.refuse_taken_prefixes(tunnel, after.name, after.allowed_ips - before.allowed_ips)
    if after == before:
        same = f"nothing to change: peer '{before.name}' is so already"
        return _seen(tunnel, before, engine.report(), (same,))
    with engine.change():
        tables.put_peer(engine.resources, tunnel.name, after)
        engine.journal(tunnel.name, f"peer '{after.name}' changed")
    report = settled(engine, tunnel)
    changed = msgspec.structs.replace(tunnel, peers=(after,))
    old = outdated_note(engine, msgspec.structs.replace(tunnel, peers=(before,)), changed)
    notes = (*old, *_endpoint_note(before, after), *problem_notes(tunnel, after, report, "the change"))
    return _seen(tunnel, after, report, notes)


COMMANDS = (Command("peer.change", Change, change),)


def _changed(engine: Engine, before: PeerSpec, request: Change) -> PeerSpec:
    settings = engine.resources.settings
    fields: dict[str, Any] = {}
    if request.endpoint is not UNSET and (request.endpoint or before.endpoint):
        # The same one again says: it is there, and not where its session has come from.
        fields["endpoint"] = parse_endpoint(request.endpoint) if request.endpoint else None
        fields["endpoint_since"] = engine.resources.clock.now()
    default = default_keepalive(fields.get("endpoint", before.endpoint), settings)
    if request.keepalive is not UNSET:
        given = checked_keepalive(request.keepalive)
        fields["config_keepalive"] = given
        fields["keepalive"] = default if given is None else given
    elif before.keepalive == default_keepalive(before.endpoint, settings):
        fields["keepalive"] = default
    if request.routes is not UNSET:
        routes = prefixes(request.routes, "route")
        refuse_unreachable(before.name, before.addresses, routes)
        fields["allowed_ips"] = choose.allowed_ips(before.addresses, routes)
    if request.allowed_ips is not UNSET:
        fields["config_allowed_ips"] = prefixes(request.allowed_ips, "allowed IPs")
    if request.dns is not UNSET:
        fields["config_dns"] = tuple(parse_address(text, "DNS server") for text in request.dns or ())
    return msgspec.structs.replace(before, **fields)


def _endpoint_note(before: PeerSpec, after: PeerSpec) -> tuple[str, ...]:
    """No message of WireGuard takes an endpoint back."""
    if after.endpoint or not before.endpoint:
        return ()
    return (f"WireGuard knows '{after.name}' at its last endpoint until it calls from another one",)


def _seen(tunnel: TunnelSpec, peer: PeerSpec, report: Report, notes: tuple[str, ...]) -> Changed:
    return Changed(**msgspec.structs.asdict(peer_view(tunnel, peer, report)), notes=notes)
