"""Small worlds for tests of the core: tunnels as pieces, any number of them, and the pass that makes them."""

from base64 import b64decode
from collections.abc import Sequence

from hypothesis import strategies as st

from resource_wireguard.engine.feature import Feature
from resource_wireguard.engine.ports import Host
from resource_wireguard.engine.reconcile import Report, World, reconcile
from resource_wireguard.host.facts import Questions
from resource_wireguard.host.ownership import RULE_PRIORITY_FIRST, mark_of
from resource_wireguard.host.state import (
    Address,
    Chain,
    Device,
    Link,
    NetNamespace,
    NftRule,
    Peer,
    PeerEndpoint,
    Piece,
    Record,
    Route,
    Rule,
    Sysctl,
)
from resource_wireguard.model.keys import PresharedKey, PrivateKey, PublicKey
from resource_wireguard.model.specs import Specs

POSTROUTING = Chain("postrouting", "type nat hook postrouting priority 100; policy accept;")


class StoppedClock:
    """A clock that a test sets."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def boot(self) -> tuple[str, float]:
        return "boot", self.time


def compile_pieces(specs: Specs, _: object) -> Sequence[Piece]:
    """The simplest feature there is: its specs are pieces already."""
    return specs.by_feature.get("pieces", ())


def asked_sysctls(specs: Specs, _: object) -> Questions:
    """A sysctl that a feature wants is one that it asks for."""
    records = [record for piece in compile_pieces(specs, None) for record in piece.records]
    return Questions(sysctls=frozenset(r.name for r in records if isinstance(r, Sysctl)))


PIECES = Feature("pieces", compile=compile_pieces, questions=asked_sysctls)


def world_of(host: Host, clock: StoppedClock | None = None) -> World:
    return World((PIECES,), host, clock or StoppedClock())


def run_pass(host: Host, pieces: Sequence[Piece], *, clock: StoppedClock | None = None) -> Report:
    """One whole pass of the product's own reconcile()."""
    return reconcile(world_of(host, clock), Specs({"pieces": tuple(pieces)}), {})


def key_of(name: str) -> PublicKey:
    """A public key whose text begins with a name: 'phone' → 'phoneAAA…'."""
    return PublicKey(b64decode(f"{name:A<43}="))


def private_key_of(name: str) -> PrivateKey:
    return PrivateKey(name.encode().ljust(32, b"!"))


def peer_of(interface: str, name: str, *allowed: str, keepalive: int = 0, shared: bool = False) -> Peer:
    secret = PresharedKey(b"s" * 32) if shared else None
    return Peer(interface, key_of(name), secret, keepalive, frozenset(allowed))


def tunnel_piece(
    name: str,
    number: int,
    *,
    peers: Sequence[Record] = (),
    addresses: Sequence[str] = ("10.{number}.0.1/24",),
    routes: Sequence[str] = ("172.16.{number}.0/24",),
    port: int | None = None,
    mtu: int = 1420,
    exit_: bool = False,
    engine: str = "kernel",
    netns: bool = False,
) -> Piece:
    """One tunnel with everything a tunnel can have: each kind of record at least once when exit_ is set.

    With netns it lies in a network namespace of its own.
    """
    interface = f"wg-{name}"
    place = f"wg-{name}" if netns else None
    records: list[Record] = [
        *([NetNamespace(place, name)] if place else []),
        Link(interface, name, engine, mtu, netns=place),
        Device(interface, private_key_of(name), port or 51820 + number, mark_of(number)),
        *peers,
        *(Address(interface, a.format(number=number)) for a in addresses),
        *(Route(r.format(number=number), interface, netns=place) for r in routes),
        Rule(RULE_PRIORITY_FIRST + number, 4, mark_of(number), mark_of(number), invert=True),
    ]
    if not exit_:
        return Piece(name, records)
    records.append(Sysctl("net.ipv4.ip_forward", "1"))
    return Piece(
        name, records, [NftRule(POSTROUTING, f'iifname "{interface}" oifname != "{interface}" masquerade')]
    )


def full_tunnel(name: str = "a", number: int = 1) -> Piece:
    """An exit tunnel with two peers, one of which we were told an endpoint of."""
    interface = f"wg-{name}"
    peers = [
        peer_of(interface, "phone", f"10.{number}.0.2/32", shared=True),
        peer_of(interface, "site", f"10.{number}.0.3/32", f"172.16.{number}.0/24", keepalive=25),
        PeerEndpoint(interface, key_of("site"), "192.0.2.1:51820"),
    ]
    return tunnel_piece(
        name, number, peers=peers, exit_=True, addresses=("10.{number}.0.1/24", "fd00:{number}::1/64")
    )


@st.composite
def _peers(draw: st.DrawFn, interface: str, number: int) -> list[Record]:
    """Up to four peers that share out a few allowed IPs, each to one of them at most."""
    names = draw(st.lists(st.sampled_from(["ann", "ben", "cat", "dan"]), unique=True))
    owners = {i: draw(st.sampled_from([*names, None])) for i in range(2, 6)} if names else {}
    records: list[Record] = []
    for name in names:
        allowed = [f"10.{number}.0.{i}/32" for i, owner in owners.items() if owner == name]
        records.append(
            peer_of(
                interface,
                name,
                *allowed,
                keepalive=draw(st.sampled_from([0, 25])),
                shared=draw(st.booleans()),
            )
        )
        if draw(st.booleans()):
            records.append(
                PeerEndpoint(
                    interface, key_of(name), draw(st.sampled_from(["192.0.2.1:1", "[2001:db8::1]:2"]))
                )
            )
    return records


@st.composite
def worlds(draw: st.DrawFn) -> list[Piece]:
    """Any sound set of up to three tunnels, which share no port, as the store keeps them apart."""
    return [
        tunnel_piece(
            name,
            number,
            peers=draw(_peers(f"wg-{name}", number)),
            addresses=draw(
                st.lists(
                    st.sampled_from(
                        [
                            "10.{number}.0.1/24",
                            "10.{number}.0.9/24",
                            "10.{number}.1.1/32",
                            "fd00:{number}::1/64",
                        ]
                    ),
                    unique=True,
                )
            ),
            routes=draw(
                st.lists(st.sampled_from(["172.16.{number}.0/24", "fd01:{number}::/64"]), unique=True)
            ),
            port=draw(st.sampled_from([1000, 2000])) + number,
            mtu=draw(st.sampled_from([1380, 1420])),
            exit_=draw(st.booleans()),
            netns=draw(st.booleans()),
        )
        for number, name in enumerate(draw(st.lists(st.sampled_from("abc"), unique=True)), start=1)
    ]
