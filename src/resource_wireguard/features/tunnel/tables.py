"""Tunnels and peers in the store: the feature's only SQL.

Every row has a revision, a number that no other state of any row ever had; a change of a peer gives its
tunnel a new one too. So 'nothing changed' is read off the tunnels' few rows, and after a rollback the old
revisions are back and do not fit what was cached in between. The agent is the only writer.

Lists of prefixes and addresses lie in one column each, parted by spaces, in their canonical text.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from resource_wireguard.engine.feature import Resources
from resource_wireguard.engine.ports import Secrets, Store
from resource_wireguard.errors import DamagedSecret, KeysUnavailable
from resource_wireguard.model.keys import (
    AbsentPresharedKey,
    AbsentPrivateKey,
    PresharedKey,
    PrivateKey,
    PublicKey,
)
from resource_wireguard.model.net import parse_endpoint
from resource_wireguard.model.specs import PeerSpec, TunnelSpec

MIGRATIONS = (
    """
CREATE TABLE tunnels (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    revision INTEGER NOT NULL,
    name TEXT NOT NULL UNIQUE,
    number INTEGER NOT NULL UNIQUE CHECK (number > 0),
    interface TEXT NOT NULL UNIQUE,
    public_key BLOB NOT NULL CHECK (length(public_key) = 32),
    listen_port INTEGER NOT NULL UNIQUE CHECK (listen_port BETWEEN 1 AND 65535),
    addresses TEXT NOT NULL,
    active INTEGER NOT NULL,
    mtu INTEGER,
    exit INTEGER NOT NULL,
    endpoint TEXT,
    dns TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT;
CREATE TABLE peers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    revision INTEGER NOT NULL,
    tunnel INTEGER NOT NULL REFERENCES tunnels ON DELETE CASCADE,
    name TEXT NOT NULL,
    public_key BLOB NOT NULL CHECK (length(public_key) = 32),
    enabled INTEGER NOT NULL,
    addresses TEXT NOT NULL,
    allowed_ips TEXT NOT NULL,
    has_preshared_key INTEGER NOT NULL,
    has_private_key INTEGER NOT NULL,
    endpoint TEXT,
    endpoint_since REAL NOT NULL,
    keepalive INTEGER NOT NULL,
    config_allowed_ips TEXT NOT NULL,
    config_dns TEXT NOT NULL,
    config_keepalive INTEGER,
    created_at REAL NOT NULL,
    UNIQUE (tunnel, name),
    UNIQUE (tunnel, public_key)
) STRICT;
CREATE INDEX peers_by_revision ON peers (tunnel, revision);
""",
    """
ALTER TABLE tunnels ADD COLUMN host_dns TEXT NOT NULL DEFAULT '';
ALTER TABLE tunnels ADD COLUMN fwmark INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tunnels ADD COLUMN routing_table INTEGER;
""",
    """
ALTER TABLE tunnels ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
""",
)

MANY = 200
"""Changed peers from which on all of a tunnel are read at once instead of one by one."""

_TUNNEL = (
    "name, number, interface, public_key, listen_port, addresses, active, mtu, exit, endpoint, dns, "
    "host_dns, fwmark, routing_table, generation, created_at"
)
_PEER = (
    "name, public_key, enabled, addresses, allowed_ips, has_preshared_key, has_private_key, endpoint, "
    "endpoint_since, keepalive, config_allowed_ips, config_dns, config_keepalive, created_at"
)


_ABSENT = (KeysUnavailable, DamagedSecret)
"""Why a key may be absent from a spec; the other errors of the store are errors of the whole."""

Rows = frozenset[tuple[int, int]]
"""Rows of peers with their revisions: what differs between two looks is a difference of sets."""


class _Cached(msgspec.Struct):
    """A tunnel as last read, and its peers by row."""

    revision: int
    spec: TunnelSpec
    rows: Rows
    peers: dict[int, PeerSpec]

    @property
    def lacking(self) -> bool:
        """Whether a key was absent."""
        keys = (self.spec.private_key, *(peer.preshared_key for peer in self.peers.values()))
        return any(key and key.why for key in keys)


class SpecCache:
    """Loads the specs, reading again only the rows that changed since the last time, or lacked a key.

    A key that cannot be had is absent from its spec, which says why; what is held already stays as it is.
    """

    def __init__(self) -> None:
        self._store: Store | None = None
        self._seen: list[tuple[Any, ...]] = []
        self._tunnels: dict[int, _Cached] = {}
        self._specs: tuple[TunnelSpec, ...] = ()
        self._lacking = False

    def load(self, resources: Resources) -> tuple[TunnelSpec, ...]:
        """All tunnels by name, with their peers in the order in which they were added."""
        store = resources.store
        if store is not self._store:
            self._store, self._seen, self._tunnels, self._specs = store, [], {}, ()
        seen = store.query("SELECT id, revision FROM tunnels ORDER BY name")
        if seen != self._seen or (self._lacking and resources.secrets.unavailable() is None):
            self._tunnels = {row: self._fresh(resources, row, revision) for row, revision in seen}
            self._specs = tuple(cached.spec for cached in self._tunnels.values())
            self._lacking = any(cached.lacking for cached in self._tunnels.values())
            self._seen = seen
        return self._specs

    def _fresh(self, resources: Resources, row: int, revision: int) -> _Cached:
        cached = self._tunnels.get(row)
        if cached and cached.revision == revision and not (self._lacking and cached.lacking):
            return cached
        rows: Rows = frozenset(resources.store.query("SELECT id, revision FROM peers WHERE tunnel = ?", row))
        known = {row: cached.peers[row] for row, _ in rows & cached.rows} if cached else {}
        known = {
            row: peer for row, peer in known.items() if not (peer.preshared_key and peer.preshared_key.why)
        }
        read = _read_peers(resources, row, [row for row, _ in rows if row not in known])
        peers = dict(sorted((known | read).items()))
        spec = _read_tunnel(resources, row, tuple(peers.values()), cached.spec if cached else None)
        return _Cached(revision, spec, rows, peers)


def _read_tunnel(
    resources: Resources, row: int, peers: tuple[PeerSpec, ...], before: TunnelSpec | None
) -> TunnelSpec:
    columns = resources.store.query(f"SELECT {_TUNNEL} FROM tunnels WHERE id = ?", row)[0]  # noqa: S608
    name, number, interface, public, port, addresses, active, mtu, exit_, endpoint, dns, *more = columns
    host_dns, fwmark, table, generation, created = more
    same = before is not None and before.public_key == public and not before.private_key.why
    return TunnelSpec(
        name=name,
        number=number,
        interface=interface,
        private_key=before.private_key if before and same else _private_key(resources, row, name, public),
        public_key=PublicKey(public),
        listen_port=port,
        addresses=tuple(addresses.split()),
        active=bool(active),
        mtu=mtu,
        exit=bool(exit_),
        endpoint=parse_endpoint(endpoint) if endpoint else None,
        dns=tuple(dns.split()),
        host_dns=tuple(host_dns.split()),
        fwmark=fwmark,
        table=table,
        generation=generation,
        peers=peers,
        created_at=created,
    )


def _read_peers(resources: Resources, tunnel: int, wanted: Sequence[int]) -> dict[int, PeerSpec]:
    """Some peers of one tunnel by row: few one by one, many in one go with all their keys."""
    store, secrets = resources.store, resources.secrets
    if len(wanted) < MANY:
        select = f"SELECT id, {_PEER} FROM peers WHERE id = ?"  # noqa: S608
        rows = [columns for row in wanted for columns in store.query(select, row)]
        keys: Mapping[str, bytes] = {}
    else:
        every = store.query(f"SELECT id, {_PEER} FROM peers WHERE tunnel = ?", tunnel)  # noqa: S608
        among = set(wanted)
        rows = [columns for columns in every if columns[0] in among]
        keys = _all_preshared(secrets, tunnel)
    return {columns[0]: _peer_of(secrets, tunnel, columns, keys) for columns in rows}


def _peer_of(secrets: Secrets, tunnel: int, columns: tuple[Any, ...], keys: Mapping[str, bytes]) -> PeerSpec:
    row, name, public, enabled, addresses, allowed, has_preshared, has_private, *more = columns
    endpoint, since, keepalive, config_allowed, config_dns, config_keepalive, created = more
    return PeerSpec(
        name=name,
        public_key=PublicKey(public),
        enabled=bool(enabled),
        addresses=tuple(addresses.split()),
        allowed_ips=frozenset(allowed.split()),
        preshared_key=_preshared_key(secrets, _preshared_name(tunnel, row), name, keys)
        if has_preshared
        else None,
        has_private_key=bool(has_private),
        endpoint=parse_endpoint(endpoint) if endpoint else None,
        endpoint_since=since,
        keepalive=keepalive,
        config_allowed_ips=tuple(config_allowed.split()),
        config_dns=tuple(config_dns.split()),
        config_keepalive=config_keepalive,
        created_at=created,
    )


def _private_name(tunnel: int) -> str:
    return f"tunnel/{tunnel}/private"


def _preshared_name(tunnel: int, peer: int) -> str:
    return f"tunnel/{tunnel}/preshared/{peer}/key"  # ends after the number: a prefix of no other's


def _peer_private_name(tunnel: int, peer: int) -> str:
    return f"tunnel/{tunnel}/peer-private/{peer}/key"


def _private_key(resources: Resources, row: int, owner: str, public: bytes) -> PrivateKey:
    try:
        return PrivateKey(_present(resources.secrets.get(_private_name(row)), _private_name(row), owner))
    except _ABSENT as why:
        return AbsentPrivateKey(why, PublicKey(public))


def _preshared_key(secrets: Secrets, name: str, owner: str, keys: Mapping[str, bytes]) -> PresharedKey:
    try:
        return PresharedKey(_present(keys.get(name) or secrets.get(name), name, owner))
    except _ABSENT as why:
        return AbsentPresharedKey(why)


def _all_preshared(secrets: Secrets, tunnel: int) -> Mapping[str, bytes]:
    """The preshared keys of a tunnel by name; none where one is damaged: then each is tried by itself."""
    try:
        return secrets.get_many(f"tunnel/{tunnel}/preshared/")
    except _ABSENT:
        return {}


def _present(key: bytes | None, name: str, owner: str) -> bytes:
    if key is None:
        raise DamagedSecret(f"the secret '{name}' of '{owner}' is not in the store", "restore a back-up")
    return key


# Writing: inside engine.change(), which is a transaction of the store ------------------------------


def put_tunnel(resources: Resources, spec: TunnelSpec) -> None:
    """Keep a tunnel, new or changed, without its peers."""
    columns = (
        *(spec.name, spec.number, spec.interface, bytes(spec.public_key), spec.listen_port),
        *(" ".join(spec.addresses), spec.active, spec.mtu, spec.exit),
        *(str(spec.endpoint) if spec.endpoint else None, " ".join(spec.dns), " ".join(spec.host_dns)),
        *(spec.fwmark, spec.table, spec.generation, spec.created_at),
    )
    resources.store.execute(_upsert("tunnels", _TUNNEL, "name"), *columns)
    if not spec.private_key.why:
        resources.secrets.put(_private_name(_row_of(resources.store, spec.name)), spec.private_key)


def delete_tunnel(resources: Resources, name: str) -> None:
    """Forget a tunnel, its peers and all their keys."""
    resources.secrets.delete(f"tunnel/{_row_of(resources.store, name)}/")
    resources.store.execute("DELETE FROM tunnels WHERE name = ?", name)


def let_go_of_ports(store: Store, names: Iterable[str], wanted: Iterable[int]) -> None:
    """Give tunnels that are about to be put other ports first, which nobody wants: so two can swap theirs."""
    taken = {port for (port,) in store.query("SELECT listen_port FROM tunnels")}.union(wanted)
    free = (port for port in range(65_535, 0, -1) if port not in taken)
    for name in names:
        store.execute("UPDATE tunnels SET listen_port = ? WHERE name = ?", next(free), name)


def put_peer(
    resources: Resources, tunnel: str, spec: PeerSpec, private_key: PrivateKey | None = None
) -> None:
    """Keep a peer, new or changed; its private key only if one is given here."""
    store, owner = resources.store, _row_of(resources.store, tunnel)
    columns = (
        *(owner, spec.name, bytes(spec.public_key), spec.enabled, " ".join(spec.addresses)),
        *(" ".join(sorted(spec.allowed_ips)), spec.preshared_key is not None, spec.has_private_key),
        *(str(spec.endpoint) if spec.endpoint else None, spec.endpoint_since, spec.keepalive),
        *(" ".join(spec.config_allowed_ips), " ".join(spec.config_dns), spec.config_keepalive),
        spec.created_at,
    )
    store.execute(_upsert("peers", f"tunnel, {_PEER}", "tunnel, name"), *columns)
    _touch(store, owner)
    row = _peer_row(store, owner, spec.name)
    if spec.preshared_key is None:
        resources.secrets.delete(_preshared_name(owner, row))
    elif not spec.preshared_key.why:
        resources.secrets.put(_preshared_name(owner, row), spec.preshared_key)
    if private_key is not None:
        resources.secrets.put(_peer_private_name(owner, row), private_key)


def delete_peer(resources: Resources, tunnel: str, name: str) -> None:
    """Forget a peer and its keys."""
    store, owner = resources.store, _row_of(resources.store, tunnel)
    row = _peer_row(store, owner, name)
    for secret in (_preshared_name(owner, row), f"tunnel/{owner}/peer-private/{row}/"):
        resources.secrets.delete(secret)
    store.execute("DELETE FROM peers WHERE tunnel = ? AND name = ?", owner, name)
    _touch(store, owner)


def peer_private_key(resources: Resources, tunnel: str, name: str) -> PrivateKey | None:
    """The private key of a peer, where it was made and kept here."""
    owner = _row_of(resources.store, tunnel)
    held = resources.secrets.get(_peer_private_name(owner, _peer_row(resources.store, owner, name)))
    return PrivateKey(held) if held is not None else None


def forget_private_key(resources: Resources, tunnel: str, name: str) -> None:
    """A peer has taken up a key that was made elsewhere."""
    owner = _row_of(resources.store, tunnel)
    resources.secrets.delete(_peer_private_name(owner, _peer_row(resources.store, owner, name)))


def _upsert(table: str, columns: str, key: str) -> str:
    """INSERT, or UPDATE of the row with that key; either way with a new revision."""
    marks = ", ".join("?" for _ in columns.split(","))
    updates = ", ".join(f"{name.strip()} = excluded.{name.strip()}" for name in columns.split(","))
    return (
        f"INSERT INTO {table} ({columns}, revision) VALUES ({marks}, random()) "  # noqa: S608
        f"ON CONFLICT ({key}) DO UPDATE SET {updates}, revision = excluded.revision"
    )


def _touch(store: Store, tunnel: int) -> None:
    store.execute("UPDATE tunnels SET revision = random() WHERE id = ?", tunnel)


def _row_of(store: Store, tunnel: str) -> int:
    return int(store.query("SELECT id FROM tunnels WHERE name = ?", tunnel)[0][0])


def _peer_row(store: Store, tunnel: int, name: str) -> int:
    return int(store.query("SELECT id FROM peers WHERE tunnel = ? AND name = ?", tunnel, name)[0][0])
