"""tunnel.adopt: a live interface of somebody else becomes a tunnel of ours, while its packets go on.

The specs are stored first and the link is marked after: a crash in between leaves a foreign link, which the
same command takes over later. The other way round it would leave an orphan, which the next pass removes.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command
from resource_wireguard.engine.views import tunnel_view
from resource_wireguard.errors import ConflictError, HostError, InvalidInput
from resource_wireguard.features.tunnel import choose, tables
from resource_wireguard.features.tunnel.compile import DEFAULT_ROUTES, MAIN_TABLE, compile_tunnels
from resource_wireguard.features.tunnel.exchange import Imported, free_port, own_addresses, store
from resource_wireguard.features.tunnel.members import unique_names
from resource_wireguard.host.facts import Facts, Found
from resource_wireguard.host.state import Route
from resource_wireguard.model.formats.config import PeerSection, WgQuickConfig
from resource_wireguard.model.formats.wgquick import parse
from resource_wireguard.model.keys import PublicKey
from resource_wireguard.model.names import check_name
from resource_wireguard.model.net import Endpoint, network_of, parse_endpoint
from resource_wireguard.model.specs import NO_TABLE, PeerSpec, Specs, TunnelSpec


class Adopt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A live interface by its name; the tunnel is called the same unless name says otherwise.

    text is the wg-quick(8) file it was made from, for what a device does not know: the names of its peers
    and of their hosts, and DNS. It holds keys: the repr says nothing.
    """

    interface: str
    name: str | None = None
    text: str | None = None

    def __repr__(self) -> str:
        return f"Adopt({self.interface})"


def adopt(engine: Engine, request: Adopt) -> Imported:
    """Take over one interface as it runs; no peer has to shake hands again."""
    host, specs = engine.resources.host, engine.specs()
    found = host.read_foreign(request.interface)
    stored_before = _stored_before(specs, found)
    if stored_before is None:
        file = _file_of(found, request.text) if request.text is not None else None
        name = check_name(request.name or request.interface, "tunnel")
        tunnel = _tunnel(engine, specs, found, name, file)
        store(engine, tunnel, f"adopted as it ran: {len(tunnel.peers)} peers; an undo takes it down")
    else:
        tunnel = stored_before
    wanted = frozenset(_routes_of(tunnel, engine.resources.clock.now()))
    try:
        host.take_over(found, tunnel.name, wanted & found.routes)
    except HostError:
        if stored_before is None:
            with engine.change():
                tables.delete_tunnel(engine.resources, tunnel.name)
        raise
    report = engine.settle(tunnel.name)
    return Imported(tunnel_view(tunnel, report), tuple(_notes(found, tunnel, wanted)))


COMMANDS = (Command("tunnel.adopt", Adopt, adopt),)


# What it is ---------------------------------------------------------------------------------------


def _stored_before(specs: Specs, found: Found) -> TunnelSpec | None:
    """The tunnel of an adoption that was cut off before the link was marked."""
    for tunnel in specs.tunnels:
        if tunnel.interface == found.link.name:
            if tunnel.active and found.device and found.device.private_key == tunnel.private_key:
                return tunnel
            raise ConflictError(
                f"interface {tunnel.interface} is that of tunnel '{tunnel.name}' by its name",
                f"delete that tunnel, or rename the interface: ip link set {tunnel.interface} name OTHER",
            )
    return None


def _file_of(found: Found, text: str) -> WgQuickConfig:
    """The file, if it is that of the interface; what else it says does not count, the device does."""
    file = parse(text)
    # By the public half: an engine may show a key that it was given unclamped.
    if found.device is None or file.interface.private_key.public() != found.device.private_key.public():
        raise InvalidInput(
            f"the file is not that of interface {found.link.name}: its PrivateKey is another",
            "give the file that it was made from, or none",
        )
    return file


def _tunnel(engine: Engine, specs: Specs, found: Found, name: str, file: WgQuickConfig | None) -> TunnelSpec:
    choose.refuse_taken_name(specs, name)
    device, now = found.device, engine.resources.clock.now()
    if device is None or not device.listen_port:
        what = "private key" if device is None else "UDP port"
        raise InvalidInput(
            f"interface {found.link.name} has no {what} yet", "bring it up before it is taken over"
        )
    bare = TunnelSpec(
        name=name,
        number=choose.number(specs.tunnels),
        interface=found.link.name,
        private_key=device.private_key,
        public_key=device.private_key.public(),
        listen_port=free_port(device.listen_port, specs.tunnels),
        addresses=found.addresses,
        active=True,
        mtu=found.link.mtu,
        fwmark=device.fwmark,
        host_dns=(*file.interface.dns, *file.interface.search) if file else (),
        peers=_peers(found, now, file.peers if file else ()),
        created_at=now,
    )
    return msgspec.structs.replace(bare, table=_table(bare, found, now))


def _peers(found: Found, now: float, sections: Sequence[PeerSection]) -> tuple[PeerSpec, ...]:
    """endpoint_since stays 0.0: a session that lives knows better than what was told before us."""
    networks = tuple(map(network_of, found.addresses))
    said = {section.public_key: section for section in sections}
    bare = [PeerSection(public_key=peer.public_key) for peer in found.peers]
    names = unique_names([said.get(section.public_key, section) for section in bare])
    return tuple(
        PeerSpec(
            name=name,
            public_key=peer.public_key,
            addresses=own_addresses(sorted(peer.allowed_ips), networks),
            allowed_ips=peer.allowed_ips,
            preshared_key=peer.preshared_key,
            endpoint=_endpoint(found, peer.public_key, said.get(peer.public_key)),
            keepalive=peer.keepalive,
            created_at=now,
        )
        for name, peer in zip(names, found.peers, strict=True)
    )


def _endpoint(found: Found, key: PublicKey, section: PeerSection | None) -> Endpoint | None:
    """What the file says, if there is one; else where the device sends to.

    Whether a device was told an endpoint or has learned it, no engine says. wg(8) showconf keeps it too:
    without it, a tunnel that dials out would not come back after a restart.
    """
    if section is not None:
        return section.endpoint
    text = found.endpoints.get(key)
    return parse_endpoint(text) if text else None


# Which routes are its own -------------------------------------------------------------------------


def _table(tunnel: TunnelSpec, found: Found, now: float) -> int | None:
    """The table setting under which nothing is routed into the tunnel that is not routed so now.

    NO_TABLE where none is: somebody has made routes of another kind, and they stay what they are.
    """
    tables_in_use = {route.table for route in found.routes} - {MAIN_TABLE}
    for candidate in (None, MAIN_TABLE, *sorted(tables_in_use)):
        wanted = set(_routes_of(msgspec.structs.replace(tunnel, table=candidate), now))
        if candidate is None:
            wanted = {route for route in wanted if not _is_by_wg_quick(route, tunnel, found)}
        if wanted <= found.routes:
            return candidate
    return NO_TABLE


def _is_by_wg_quick(route: Route, tunnel: TunnelSpec, found: Found) -> bool:
    """Whether wg-quick(8) has sent everything into the tunnel, by the table whose number is its mark."""
    by_mark = Route(route.prefix, tunnel.interface, tunnel.fwmark)
    return route.prefix in DEFAULT_ROUTES.values() and bool(tunnel.fwmark) and by_mark in found.routes


def _routes_of(tunnel: TunnelSpec, now: float) -> Iterator[Route]:
    pieces = compile_tunnels(Specs({"tunnel": (tunnel,)}), Facts(now))
    return (record for piece in pieces for record in piece.records if isinstance(record, Route))


# What a person should know ------------------------------------------------------------------------


def _notes(found: Found, tunnel: TunnelSpec, wanted: Iterable[Route]) -> Iterator[str]:
    interface = tunnel.interface
    yield (
        f"wg-quick must not start {interface} again: 'systemctl disable wg-quick@{interface}', "
        "without --now, which would take it down"
    )
    if tunnel.fwmark and any(route.table == tunnel.fwmark for route in found.routes):
        yield (
            f"the rules, the routing table {tunnel.fwmark} and the nft table that wg-quick made for the "
            "default route stay beside ours; nobody removes them but you, or a restart of the host"
        )
    left = sorted(route.prefix for route in found.routes - set(wanted) if route.table == MAIN_TABLE)
    if left:
        yield f"not taken over, because no peer has them or not all have one: routes {', '.join(left)}"
    if found.alias:
        yield f"the alias of {interface} was '{found.alias}' and is now our mark"
