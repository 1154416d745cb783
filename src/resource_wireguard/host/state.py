"""The state of a host: sets of kernel objects, each a frozen record that carries its own key.

What a host should be (compiled from specs) and what it is (observed) are values of this one type, so a
single diff serves every feature. A new kind of object is one record class here, one entry in KINDS, and
one driver in system/.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import msgspec

from resource_wireguard.errors import ConflictError
from resource_wireguard.model.keys import PresharedKey, PrivateKey, PublicKey

Key = Any
"""What tells two records of one kind apart; hashable."""


class Record(msgspec.Struct, frozen=True):
    """One kernel object. removable is False for what can be set but not taken away."""

    removable: ClassVar[bool] = True
    interface: ClassVar[str | None] = None

    @property
    def key(self) -> Key:
        """What tells this record from others of its kind."""
        raise NotImplementedError


class Sysctl(Record, frozen=True):
    """A kernel setting by its dotted name; the value before is restored by uninstall, not by a pass."""

    removable: ClassVar[bool] = False
    name: str
    value: str

    @property
    def key(self) -> str:
        """The dotted name."""
        return self.name


class Chain(msgspec.Struct, frozen=True):
    """A base chain: hook is nft's own text, e.g. 'type nat hook postrouting priority 100; policy accept;'."""

    name: str
    hook: str


class NftRule(msgspec.Struct, frozen=True):
    """A rule for one chain of our table, in the words of 'nft -s -y -p list' (see system/nftables.py)."""

    chain: Chain
    text: str
    family: str = "inet"


class Table(Record, frozen=True):
    """Our nftables table of one family, with all its rules; replaced in one transaction."""

    family: str
    chains: tuple[tuple[Chain, tuple[str, ...]], ...]

    @property
    def key(self) -> str:
        """The family."""
        return self.family


class Rule(Record, frozen=True):
    """A routing rule (ip-rule(8)); family is 4 or 6, fwmark 0 means any, invert means 'not fwmark'."""

    priority: int
    family: int
    table: int
    fwmark: int = 0
    invert: bool = False
    suppress_prefixlength: int | None = None
    source: str | None = None
    input_interface: str | None = None

    @property
    def key(self) -> Key:
        """The whole rule: rules are made and removed, never changed."""
        return self


class NetNamespace(Record, frozen=True):
    """A network namespace under /run/netns (ip-netns(8)), with nothing of the host's in it.

    mark is what its loopback carries and so whose it is; up says whether the loopback is.
    """

    name: str
    mark: str
    up: bool = True

    @property
    def key(self) -> str:
        """Its name under /run/netns."""
        return self.name


class DockerNetwork(Record, frozen=True):
    """A Docker network of ours on a bridge of its own; mtu in bytes.

    gateways are where its containers send what is for elsewhere. Docker keeps them free and gives them to
    nobody: only with our addresses on the bridge do they answer.
    """

    name: str
    namespace: str
    bridge: str
    prefixes: tuple[str, ...]
    gateways: tuple[str, ...]
    mtu: int
    intercontainer: bool

    @property
    def key(self) -> str:
        """The network's name."""
        return self.name


class Link(Record, frozen=True):
    """A WireGuard interface: the kernel's own, or a TUN device with a userspace engine behind it.

    netns is the namespace of ours in which it lies, None the host's own; what lies on it lies there too.
    """

    name: str
    tunnel: str
    engine: str
    mtu: int
    up: bool = True
    netns: str | None = None

    @property
    def key(self) -> str:
        """The interface name."""
        return self.name

    @property
    def interface(self) -> str:  # type: ignore[override]
        """The interface name, as in the records that lie on a link."""
        return self.name


class Device(Record, frozen=True):
    """The WireGuard part of an interface; it comes and goes with its link."""

    removable: ClassVar[bool] = False
    interface: str  # type: ignore[misc]
    private_key: PrivateKey
    listen_port: int
    fwmark: int = 0

    @property
    def key(self) -> str:
        """The interface name."""
        return self.interface


class Peer(Record, frozen=True):
    """A peer on a device."""

    interface: str  # type: ignore[misc]
    public_key: PublicKey
    preshared_key: PresharedKey | None
    keepalive: int
    allowed_ips: frozenset[str]

    @property
    def key(self) -> tuple[str, PublicKey]:
        """Interface and public key."""
        return self.interface, self.public_key


class PeerEndpoint(Record, frozen=True):
    """Where a peer is to be reached, as 'address:port'; only for peers whose endpoint we were told.

    Kept apart from Peer because the kernel learns endpoints by itself: for all other peers there is no
    such record to be desired, and roaming is not drift. An endpoint cannot be unset in WireGuard.
    """

    removable: ClassVar[bool] = False
    interface: str  # type: ignore[misc]
    public_key: PublicKey
    endpoint: str

    @property
    def key(self) -> tuple[str, PublicKey]:
        """Interface and public key."""
        return self.interface, self.public_key


class Address(Record, frozen=True):
    """An address with its prefix length on one of our links.

    bare: the kernel makes no route to its network (IFA_F_NOPREFIXROUTE), which another link may have.
    """

    interface: str  # type: ignore[misc]
    address: str
    bare: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Interface and address."""
        return self.interface, self.address


class Route(Record, frozen=True):
    """A route of our protocol; interface None makes it 'unreachable' (fail closed).

    metric 0 means the kernel's default: 0 for IPv4, 1024 for IPv6. source is the address that this host's own
    packets have on that way; None leaves it to the kernel. netns is that of its interface.
    """

    prefix: str
    interface: str | None  # type: ignore[misc]
    table: int = 254
    metric: int = 0
    source: str | None = None
    netns: str | None = None

    @property
    def key(self) -> tuple[str, int, int, str | None]:
        """Prefix, table and metric, the kernel's own key of a route, and whose tables are meant."""
        return self.prefix, self.table, self.metric, self.netns


class Attachment(Record, frozen=True):
    """The Docker networks that a container is attached to, all of them, by name."""

    removable: ClassVar[bool] = False
    container: str
    networks: frozenset[str]

    @property
    def key(self) -> str:
        """The container's name."""
        return self.container


KINDS: tuple[type[Record], ...] = (
    *(Sysctl, Table, Rule, NetNamespace, Link, Device, Peer, PeerEndpoint, Address, Route),
    *(DockerNetwork, Attachment),
)
"""In the order of making: what protects comes first and, since removal runs backwards, goes last. Docker is
slow and may hang: no tunnel waits for it."""

R = TypeVar("R", bound=Record)


class HostState(msgspec.Struct, frozen=True):
    """All objects of all kinds; owners names all who want a record that lies on no interface of theirs."""

    objects: Mapping[type[Record], Mapping[Key, Record]] = {}
    owners: Mapping[tuple[type[Record], Key], tuple[str, ...]] = {}

    def of(self, kind: type[R]) -> Mapping[Key, R]:
        """The records of one kind by their keys."""
        return self.objects.get(kind, {})  # type: ignore[return-value]

    def owner_of(self, record: Record) -> str:
        """Whom a record serves, the first of several; '' where nobody is known, and for tables."""
        return next(iter(self.owners_of(record)), "") if not isinstance(record, Table) else ""

    def owners_of(self, record: Record) -> tuple[str, ...]:
        """All who are worse off without a record that may be shared: none is up while it is missing."""
        owners = self.owners.get((type(record), record.key), ())
        if owners or record.interface is None:
            return owners
        link = self.of(Link).get(record.interface)
        return (link.tunnel if link else "",)


class Piece(msgspec.Struct, frozen=True):
    """What one owner (a tunnel, or a feature's own object) wants on the host."""

    owner: str
    records: Sequence[Record] = ()
    rules: Sequence[NftRule] = ()


def state_of(records: Iterable[Record]) -> HostState:
    """A state from loose records, as an observation yields them."""
    objects: dict[type[Record], dict[Key, Record]] = {}
    for record in records:
        objects.setdefault(type(record), {})[record.key] = record
    return HostState(objects)


def build(pieces: Sequence[Piece]) -> HostState:
    """Fold the pieces of all features into one state; ConflictError names both claimants."""
    objects: dict[type[Record], dict[Key, Record]] = {}
    owners: dict[tuple[type[Record], Key], tuple[str, ...]] = {}
    for piece in pieces:
        links = {record.name for record in piece.records if isinstance(record, Link)}
        for record in piece.records:
            held = objects.setdefault(type(record), {}).setdefault(record.key, record)
            if held is not record and held != record:
                raise _two_claims(record, held, pieces)
            if record.interface not in links:
                _own(owners, (type(record), record.key), piece.owner)
        for rule in piece.rules:
            _own(owners, (Table, rule.family), piece.owner)
    for table in _tables(pieces):
        objects.setdefault(Table, {})[table.key] = table
    state = HostState(objects, owners)
    _check_ports(state)
    _check_addresses(state)
    _check_allowed_ips(state)
    return state


def _own(owners: dict[tuple[type[Record], Key], tuple[str, ...]], what: Key, owner: str) -> None:
    held = owners.get(what, ())
    if owner not in held:
        owners[what] = (*held, owner)


def _tables(pieces: Sequence[Piece]) -> Iterable[Table]:
    families: dict[str, dict[Chain, dict[str, None]]] = {}
    for piece in pieces:
        for rule in piece.rules:
            families.setdefault(rule.family, {}).setdefault(rule.chain, {})[rule.text] = None
    for family, chains in families.items():
        ordered = sorted(chains.items(), key=lambda item: item[0].name)
        yield Table(family, tuple((chain, tuple(texts)) for chain, texts in ordered))


def _two_claims(record: Record, held: Record, pieces: Sequence[Piece]) -> ConflictError:
    claimants = sorted({piece.owner for piece in pieces if record in piece.records or held in piece.records})
    noun = type(record).__name__.lower()
    return ConflictError(
        f"{' and '.join(claimants)} claim the same {noun} {record.key}", "change one of them"
    )


def _check_ports(state: HostState) -> None:
    holders: dict[int, Device] = {}
    for device in state.of(Device).values():
        held = holders.setdefault(device.listen_port, device)
        if held is not device:
            raise ConflictError(
                f"tunnels '{state.owner_of(held)}' and '{state.owner_of(device)}' both listen on "
                f"UDP port {device.listen_port}",
                "give one of them another port with --port",
            )


def _check_addresses(state: HostState) -> None:
    holders: dict[tuple[str, str | None], Address] = {}
    links = state.of(Link)
    for address in state.of(Address).values():
        link = links.get(address.interface)
        place = link.netns if link else None
        held = holders.setdefault((address.address.partition("/")[0], place), address)
        if held is not address and not _are_of_one_tunnel(held, address, state):
            raise ConflictError(
                f"tunnels '{state.owner_of(held)}' and '{state.owner_of(address)}' both have the address "
                f"{address.address}",
                "give one of them another address with --address",
            )


def _are_of_one_tunnel(one: Address, other: Address, state: HostState) -> bool:
    """Whether two interfaces are devices of the same tunnel, which answer to the same addresses."""
    return one.interface != other.interface and state.owner_of(one) == state.owner_of(other) != ""


def _check_allowed_ips(state: HostState) -> None:
    """ConflictError where a prefix has two peers; counting tells whether, only then is looked for which."""
    interfaces: dict[str, list[Peer]] = {}
    for peer in state.of(Peer).values():
        interfaces.setdefault(peer.interface, []).append(peer)
    for peers in interfaces.values():
        claims = [peer.allowed_ips for peer in peers]
        if len(frozenset().union(*claims)) != sum(map(len, claims)):
            raise _claimed_twice(peers, state)


def _claimed_twice(peers: Iterable[Peer], state: HostState) -> ConflictError:
    holders: dict[str, Peer] = {}
    twice = ((prefix, peer) for peer in peers for prefix in sorted(peer.allowed_ips))
    prefix, peer = next((p, peer) for p, peer in twice if holders.setdefault(p, peer) is not peer)
    return ConflictError(
        f"peers {holders[prefix].public_key.short} and {peer.public_key.short} of tunnel "
        f"'{state.owner_of(peer)}' both claim {prefix}",
        "an address belongs to one peer: change one of them",
    )
