"""tunnel.import: a wg-quick(8) file becomes a tunnel with its peers, whole or not at all."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command
from resource_wireguard.engine.views import TunnelView, tunnel_view
from resource_wireguard.errors import ConflictError, InvalidInput
from resource_wireguard.features.tunnel import choose, tables
from resource_wireguard.features.tunnel.members import refuse_twice, unique_names
from resource_wireguard.features.tunnel.tunnels import foreign_interfaces
from resource_wireguard.host.facts import Survey
from resource_wireguard.model.counts import counted
from resource_wireguard.model.formats.config import AUTO, OFF, Hook, PeerSection, WgQuickConfig
from resource_wireguard.model.formats.wgquick import parse
from resource_wireguard.model.names import check_name
from resource_wireguard.model.net import covers, network_of
from resource_wireguard.model.specs import NO_TABLE, PeerSpec, TunnelSpec

TABLES = {AUTO: None, OFF: NO_TABLE, "default": 253, "main": 254, "local": 255}
"""What wg-quick(8) and rtnetlink(7) call tables; the names in rt_tables are each host's own."""


class Import(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A wg-quick(8) file as text. It holds keys: its repr says nothing."""

    name: str
    text: str
    ignore_hooks: bool = False
    interface: str | None = None

    def __repr__(self) -> str:
        return f"Import({self.name})"


class Imported(msgspec.Struct, frozen=True):
    """The stored tunnel, and what of the file has no effect here."""

    tunnel: TunnelView
    notes: tuple[str, ...]


def import_(engine: Engine, request: Import) -> Imported:
    """Store what a file says, without bringing it up; what has no place here is refused or noted."""
    specs = engine.specs()
    check_name(request.name, "tunnel")
    choose.refuse_taken_name(specs, request.name)
    config = parse(request.text)
    if config.hooks and not request.ignore_hooks:
        raise InvalidInput(
            f"hooks are never run here, and the file has {_listed(config.hooks)}",
            "import it without them: --ignore-hooks",
        )
    survey = engine.resources.host.survey()
    tunnel = _tunnel(engine, request, config, survey)
    store(engine, tunnel, f"imported: {counted(len(tunnel.peers), 'peer')}, port {tunnel.listen_port}")
    notes = tuple(_notes(config, tunnel, survey))
    return Imported(tunnel_view(engine.specs().tunnel(tunnel.name), engine.report()), notes)


COMMANDS = (Command("tunnel.import", Import, import_),)


def store(engine: Engine, tunnel: TunnelSpec, what: str) -> None:
    """Keep a tunnel with all its peers in one change; refuses more than WIREGUARD_PEERS_MAX."""
    most = engine.resources.settings.peers_max
    if most is not None and len(tunnel.peers) > most:
        raise ConflictError(
            f"tunnel '{tunnel.name}' has {len(tunnel.peers)} peers, and WIREGUARD_PEERS_MAX is {most}",
            "raise the setting, or leave peers out",
        )
    with engine.change():
        tables.put_tunnel(engine.resources, tunnel)
        for peer in tunnel.peers:
            tables.put_peer(engine.resources, tunnel.name, peer)
        engine.journal(tunnel.name, f"tunnel {what}")


def free_port(wanted: int, tunnels: Iterable[TunnelSpec]) -> int:
    """The port itself; ConflictError where another tunnel has it, active or not."""
    for tunnel in tunnels:
        if tunnel.listen_port == wanted:
            raise ConflictError(
                f"UDP port {wanted} is taken by tunnel '{tunnel.name}'",
                f"give that one another: interface config {tunnel.name} --port PORT",
            )
    return wanted


# What a file says ---------------------------------------------------------------------------------


def _tunnel(engine: Engine, request: Import, config: WgQuickConfig, survey: Survey) -> TunnelSpec:
    resources, tunnels, said = engine.resources, engine.specs().tunnels, config.interface
    public_key = said.private_key.public()
    refuse_twice(public_key, config.peers)
    port = said.listen_port
    now = resources.clock.now()
    return TunnelSpec(
        name=request.name,
        number=choose.number(tunnels),
        interface=choose.interface(
            request.name, request.interface, tunnels, foreign_interfaces(engine, survey)
        ),
        private_key=said.private_key,
        public_key=public_key,
        listen_port=free_port(port, tunnels)
        if port
        else choose.port(None, resources.settings.port, tunnels, survey),
        addresses=said.addresses,
        mtu=said.mtu,
        host_dns=(*said.dns, *said.search),
        fwmark=said.fwmark,
        table=_table(said.table),
        peers=_peers(config.peers, said.addresses, now),
        created_at=now,
    )


def _table(word: str) -> int | None:
    if word in TABLES:
        return TABLES[word]
    if not word.isdecimal():
        raise InvalidInput(
            f"Table '{word}' is a name that this host may not know",
            "write its number, as /etc/iproute2/rt_tables has it",
        )
    return int(word)


def _peers(sections: Sequence[PeerSection], addresses: Iterable[str], now: float) -> tuple[PeerSpec, ...]:
    networks = tuple(map(network_of, addresses))
    names = unique_names(sections)
    return tuple(
        PeerSpec(
            name=name,
            public_key=section.public_key,
            addresses=own_addresses(section.allowed_ips, networks),
            allowed_ips=frozenset(section.allowed_ips),
            preshared_key=section.preshared_key,
            endpoint=section.endpoint,
            endpoint_since=now,
            keepalive=section.keepalive,
            created_at=now,
        )
        for name, section in zip(names, sections, strict=True)
    )


def own_addresses(allowed_ips: Iterable[str], networks: Sequence[str]) -> tuple[str, ...]:
    """Those of a peer's allowed IPs that are single addresses in the tunnel's networks."""
    return tuple(
        prefix
        for prefix in allowed_ips
        if prefix.endswith("/128" if ":" in prefix else "/32")
        and any(covers(network, prefix) for network in networks)
    )


# What a person should know ------------------------------------------------------------------------


def _notes(config: WgQuickConfig, tunnel: TunnelSpec, survey: Survey) -> Iterator[str]:
    said, port = config.interface, tunnel.listen_port
    if config.hooks:
        yield f"left out: {_listed(config.hooks)}"
    if said.save_config:
        yield "SaveConfig means nothing here: the agent keeps the tunnel"
    if tunnel.host_dns:
        yield "DNS is kept for exports; what this host itself asks is not changed"
    if not said.addresses:
        yield "the file has no Address, so the interface will have none"
    if said.listen_port is None:
        yield f"the file has no ListenPort; {port} was free"
    elif port in survey.udp_ports:
        yield f"UDP port {port} is in use on this host now: end that before you bring the tunnel up"


def _listed(hooks: Iterable[Hook]) -> str:
    """Keys and lines only: a command may have a key of the other kind in it."""
    return ", ".join(f"{hook.key} (line {hook.line})" for hook in hooks)
