"""Namespaces in the store: the feature's only SQL. Lists lie in one column each, parted by spaces."""

from resource_wireguard.engine.feature import Resources
from resource_wireguard.engine.ports import Store
from resource_wireguard.model.specs import AttachedSpec, NamespaceSpec

MIGRATIONS = (
    """
CREATE TABLE namespaces (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE CHECK (number > 0),
    kind TEXT NOT NULL,
    tunnel TEXT,
    prefixes TEXT NOT NULL,
    intercontainer INTEGER NOT NULL,
    mtu INTEGER NOT NULL,
    created_at REAL NOT NULL
) STRICT;
CREATE TABLE namespace_containers (
    namespace TEXT NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    container TEXT PRIMARY KEY,
    networks_before TEXT NOT NULL,
    leaving INTEGER NOT NULL
) STRICT;
""",
    "ALTER TABLE namespaces ADD COLUMN dns TEXT NOT NULL DEFAULT '';",
)

_COLUMNS = "name, number, kind, tunnel, prefixes, intercontainer, mtu, dns, created_at"


def load(resources: Resources) -> tuple[NamespaceSpec, ...]:
    """All namespaces by name."""
    attached = _attached(resources.store)
    rows = resources.store.query(f"SELECT {_COLUMNS} FROM namespaces ORDER BY name")  # noqa: S608
    return tuple(
        NamespaceSpec(
            name=name,
            number=number,
            kind=kind,
            tunnel=tunnel,
            prefixes=tuple(prefixes.split()),
            intercontainer=bool(intercontainer),
            mtu=mtu,
            dns=tuple(dns.split()),
            attached=tuple(attached.get(name, ())),
            created_at=created,
        )
        for name, number, kind, tunnel, prefixes, intercontainer, mtu, dns, created in rows
    )


def put(store: Store, spec: NamespaceSpec) -> None:
    """Keep a namespace, new or changed, with the containers attached to it."""
    columns = (
        *(spec.name, spec.number, spec.kind, spec.tunnel, " ".join(spec.prefixes)),
        *(spec.intercontainer, spec.mtu, " ".join(spec.dns), spec.created_at),
    )
    marks = ", ".join("?" for _ in columns)
    delete(store, spec.name)
    store.execute(f"INSERT INTO namespaces ({_COLUMNS}) VALUES ({marks})", *columns)  # noqa: S608
    for one in spec.attached:
        row = (spec.name, one.container, " ".join(one.before), one.leaving)
        store.execute("INSERT INTO namespace_containers VALUES (?, ?, ?, ?)", *row)


def delete(store: Store, name: str) -> None:
    """Forget a namespace."""
    store.execute("DELETE FROM namespaces WHERE name = ?", name)


def _attached(store: Store) -> dict[str, list[AttachedSpec]]:
    found: dict[str, list[AttachedSpec]] = {}
    for namespace, container, before, leaving in store.query(
        "SELECT namespace, container, networks_before, leaving FROM namespace_containers ORDER BY container"
    ):
        attached = AttachedSpec(container=container, before=tuple(before.split()), leaving=bool(leaving))
        found.setdefault(namespace, []).append(attached)
    return found
