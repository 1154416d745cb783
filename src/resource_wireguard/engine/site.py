"""What is this host's own and drawn once."""

import os

from resource_wireguard.engine.ports import Store


def site_seed(store: Store) -> bytes:
    """The 40 random bits of this host's IPv6 prefix (RFC 4193, section 3.2.2), drawn once."""
    store.execute("INSERT OR IGNORE INTO settings (name, value) VALUES ('ula_seed', ?)", os.urandom(5).hex())
    return bytes.fromhex(store.query("SELECT value FROM settings WHERE name = 'ula_seed'")[0][0])
