"""What becomes of a wish in the store, where it is a rotation without a new key."""

from resource_wireguard.engine.ports import Store
from resource_wireguard.model.keys import PublicKey, fingerprint


def put_state(store: Store, rotation: int, state: str, deadline: float) -> None:
    """What a wish has come to, and until when it stays so."""
    store.execute("UPDATE rotations SET outcome = ?, deadline = ? WHERE id = ?", state, deadline, rotation)


def put_key(store: Store, rotation: int, key: PublicKey) -> None:
    """A wish has its key: from now on it is a rotation as any other."""
    store.execute(
        "UPDATE rotations SET new_key = ?, new_fingerprint = ?, outcome = '', deadline = NULL WHERE id = ?",
        *(bytes(key), fingerprint(key), rotation),
    )
