"""The tunnel.* commands of docs/bus.md."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

import msgspec
from msgspec import UNSET, UnsetType

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.engine.site import site_seed
from resource_wireguard.engine.views import TunnelView, tunnel_view
from resource_wireguard.errors import HostError
from resource_wireguard.features.tunnel import choose, tables
from resource_wireguard.features.tunnel.config import tunnel_config
from resource_wireguard.features.tunnel.outdated import outdated_note
from resource_wireguard.host.facts import Problem, Survey
from resource_wireguard.host.ipam import ula_prefix
from resource_wireguard.host.state import Link
from resource_wireguard.model.counts import counted
from resource_wireguard.model.formats.files import WG_QUICK
from resource_wireguard.model.names import check_name
from resource_wireguard.model.net import Endpoint, parse_address, parse_endpoint, parse_mtu
from resource_wireguard.model.specs import Specs, TunnelSpec


class Create(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new tunnel; what is not given is chosen."""

    name: str
    activate: bool = True
    addresses: tuple[str, ...] | None = None
    network: str | None = None
    port: int | None = None
    mtu: int | None = None
    exit: bool = False
    endpoint: str | None = None
    dns: tuple[str, ...] | None = None
    interface: str | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; null gives the default back, an absent field stays."""

    name: str
    port: int | UnsetType = UNSET
    mtu: int | UnsetType | None = UNSET
    exit: bool | UnsetType = UNSET
    endpoint: str | UnsetType | None = UNSET
    dns: tuple[str, ...] | UnsetType | None = UNSET


class Changed(TunnelView, frozen=True, kw_only=True):
    """A tunnel after a change, and what a person should know of it."""

    notes: tuple[str, ...] = ()


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tunnel."""

    name: str


class Listing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All tunnels, or those whose names fit a shell pattern."""

    filter: str | None = None


class Print(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tunnel's config in one of model/formats/files.py's formats."""

    name: str
    show_secrets: bool = False
    format: str = WG_QUICK


class Printed(msgspec.Struct, frozen=True):
    """A tunnel's config as one text and as its files; it may hold keys, so its repr says nothing."""

    name: str
    config: str
    notes: tuple[str, ...]
    files: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Printed({self.name})"


class Deleted(msgspec.Struct, frozen=True):
    """The name that is free again."""

    name: str


def create(engine: Engine, request: Create) -> TunnelView:
    """Store a new tunnel and, unless told otherwise, bring it up."""
    specs = engine.specs()
    check_name(request.name, "tunnel")
    choose.refuse_taken_name(specs, request.name)
    engine.progress("choosing what is free on this host")
    with engine.change():
        tunnel = _new_tunnel(engine, specs, request)
        tables.put_tunnel(engine.resources, tunnel)
        engine.journal(tunnel.name, f"tunnel stored: {', '.join(tunnel.addresses)} port {tunnel.listen_port}")
    return _brought_up(engine, tunnel.name) if request.activate else _seen(engine, tunnel.name)


def change(engine: Engine, request: Change) -> Changed:
    """Change some of a tunnel's settings; peers keep their sessions."""
    before = engine.specs().tunnel(request.name)
    with engine.change():
        after = _changed(engine, before, request)
        tables.put_tunnel(engine.resources, after)
        engine.journal(after.name, f"tunnel changed: {_differing(before, after)}")
    seen = _brought_up(engine, after.name) if after.active else _seen(engine, after.name)
    same = (f"nothing to change: tunnel '{after.name}' is so already",) if after == before else ()
    return Changed(**msgspec.structs.asdict(seen), notes=same or outdated_note(engine, before, after))


def activate(engine: Engine, request: Named) -> TunnelView:
    """Bring a tunnel up, and keep it up from now on."""
    _set_active(engine, request.name, True)
    return _brought_up(engine, request.name)


def deactivate(engine: Engine, request: Named) -> TunnelView:
    """Take a tunnel down; it stays stored."""
    _set_active(engine, request.name, False)
    tunnel = engine.specs().tunnel(request.name)
    report = engine.settle(request.name)
    _refuse_leftover(tunnel, report, "deactivated")
    return tunnel_view(tunnel, report)


def delete(engine: Engine, request: Named) -> Deleted:
    """Take a tunnel down and forget it, its peers and all their keys."""
    tunnel = engine.specs().tunnel(request.name)
    with engine.change():
        tables.delete_tunnel(engine.resources, tunnel.name)
        engine.journal(tunnel.name, f"tunnel deleted, with {counted(len(tunnel.peers), 'peer')}")
    _refuse_leftover(tunnel, engine.settle(tunnel.name), "deleted")
    return Deleted(tunnel.name)


def show(engine: Engine, request: Named) -> TunnelView:
    """One tunnel as asked for and as it is."""
    engine.specs().tunnel(request.name)
    return _seen(engine, request.name)


def listing(engine: Engine, request: Listing) -> list[TunnelView]:
    """All tunnels by name."""
    report = engine.report()
    return [
        tunnel_view(tunnel, report)
        for tunnel in engine.specs().tunnels
        if request.filter is None or fnmatchcase(tunnel.name, request.filter)
    ]


def config(engine: Engine, request: Print) -> Printed:
    """This host's side as a config file."""
    tunnel = engine.specs().tunnel(request.name)
    made = tunnel_config(tunnel, request.show_secrets, request.format)
    return Printed(tunnel.name, made.config, made.notes, made.files)


COMMANDS = (
    Command("tunnel.create", Create, create),
    Command("tunnel.change", Change, change),
    Command("tunnel.activate", Named, activate),
    Command("tunnel.deactivate", Named, deactivate),
    Command("tunnel.delete", Named, delete),
    Command("tunnel.show", Named, show),
    Command("tunnel.list", Listing, listing),
    Command("tunnel.config", Print, config),
)


# What a tunnel is to be ---------------------------------------------------------------------------


def _new_tunnel(engine: Engine, specs: Specs, request: Create) -> TunnelSpec:
    resources, tunnels = engine.resources, specs.tunnels
    settings, survey = resources.settings, resources.host.survey(registry=True)
    number = choose.number(tunnels)
    pools = choose.Pools(settings.network, ula_prefix(site_seed(resources.store), number))
    port = choose.port(request.port, settings.port, tunnels, survey)
    addresses = choose.addresses(request.addresses, request.network, pools, tunnels, survey)
    private_key = resources.secrets.new_private_key()
    return TunnelSpec(
        name=request.name,
        number=number,
        interface=choose.interface(
            request.name, request.interface, tunnels, foreign_interfaces(engine, survey)
        ),
        private_key=private_key,
        public_key=private_key.public(),
        listen_port=port,
        addresses=addresses,
        active=request.activate,
        mtu=_mtu(request.mtu, settings.mtu, addresses),
        exit=request.exit,
        endpoint=_endpoint(request.endpoint, port),
        dns=_dns(request.dns),
        created_at=resources.clock.now(),
    )


def _changed(engine: Engine, before: TunnelSpec, request: Change) -> TunnelSpec:
    after = before
    if request.port is not UNSET and request.port != before.listen_port:
        after = _with_port(engine, after, request.port)
    if request.mtu is not UNSET:
        mtu = _mtu(request.mtu, engine.resources.settings.mtu, before.addresses)
        after = msgspec.structs.replace(after, mtu=mtu)
    if request.exit is not UNSET:
        after = msgspec.structs.replace(after, exit=request.exit)
    if request.endpoint is not UNSET:
        after = msgspec.structs.replace(after, endpoint=_endpoint(request.endpoint, after.listen_port))
    if request.dns is not UNSET:
        after = msgspec.structs.replace(after, dns=_dns(request.dns))
    return after


def _with_port(engine: Engine, tunnel: TunnelSpec, wanted: int) -> TunnelSpec:
    """Another listen port; an endpoint that names the old one follows."""
    others = [other for other in engine.specs().tunnels if other.name != tunnel.name]
    survey = engine.resources.host.survey(registry=True)
    port = choose.port(wanted, wanted, others, survey)
    endpoint = tunnel.endpoint
    if endpoint and endpoint.port == tunnel.listen_port:
        endpoint = Endpoint(endpoint.host, port)
    return msgspec.structs.replace(tunnel, listen_port=port, endpoint=endpoint)


def _mtu(wanted: int | None, default: int | None, addresses: tuple[str, ...]) -> int | None:
    """The wanted or the default size in bytes; None leaves it to the paths."""
    chosen = default if wanted is None else wanted
    return None if chosen is None else parse_mtu(chosen, addresses)


def _endpoint(text: str | None, port: int) -> Endpoint | None:
    return parse_endpoint(text, port) if text else None


def _dns(texts: tuple[str, ...] | None) -> tuple[str, ...]:
    return tuple(parse_address(text, "DNS server") for text in texts or ())


def foreign_interfaces(engine: Engine, survey: Survey) -> frozenset[str]:
    """The interfaces of the host that are not ours; one that the agent could not remove yet is ours."""
    ours = set(engine.last.observation.state.of(Link)) if engine.last else set()
    return survey.interfaces - ours


def _differing(before: TunnelSpec, after: TunnelSpec) -> str:
    """The changed fields with their new values, for the journal; keys are not among them."""
    fields = ("listen_port", "mtu", "exit", "endpoint", "dns")
    changed = [f for f in fields if getattr(before, f) != getattr(after, f)]
    return ", ".join(f"{f.replace('_', ' ')} {_shown(getattr(after, f))}" for f in changed) or "nothing"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "default"
    return "default" if value is None else str(value)


# What became of it --------------------------------------------------------------------------------


def _set_active(engine: Engine, name: str, active: bool) -> None:
    tunnel = engine.specs().tunnel(name)
    if tunnel.active != active:
        if active:
            tunnel.private_key.need()
        with engine.change():
            tables.put_tunnel(engine.resources, msgspec.structs.replace(tunnel, active=active))
            engine.journal(name, "tunnel activated" if active else "tunnel deactivated")


def _seen(engine: Engine, name: str) -> TunnelView:
    report = engine.report()
    return tunnel_view(engine.specs().tunnel(name), report)


def _brought_up(engine: Engine, name: str) -> TunnelView:
    """Run a pass; HostError if the kernel does not show the interface after it."""
    tunnel = engine.specs().tunnel(name)
    engine.progress(f"bringing up {tunnel.interface}")
    report = engine.settle(name)
    view = tunnel_view(tunnel, report)
    if view.state == "down":
        problem = _why(tunnel, report)
        raise HostError(
            f"tunnel '{name}' is stored, but {tunnel.interface} is not up: {problem.message}",
            problem.hint or "the agent keeps trying; see 'resource-wireguard doctor'",
        )
    return view


def _why(tunnel: TunnelSpec, report: Report) -> Problem:
    """What the pass reported of this interface, else of the whole host."""
    told = report.problems_of(tunnel.interface) or report.problems_of("")
    if told:
        return told[0]
    if report.observation.engine is None:
        return Problem("this host has no WireGuard engine")
    return Problem("the kernel does not show it, and nothing told why")


def _refuse_leftover(tunnel: TunnelSpec, report: Report, done: str) -> None:
    if tunnel.interface in report.observation.state.of(Link):
        problem = (*report.problems_of(tunnel.interface), Problem("no reason was given"))[0]
        raise HostError(
            f"tunnel '{tunnel.name}' is {done}, but {tunnel.interface} is still there: {problem.message}",
            problem.hint or "the agent keeps trying",
        )
