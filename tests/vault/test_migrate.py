"""Moving keys into a Vault and back: nothing is lost when it breaks off, nothing of others is touched."""

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.vault.server import Bao
from tests.vault.worlds import World, policy, silent

from resource_wireguard.errors import ConflictError, InvalidInput, KeysUnavailable
from resource_wireguard.store import entries, vault_secrets
from resource_wireguard.store.entries import MOST
from resource_wireguard.store.sqlite import SqliteStore
from resource_wireguard.store.vault_secrets import VaultSecrets

KEYS = {f"tunnel/{number}/private": bytes([number]) * 32 for number in range(1, 8)}

FEW = dict(list(KEYS.items())[:3])


def test_there_and_back(world: World) -> None:
    secrets = world.migrated(**KEYS)
    assert secrets.get_many("") == KEYS
    assert world.local() == []
    assert len(world.entries()) == 1

    assert world.open().get_many("") == KEYS  # after a restart

    secrets = world.open()
    assert secrets.migrate_back(silent) == len(KEYS)
    assert secrets.get_many("") == KEYS
    assert world.bao.entries("wireguard") == [] or f"{world.path.split('/')[1]}/" not in world.bao.entries(
        "wireguard"
    )
    world.bao.kill()
    assert world.open().get_many("") == KEYS  # the Vault is needed no more


def test_what_was_sealed_here_is_in_no_file_any_more(world: World) -> None:
    secrets = world.open()
    secrets.put("tunnel/1/private", b"\x01" * 32)
    sealed = world.store.query("SELECT sealed FROM secrets")[0][0]
    assert sealed in world.files()
    secrets.migrate(world.place(), silent)
    assert sealed not in world.files()


def test_migrating_again_is_nothing(world: World) -> None:
    secrets = world.migrated(**KEYS)
    before = world.entries()
    assert secrets.migrate(None, silent) == 0
    assert world.entries() == before
    secrets.migrate_back(silent)
    assert secrets.migrate_back(silent) == 0


def test_undo_reaches_back_over_both_moves(world: World) -> None:
    secrets = world.open()
    with world.change():
        secrets.put("a/private", b"first")
    with world.change():
        secrets.put("a/private", b"second")
    with world.change():
        secrets.delete("a/")
    secrets.migrate(world.place(), silent)
    assert world.local() == []
    world.undo()
    assert secrets.get("a/private") == b"second"
    secrets.migrate_back(silent)
    world.undo()  # the undo itself
    assert secrets.get("a/private") is None
    world.bao.kill()
    secrets = world.open()
    world.undo()
    assert secrets.get("a/private") == b"second"


def test_many_secrets_are_few_entries(world: World) -> None:
    secrets = world.open()
    many = {f"tunnel/1/preshared/{number}/key": os.urandom(32) for number in range(MOST + 500)}
    with world.store.transaction():
        for name, secret in many.items():
            secrets.put(name, secret)
    told: list[str] = []
    secrets.migrate(world.place(), told.append)
    assert told == [f"moving secret {n} of {MOST + 500} to the Vault" for n in (1, MOST + 1)]
    assert len(world.entries()) == 2
    assert world.open().get_many("tunnel/1/preshared/") == many


def test_a_path_with_secrets_of_others_is_refused(world: World, bao: Bao) -> None:
    bao.write(f"{world.path}/database", {"password": "theirs"})
    secrets = world.open()
    secrets.put("a", b"ours")
    with pytest.raises(ConflictError, match="holds secrets of others") as refused:
        secrets.migrate(world.place(), silent)
    assert "--path" in refused.value.hint
    assert bao.entry(f"{world.path}/database") == {"password": "theirs"}
    assert bao.entries(world.path) == ["database"]
    assert world.local() == ["a"]
    assert secrets.custody().vault is None


@pytest.mark.parametrize("entry", ["", "/owner"])
def test_an_entry_of_others_in_our_place_is_refused(world: World, bao: Bao, entry: str) -> None:
    bao.write(f"{world.path}{entry}", {"password": "theirs"})
    with pytest.raises(ConflictError, match="holds secrets of others"):
        world.open().migrate(world.place(), silent)
    assert bao.entry(f"{world.path}{entry}") == {"password": "theirs"}


def test_the_path_of_another_host_is_refused(world: World, bao: Bao, tmp_path: Path) -> None:
    world.migrated(a=b"1")
    other = World(bao, tmp_path / "other", world.path)
    with pytest.raises(ConflictError, match="keys of another host"):
        other.open().migrate(other.place(), silent)
    other.close()


def test_going_back_leaves_what_others_put_there_since(world: World, bao: Bao) -> None:
    secrets = world.migrated(a=b"1")
    bao.write(f"{world.path}/keys/theirs", {"password": "theirs"})
    bao.write(f"{world.path}/keys/{'0' * 32}", {"password": "theirs"})
    secrets.migrate_back(silent)
    assert bao.entries(f"{world.path}/keys") == ["0" * 32, "theirs"]
    assert bao.entries(world.path) == ["keys/"]


def test_another_way_in_is_taken_and_another_path_refused(world: World, bao: Bao) -> None:
    secrets = world.migrated(a=b"1")
    role, secret_id = bao.app_role(policy("wireguard"))
    world.write(world.folder / "id", secret_id)
    secrets.migrate(world.place(role_id=role, secret_id_file=str(world.folder / "id")), silent)
    world.token_file.unlink()
    assert world.open().get("a") == b"1"

    with pytest.raises(ConflictError, match="the keys lie in secret/"):
        world.open().migrate(
            world.place(role_id=role, secret_id_file=str(world.folder / "id"), path="wireguard/other"), silent
        )


def test_without_a_place_there_is_nowhere_to_go(world: World) -> None:
    with pytest.raises(InvalidInput, match="no Vault is set up"):
        world.open().migrate(None, silent)


def test_a_vault_that_is_sealed_gets_nothing_and_costs_nothing(world: World, bao: Bao) -> None:
    secrets = world.open()
    secrets.put("a", b"1")
    bao.seal()
    with pytest.raises(KeysUnavailable, match="is sealed"):
        secrets.migrate(world.place(), silent)
    assert world.open().get("a") == b"1"


def killed_at(world: World, way: str, when: str, step: int) -> bool:
    """Whether a migration in a process of its own died at a step of its own (a call to Vault or database)."""
    child = os.fork()
    if child == 0:
        _migrate_and_die(world, way, when, step)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status == signal.SIGKILL


def _migrate_and_die(world: World, way: str, when: str, killed: int) -> None:
    """Never returns."""
    steps = itertools.count(1)

    def count() -> None:
        if next(steps) == killed:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*words: Any, **more: Any) -> Any:
            if when == "before":
                count()
            done = work(*words, **more)
            if when == "after":
                count()
            return done

        return run

    try:
        vault_secrets.MOST = 2
        secrets = world.open()
        for name in ("read", "create", "delete", "names"):
            setattr(entries.Vault, name, counted(getattr(entries.Vault, name)))
        SqliteStore._run = counted(SqliteStore._run)
        if way == "there":
            secrets.migrate(world.place(), silent)
        else:
            secrets.migrate_back(silent)
        os._exit(0)
    finally:
        os._exit(1)


def test_keys_that_were_read_come_back_from_a_vault_that_is_lost(world: World, bao: Bao) -> None:
    secrets = world.migrated(**KEYS)
    for key in (b"newer", b"newest"):
        with world.change():
            secrets.put("tunnel/1/private", key)
    secrets = world.open()  # what 'undo' alone needs is not read at a start
    bao.kill()
    for _ in range(2):
        with pytest.raises(KeysUnavailable, match="cannot be reached"):
            secrets.migrate_back(silent)
    vault = secrets.custody().vault
    assert vault and (vault.inside, vault.keys_in) == (0, "file")
    assert world.open().get_many("") == {**KEYS, "tunnel/1/private": b"newest"}

    bao.restart()
    secrets = world.open()
    secrets.migrate_back(silent)
    assert secrets.custody().vault is None
    world.undo()
    assert secrets.get("tunnel/1/private") == b"newer"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("way", ["there", "back"])
def test_killed_at_every_step_nothing_is_lost(bao: Bao, tmp_path: Path, way: str, when: str) -> None:
    for step in itertools.count(1):
        world = World(bao, tmp_path / str(step), f"wireguard/{way}-{when}-{step}")
        secrets = world.migrated(**FEW) if way == "back" else world.open()
        for name, secret in FEW.items():
            secrets.put(name, secret)
        world.close()
        died = killed_at(world, way, when, step)
        secrets = world.open()
        assert secrets.get_many("") == FEW, f"killed {when} step {step}"
        _is_finished(world, secrets, way)
        world.close()
        if not died:
            break
    assert step > 9


def _is_finished(world: World, secrets: VaultSecrets, way: str) -> None:
    """The same command again does the rest, and nothing is left where it should not be."""
    if way == "there":
        secrets.migrate(world.place(), silent)
        assert world.local() == []
        assert len(world.entries()) == len(world.store.query("SELECT 1 FROM vault_entries"))
    else:
        secrets.migrate_back(silent)
        assert not world.bao.entries(world.path)
        assert secrets.custody().vault is None
    assert world.open().get_many("") == FEW


def test_custody_tells_of_both_places_while_keys_move(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = world.open()
    for name, secret in KEYS.items():
        secrets.put(name, secret)
    monkeypatch.setattr(vault_secrets, "MOST", 4)

    def break_off(text: str) -> None:
        if "secret 5" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        secrets.migrate(world.place(), break_off)
    vault = secrets.custody().vault
    assert vault and (vault.inside, vault.outside, vault.keys_in) == (4, 3, "vault")
    assert world.open().get_many("") == KEYS
