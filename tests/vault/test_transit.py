"""The master key wrapped by transit: no key leaves this host, and the Vault is needed to start alone."""

import pytest
from tests.vault.server import Bao
from tests.vault.worlds import World, silent

from resource_wireguard.errors import InvalidInput, KeysUnavailable
from resource_wireguard.model.vault import TransitKey
from resource_wireguard.store.vault_secrets import VaultSecrets

NAME = "resource-wireguard"
POLICY = f"""
path "transit/encrypt/{NAME}" {{ capabilities = ["update"] }}
path "transit/decrypt/{NAME}" {{ capabilities = ["update"] }}
"""


@pytest.fixture
def wrapped(world: World, bao: Bao) -> VaultSecrets:
    """Some secrets under a master key that the Vault wraps."""
    bao.call("POST", f"transit/keys/{NAME}")
    world.write(world.token_file, bao.token(POLICY))
    secrets = world.open()
    secrets.put("a", b"1")
    secrets.rekey("transit", TransitKey(world.place()), silent)
    return secrets


def test_the_master_key_is_the_vaults_to_unwrap(world: World, bao: Bao, wrapped: VaultSecrets) -> None:
    assert wrapped.custody().place == f"the transit key transit/resource-wireguard at {bao.address}"
    assert not (world.folder / "config" / "master.key").exists()
    assert world.open().get("a") == b"1"
    assert bao.entries(world.path) == []  # no key went there


def test_while_it_is_sealed_what_runs_goes_on_and_a_start_waits(
    world: World, bao: Bao, wrapped: VaultSecrets
) -> None:
    bao.seal()
    wrapped.put("b", b"2")  # the data keys are in memory
    assert wrapped.get("b") == b"2"
    secrets = world.open()
    why = secrets.unavailable()
    assert why and "is sealed" in why.message
    with pytest.raises(KeysUnavailable, match="is sealed"):
        secrets.get("a")
    bao.unseal()
    secrets.recover()
    assert secrets.unavailable() is None
    assert secrets.get_many("") == {"a": b"1", "b": b"2"}


def test_rekey_stays_and_leaves(world: World, bao: Bao, wrapped: VaultSecrets) -> None:
    before = world.store.query("SELECT parameters FROM master")
    bao.call("POST", f"transit/keys/{NAME}/rotate")
    wrapped.rekey(None, None, silent)
    assert world.store.query("SELECT parameters FROM master") != before
    secrets = world.open()
    assert secrets.get("a") == b"1"
    secrets.rekey("file", None, silent)
    bao.kill()
    assert world.open().get("a") == b"1"


def test_a_transit_key_that_is_not_there_changes_nothing(world: World, bao: Bao) -> None:
    secrets = world.open()
    secrets.put("a", b"1")
    with pytest.raises((KeysUnavailable, InvalidInput)):
        secrets.rekey("transit", TransitKey(world.place(), "absent"), silent)
    assert secrets.custody().source == "file"
    assert world.open().get("a") == b"1"


def test_another_key_in_its_place_opens_nothing(world: World, bao: Bao, wrapped: VaultSecrets) -> None:
    bao.call("POST", f"transit/keys/{NAME}/config", deletion_allowed=True)
    bao.call("DELETE", f"transit/keys/{NAME}")
    bao.call("POST", f"transit/keys/{NAME}")
    secrets = world.open()
    why = secrets.unavailable()
    assert why and "would not decrypt" in why.message
