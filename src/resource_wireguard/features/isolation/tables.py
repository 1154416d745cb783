"""Namespaces in the store: the feature's only SQL. Lists lie in one column each, parted by spaces."""

from resource_wireguard.engine.feature import Resources
from resource_wireguard.engine.ports import Store
from resource_wireguard.model.specs import NamespaceSpec

MIGRATIONS = (
    """
CREATE TABLE namespaces (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE CHECK (number > 0),
    kind TEXT NOT NULL,
    tunnel TEXT,
    prefixes TEXT NOT NULL,
    intercontainer INTEGER NOT NULL,
    created_at REAL NOT NULL
) STRICT;
""",
    "ALTER TABLE namespaces ADD COLUMN dns TEXT NOT NULL DEFAULT '';",
)

_COLUMNS = "name, number, kind, tunnel, prefixes, intercontainer, dns, created_at"


def load(resources: Resources) -> tuple[NamespaceSpec, ...]:
    """All namespaces by name."""
    rows = resources.store.query(f"SELECT {_COLUMNS} FROM namespaces ORDER BY name")  # noqa: S608
    return tuple(
        NamespaceSpec(
            name=name,
            number=number,
            kind=kind,
            tunnel=tunnel,
            prefixes=tuple(prefixes.split()),
            intercontainer=bool(intercontainer),
            dns=tuple(dns.split()),
            created_at=created,
        )
        for name, number, kind, tunnel, prefixes, intercontainer, dns, created in rows
    )


def put(store: Store, spec: NamespaceSpec) -> None:
    """Keep a namespace, new or changed."""
    columns = (
        *(spec.name, spec.number, spec.kind, spec.tunnel, " ".join(spec.prefixes)),
        *(spec.intercontainer, " ".join(spec.dns), spec.created_at),
    )
    marks = ", ".join("?" for _ in columns)
    store.execute(f"INSERT OR REPLACE INTO namespaces ({_COLUMNS}) VALUES ({marks})", *columns)  # noqa: S608


def delete(store: Store, name: str) -> None:
    """Forget a namespace."""
    store.execute("DELETE FROM namespaces WHERE name = ?", name)
