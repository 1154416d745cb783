"""From a document to specs: what each tunnel and peer is to be, and what cannot be, all told at once."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from resource_wireguard.engine.feature import Resources
from resource_wireguard.engine.site import site_seed
from resource_wireguard.errors import InvalidInput
from resource_wireguard.features.tunnel import choose
from resource_wireguard.features.tunnel.document import (
    Faults,
    Path,
    Wanted,
    WantedPeer,
    WantedTunnel,
    default_keepalive,
)
from resource_wireguard.host.facts import Survey
from resource_wireguard.host.ipam import ula_prefix
from resource_wireguard.host.state import Device, HostState, Link
from resource_wireguard.model.keys import PresharedKey, PrivateKey
from resource_wireguard.model.net import network_of, parse_endpoint
from resource_wireguard.model.specs import PeerSpec, TunnelSpec


class Draft(msgspec.Struct):
    """All tunnels as they are to be, by name. keys are the private keys made for new peers: not printed."""

    tunnels: dict[str, TunnelSpec]
    keys: dict[tuple[str, str], PrivateKey] = {}
    left_alone: list[str] = []

    def __repr__(self) -> str:
        return f"Draft({', '.join(self.tunnels)})"


class Drafter:
    """Works one document into the tunnels that there are."""

    def __init__(self, resources: Resources, tunnels: Iterable[TunnelSpec], seen: HostState) -> None:
        self._resources = resources
        self._before = {tunnel.name: tunnel for tunnel in tunnels}
        self._survey = _without_ours(resources.host.survey(), self._before.values(), seen)
        self._draft = Draft({})

    def draft(self, wanted: Wanted, faults: Faults) -> Draft:
        """What is, made what is wanted: first what keeps its place, then what needs one, then the peers."""
        tunnels = self._draft.tunnels
        tunnels.update(self._kept(wanted))
        for name, one in wanted.tunnels.items():
            if name in self._before:
                tunnels[name] = self._changed(self._before[name], one, _path(name), faults)
        for name, one in wanted.tunnels.items():
            if name in self._before:
                self._check_place(name, faults)
            else:
                with faults.at(_path(name)):
                    tunnels[name] = self._new(name, one, wanted)
        for name, one in wanted.tunnels.items():
            if name in tunnels and one.peers is not None:
                tunnels[name] = self._with_peers(tunnels[name], one.peers, wanted.prune, faults)
        return self._draft

    # Tunnels ----------------------------------------------------------------------------------------

    def _kept(self, wanted: Wanted) -> Mapping[str, TunnelSpec]:
        unnamed = [name for name in self._before if name not in wanted.tunnels]
        if wanted.prune:
            return {name: spec for name, spec in self._before.items() if name not in unnamed}
        self._draft.left_alone.extend(f"tunnel {name}" for name in unnamed)
        return self._before

    def _changed(self, before: TunnelSpec, wanted: WantedTunnel, path: Path, faults: Faults) -> TunnelSpec:
        """A tunnel that exists; where it is moved to is checked when all others have their places."""
        if wanted.interface not in (None, before.interface):
            faults.add(
                (*path, "interface"),
                f"the interface of tunnel '{before.name}' is {before.interface}, and stays so",
                "its keys were rotated since: 'export' writes the network as it is now"
                if before.generation
                else "delete the tunnel and make it anew to give it another interface",
            )
        return self._set(replace(before, listen_port=wanted.port or before.listen_port), wanted)

    def _set(self, tunnel: TunnelSpec, wanted: WantedTunnel) -> TunnelSpec:
        settings = self._resources.settings
        return replace(
            tunnel,
            addresses=wanted.addresses or tunnel.addresses,
            active=wanted.active,
            mtu=settings.mtu if wanted.mtu is UNSET else wanted.mtu,
            exit=wanted.exit,
            endpoint=parse_endpoint(wanted.endpoint, tunnel.listen_port) if wanted.endpoint else None,
            dns=wanted.dns,
            host_dns=wanted.host_dns,
            fwmark=wanted.fwmark,
            table=wanted.table,
        )

    def _check_place(self, name: str, faults: Faults) -> None:
        """A port or network that a tunnel is moved to must be free once all others have moved too."""
        before, after = self._before[name], self._draft.tunnels[name]
        others = self._others(name)
        if after.listen_port != before.listen_port:
            with faults.at((*_path(name), "port")):
                choose.port(after.listen_port, 1, others, self._survey)
        if after.addresses != before.addresses:
            with faults.at((*_path(name), "addresses")):
                choose.addresses(after.addresses, None, _NO_POOLS, others, self._survey)

    def _new(self, name: str, wanted: WantedTunnel, document: Wanted) -> TunnelSpec:
        resources, others = self._resources, self._others(name)
        number = choose.number([*others, *self._before.values()])
        seed = site_seed(resources.store)
        pools = choose.Pools(resources.settings.network, ula_prefix(seed, number))
        survey = self._survey
        spoken_for = _spoken_for(survey, document)  # what is chosen must not be what another one asks for
        private_key = resources.secrets.new_private_key()
        if wanted.addresses is not None and not wanted.addresses:
            raise InvalidInput(f"tunnel '{name}' has no address", "give it one, or leave 'addresses' out")
        tunnel = TunnelSpec(
            name=name,
            number=number,
            interface=choose.interface(name, wanted.interface, others, survey.interfaces),
            private_key=private_key,
            public_key=private_key.public(),
            listen_port=choose.port(
                wanted.port, resources.settings.port, others, survey if wanted.port else spoken_for
            ),
            addresses=choose.addresses(
                wanted.addresses, None, pools, others, survey if wanted.addresses else spoken_for
            ),
            created_at=resources.clock.now(),
        )
        return self._set(tunnel, wanted)

    def _others(self, name: str) -> list[TunnelSpec]:
        return [tunnel for tunnel in self._draft.tunnels.values() if tunnel.name != name]

    # Peers ------------------------------------------------------------------------------------------

    def _with_peers(
        self, tunnel: TunnelSpec, wanted: Mapping[str, WantedPeer], prune: bool, faults: Faults
    ) -> TunnelSpec:
        """The tunnel with its peers: those with addresses of their own first, then those that need some."""
        path = (*_path(tunnel.name), "peers")
        there = {peer.name: peer for peer in tunnel.peers}
        peers = {name: peer for name, peer in there.items() if not prune or name in wanted}
        self._draft.left_alone.extend(f"peer {name} of {tunnel.name}" for name in peers if name not in wanted)
        placed = {n: one for n, one in wanted.items() if n in there or one.addresses is not None}
        for name, one in placed.items():
            with faults.at((*path, name)):
                peers[name] = self._peer(tunnel, name, there.get(name), one)
        for name, one in wanted.items():
            if name not in placed:
                with faults.at((*path, name)):
                    tunnel = replace(tunnel, peers=tuple(peers.values()))
                    free = replace(one, addresses=choose.peer_addresses(tunnel))
                    peers[name] = self._peer(tunnel, name, None, free)
        tunnel = replace(tunnel, peers=tuple(peers.values()))
        for name, refusal in choose.clashes(tunnel, self._resources.settings.peers_max):
            faults.add((*path, name) if name in wanted else path, refusal.message, refusal.hint)
        return tunnel

    def _peer(self, tunnel: TunnelSpec, name: str, before: PeerSpec | None, wanted: WantedPeer) -> PeerSpec:
        settings, now = self._resources.settings, self._resources.clock.now()
        peer = before or self._new_peer(tunnel, name, wanted)
        addresses = peer.addresses if wanted.addresses is None else wanted.addresses
        if not addresses and not wanted.routes:
            raise InvalidInput(f"peer '{name}' has neither an address nor a route", "give it one of them")
        same_key = wanted.public_key in (None, peer.public_key)
        default = default_keepalive(wanted.endpoint, settings)
        return replace(
            peer,
            public_key=wanted.public_key or peer.public_key,
            has_private_key=peer.has_private_key and same_key,
            preshared_key=self._preshared_key(peer, wanted),
            enabled=wanted.enabled,
            addresses=addresses,
            allowed_ips=choose.allowed_ips(addresses, wanted.routes),
            endpoint=wanted.endpoint,
            endpoint_since=peer.endpoint_since if wanted.endpoint == peer.endpoint else now,
            keepalive=default if wanted.keepalive is None else wanted.keepalive,
            config_allowed_ips=wanted.config_allowed_ips,
            config_dns=wanted.config_dns,
            config_keepalive=wanted.config_keepalive,
        )

    def _new_peer(self, tunnel: TunnelSpec, name: str, wanted: WantedPeer) -> PeerSpec:
        """With the key that the document gives, or a pair made and kept here, and then a preshared key."""
        secrets, now = self._resources.secrets, self._resources.clock.now()
        if wanted.public_key is not None:
            return PeerSpec(name=name, public_key=wanted.public_key, endpoint_since=now, created_at=now)
        private_key = self._draft.keys[tunnel.name, name] = secrets.new_private_key()
        return PeerSpec(
            name=name,
            public_key=private_key.public(),
            preshared_key=secrets.new_preshared_key(),
            has_private_key=True,
            endpoint_since=now,
            created_at=now,
        )

    def _preshared_key(self, peer: PeerSpec, wanted: WantedPeer) -> PresharedKey | None:
        if wanted.preshared_key is None:
            return peer.preshared_key
        if not wanted.preshared_key:
            return None
        return peer.preshared_key or self._resources.secrets.new_preshared_key()


_NO_POOLS = choose.Pools("", "")
"""Where addresses are given, none is chosen."""


def _path(tunnel: str) -> Path:
    return ("tunnels", tunnel)


def _without_ours(survey: Survey, tunnels: Iterable[TunnelSpec], seen: HostState) -> Survey:
    """What others use on this host: our own ports and networks may change hands among our tunnels."""
    own = {tunnel.interface for tunnel in tunnels}  # and not those of a rotation that runs
    devices = seen.of(Device).values()
    return replace(
        survey,
        interfaces=survey.interfaces - (set(seen.of(Link)) & own),
        udp_ports=survey.udp_ports - {device.listen_port for device in devices if device.interface in own},
        prefixes=survey.prefixes - set(choose.prefixes_of(tunnels)),
    )


def _spoken_for(survey: Survey, document: Wanted) -> Survey:
    return replace(
        survey,
        udp_ports=survey.udp_ports | {one.port for one in document.tunnels.values() if one.port},
        prefixes=survey.prefixes | set(_asked_networks(document)),
    )


def _asked_networks(document: Wanted) -> Iterator[str]:
    for one in document.tunnels.values():
        yield from map(network_of, one.addresses or ())
