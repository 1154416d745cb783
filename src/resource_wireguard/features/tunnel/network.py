"""The network.* commands of docs/bus.md: all tunnels and peers as one document, out and in."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command, Nothing
from resource_wireguard.engine.recall import PendingView, pending_view
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.engine.site import site_seed
from resource_wireguard.engine.views import ProblemView, problem_views
from resource_wireguard.errors import InvalidInput
from resource_wireguard.features.tunnel import choose, tables
from resource_wireguard.features.tunnel.document import Fault, Faults, Wanted, read, written
from resource_wireguard.features.tunnel.draft import Draft, Drafter
from resource_wireguard.host.render import FOLD_ABOVE, lines_of
from resource_wireguard.host.state import HostState
from resource_wireguard.model.counts import counted
from resource_wireguard.model.specs import NOTHING_FURTHER, PeerSpec, Specs, TunnelSpec

CONFIRM_MOST = 86_400
"""Seconds: who needs longer than a day to look has forgotten about it."""


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A document as plain values. prune: what it does not speak of is to go, as if it said so itself."""

    document: Any
    prune: bool = False


class Apply(Plan, frozen=True, forbid_unknown_fields=True):
    """With confirm, in seconds, the change is taken back unless somebody confirms it in time."""

    confirm: int | None = None


class Change(msgspec.Struct, frozen=True):
    """One step from what is to what is wanted: 'create', 'change' or 'delete' of a 'tunnel' or a 'peer'."""

    verb: str
    noun: str
    tunnel: str
    text: str


class Outcome(msgspec.Struct, frozen=True):
    """What a document leads to: faults, and nothing else; or changes of specs and the host's actions."""

    faults: tuple[Fault, ...] = ()
    changes: tuple[Change, ...] = ()
    left_alone: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    problems: tuple[ProblemView, ...] = ()
    pending: PendingView | None = None


def export(engine: Engine, _: Nothing) -> dict[str, Any]:
    """All tunnels and peers, without their private and preshared keys."""
    return written(engine.specs().tunnels, engine.resources.settings)


def plan(engine: Engine, request: Plan) -> Outcome:
    """What apply would do; all that is wrong with a document is in the faults."""
    faults = Faults()
    wanted = _read(request, faults)
    if faults.found:
        return Outcome(tuple(faults.found))
    engine.report()  # our own ports and networks are known from the last look
    site_seed(engine.resources.store)  # kept, so that apply will give the addresses that are told here
    outcome, report = engine.rehearse(lambda: _change(engine, wanted, faults, None))
    return replace(outcome, actions=tuple(lines_of(report.drift)))


def apply(engine: Engine, request: Apply) -> Outcome:
    """Make everything as a document says, in one change: all of it or nothing."""
    _check_confirm(request.confirm)
    faults = Faults()
    wanted = _read(request, faults)
    if not faults.found:
        engine.progress("comparing with what is there")
        engine.report()
        outcome = _change(engine, wanted, faults, request.confirm)
    if faults.found:
        more = f" (and {len(faults.found) - 1} more)" if len(faults.found) > 1 else ""
        raise InvalidInput(f"{faults.found[0]}{more}", faults.found[0].hint)
    return _applied(engine, outcome)


COMMANDS = (
    Command("network.export", Nothing, export),
    Command("network.plan", Plan, plan),
    Command("network.apply", Apply, apply),
)


def _check_confirm(seconds: int | None) -> None:
    if seconds is not None and not 1 <= seconds <= CONFIRM_MOST:
        raise InvalidInput(f"confirm {seconds} is out of range", f"use 1 to {CONFIRM_MOST} seconds")


def _read(request: Plan, faults: Faults) -> Wanted:
    wanted = read(request.document, faults)
    return Wanted(wanted.tunnels, wanted.prune or request.prune)


def _applied(engine: Engine, outcome: Outcome) -> Outcome:
    report: Report = engine.settle("apply")
    pending = engine.history.pending()
    return replace(
        outcome,
        actions=tuple(lines_of(report.done)),
        drift=tuple(lines_of(report.drift)),
        problems=problem_views(report.problems),
        pending=pending_view(pending, engine.resources.clock.now()) if pending else None,
    )


# From draft to store ----------------------------------------------------------------------------------


def _change(engine: Engine, wanted: Wanted, faults: Faults, confirm: int | None) -> Outcome:
    """Work a document in; where there are faults, nothing is changed."""
    before = {tunnel.name: tunnel for tunnel in engine.specs().tunnels}
    seen = engine.last.observation.state if engine.last else HostState()
    with engine.change():
        draft = Drafter(engine.resources, before.values(), seen).draft(wanted, faults)
        _refuse_other_keys(engine.specs(), before, draft, faults)
        if faults.found:
            return Outcome(tuple(faults.found))
        changes = tuple(_changes(before, draft.tunnels))
        if changes:
            _store(engine, before, draft)
            for subject, text in _journal_lines(changes):
                engine.journal(subject, text)
            if confirm is not None:
                engine.history.await_confirmation(confirm)
    return Outcome(changes=changes, left_alone=tuple(draft.left_alone))


def _refuse_other_keys(specs: Specs, before: dict[str, TunnelSpec], draft: Draft, faults: Faults) -> None:
    """A document from before a rotation must not bring a retired key back."""
    for name, tunnel in draft.tunnels.items():
        further = specs.further(name)
        known = {peer.public_key for peer in before[name].peers} if name in before else set()
        for peer in tunnel.peers if further is not NOTHING_FURTHER else ():
            if peer.public_key not in known:
                with faults.at(("tunnels", name, "peers", peer.name, "public_key")):
                    choose.refuse_other_key(further, peer.name, peer.public_key)


def _store(engine: Engine, before: dict[str, TunnelSpec], draft: Draft) -> None:
    """Deletions first, and ports let go of first: names, keys and ports may change hands."""
    resources, tunnels = engine.resources, draft.tunnels
    for name in before.keys() - tunnels.keys():
        tables.delete_tunnel(resources, name)
    moved = [n for n, t in tunnels.items() if n in before and t.listen_port != before[n].listen_port]
    tables.let_go_of_ports(resources.store, moved, [tunnel.listen_port for tunnel in tunnels.values()])
    for name, tunnel in tunnels.items():
        there = before.get(name)
        if there is None or replace(there, peers=()) != replace(tunnel, peers=()):
            tables.put_tunnel(resources, tunnel)
    for name, tunnel in tunnels.items():
        _store_peers(engine, before.get(name), tunnel, draft)


def _store_peers(engine: Engine, before: TunnelSpec | None, tunnel: TunnelSpec, draft: Draft) -> None:
    there = {peer.name: peer for peer in before.peers} if before else {}
    wanted = {peer.name: peer for peer in tunnel.peers}
    for name, peer in there.items():
        if name not in wanted or wanted[name].public_key != peer.public_key:
            tables.delete_peer(engine.resources, tunnel.name, name)  # its keys must go with it
    for name, peer in wanted.items():
        if peer != there.get(name):
            tables.put_peer(engine.resources, tunnel.name, peer, draft.keys.get((tunnel.name, name)))


# What changes, in words -------------------------------------------------------------------------------

_UNTOLD = frozenset({"name", "peers", "private_key", "has_private_key", "created_at", "endpoint_since"})
"""Fields that say nothing to a reader, or must not be read."""


def _changes(before: dict[str, TunnelSpec], after: dict[str, TunnelSpec]) -> Iterator[Change]:
    for name, tunnel in before.items():
        if name not in after:
            peers = counted(len(tunnel.peers), "peer")
            yield Change("delete", "tunnel", name, f"delete tunnel {name}, with {peers}")
    for name, tunnel in after.items():
        there = before.get(name)
        if there is None:
            where = f"{', '.join(tunnel.addresses)}, port {tunnel.listen_port}"
            yield Change("create", "tunnel", name, f"create tunnel {name}: {where}")
        elif text := _difference(there, tunnel):
            yield Change("change", "tunnel", name, f"change tunnel {name}: {text}")
        yield from _peer_changes(there, tunnel)


def _peer_changes(before: TunnelSpec | None, tunnel: TunnelSpec) -> Iterator[Change]:
    there = {peer.name: peer for peer in before.peers} if before else {}
    names = {peer.name for peer in tunnel.peers}
    for name in there:
        if name not in names:
            yield Change("delete", "peer", tunnel.name, f"delete peer {name} of {tunnel.name}")
    for peer in tunnel.peers:
        held = there.get(peer.name)
        if held is None:
            routed = ", ".join(sorted(peer.allowed_ips))
            yield Change("create", "peer", tunnel.name, f"create peer {peer.name} of {tunnel.name}: {routed}")
        elif text := _difference(held, peer):
            yield Change("change", "peer", tunnel.name, f"change peer {peer.name} of {tunnel.name}: {text}")


def _difference(before: TunnelSpec | PeerSpec, after: TunnelSpec | PeerSpec) -> str:
    """The fields that differ, old → new; of a preshared key only whether there is one."""
    return ", ".join(
        f"{field.replace('_', ' ')} {_value(getattr(before, field))} → {_value(getattr(after, field))}"
        for field in after.__struct_fields__
        if field not in _UNTOLD and getattr(before, field) != getattr(after, field)
    )


def _value(value: object) -> str:
    match value:
        case None | () | frozenset(()):
            return "none"
        case bool():
            return "yes" if value else "no"
        case tuple() | frozenset():
            return ",".join(sorted(map(str, value)))
    return str(value)


def _journal_lines(changes: tuple[Change, ...]) -> Iterator[tuple[str, str]]:
    """Each change a line under its tunnel; many peers of one tunnel with one verb as a number."""
    counts = Counter((change.tunnel, change.verb) for change in changes if change.noun == "peer")
    for change in changes:
        if change.noun == "tunnel" or counts[change.tunnel, change.verb] <= FOLD_ABOVE:
            yield change.tunnel, change.text
    for (tunnel, verb), count in counts.items():
        if count > FOLD_ABOVE:
            yield tunnel, f"{verb} {counted(count, 'peer')}"
