"""What the peers have carried, in the store: the feature's only SQL."""

from collections.abc import Iterable

import msgspec

from resource_wireguard.engine.ports import Store
from resource_wireguard.features.monitor.traffic import Count, PeerKey
from resource_wireguard.model.keys import PublicKey

MIGRATIONS = (
    """
CREATE TABLE traffic (
    interface TEXT NOT NULL,
    public_key BLOB NOT NULL CHECK (length(public_key) = 32),
    rx_total INTEGER NOT NULL,
    tx_total INTEGER NOT NULL,
    rx_seen INTEGER NOT NULL,
    tx_seen INTEGER NOT NULL,
    PRIMARY KEY (interface, public_key)
) STRICT, WITHOUT ROWID;
""",
    """
ALTER TABLE traffic ADD COLUMN owner TEXT NOT NULL DEFAULT '';
""",
)

_COLUMNS = "rx_total, tx_total, rx_seen, tx_seen, owner"


def load(store: Store) -> dict[PeerKey, Count]:
    """All counts as they were saved last."""
    rows = store.query(f"SELECT interface, public_key, {_COLUMNS} FROM traffic")  # noqa: S608
    return {(interface, PublicKey(key)): Count(*more) for interface, key, *more in rows}


def save(store: Store, changed: Iterable[tuple[PeerKey, Count]], gone: Iterable[PeerKey]) -> None:
    """Keep some counts and forget others, in one transaction."""
    rows = [(interface, bytes(key), *msgspec.structs.astuple(count)) for (interface, key), count in changed]
    marks = ", ".join("?" * 7)
    with store.transaction():
        store.execute_many(
            f"INSERT OR REPLACE INTO traffic (interface, public_key, {_COLUMNS}) VALUES ({marks})",  # noqa: S608
            rows,
        )
        store.execute_many(
            "DELETE FROM traffic WHERE interface = ? AND public_key = ?",
            [(interface, bytes(key)) for interface, key in gone],
        )
