"""Changes of keys that lie in a Vault: all or nothing, taken back, tidied up, and never of others."""

import json
import socket
import time

import pytest
from tests.vault.server import Bao
from tests.vault.worlds import World, silent

from resource_wireguard.engine.history import KEPT
from resource_wireguard.errors import DamagedSecret, KeysUnavailable
from resource_wireguard.store import vault_secrets


def test_a_change_is_one_entry(world: World) -> None:
    secrets = world.migrated(a=b"1")
    with world.change():
        for name in ("b", "c", "d"):
            secrets.put(name, name.encode())
    assert len(world.entries()) == 2
    assert world.open().get_many("") == {"a": b"1", "b": b"b", "c": b"c", "d": b"d"}


def test_a_change_that_is_rolled_back_never_reaches_the_vault(world: World) -> None:
    secrets = world.migrated(a=b"1")
    with pytest.raises(ZeroDivisionError), world.change():
        secrets.put("a", b"2")
        secrets.put("b", b"2")
        assert secrets.get("a") == b"2"
        raise ZeroDivisionError
    assert len(world.entries()) == 1
    assert secrets.get_many("") == {"a": b"1"}
    with world.change():
        secrets.put("b", b"3")
    assert world.open().get_many("") == {"a": b"1", "b": b"3"}


def test_an_inner_change_that_is_rolled_back_leaves_what_was_put_before(world: World) -> None:
    secrets = world.migrated(a=b"1")
    with world.change():
        secrets.put("a", b"2")
        with pytest.raises(ZeroDivisionError), world.store.transaction():
            secrets.put("a", b"3")
            raise ZeroDivisionError
    assert secrets.get("a") == world.open().get("a") == b"2"


def test_a_change_that_the_vault_does_not_take_is_none(world: World, bao: Bao) -> None:
    secrets = world.migrated(a=b"1")
    bao.seal()
    with pytest.raises(KeysUnavailable, match="is sealed"), world.change():
        secrets.put("a", b"2")
        world.store.execute("INSERT INTO settings (name, value) VALUES ('x', 'y')")
    assert world.store.query("SELECT 1 FROM settings") == []
    assert secrets.get("a") == b"1"  # known from before
    with world.change():
        secrets.put("a", b"1")  # nothing new: no reason to ask
    bao.unseal()
    assert world.open().get("a") == b"1"


def test_what_is_taken_back_was_never_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_secrets, "TIDY_EVERY", 0.0)
    secrets = world.migrated(**{"a/private": b"1"})
    with world.change():
        secrets.put("a/private", b"2")
    with world.change():
        secrets.delete("a/")
    secrets.recover()
    world.undo()
    assert world.open().get("a/private") == b"2"


def test_entries_go_when_nothing_can_bring_them_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_secrets, "TIDY_EVERY", 0.0)
    secrets = world.migrated(a=b"0")
    first = world.entries()
    for number in range(KEPT + 5):
        with world.change():
            secrets.put("a", b"%d" % number)
        secrets.recover()
    assert not set(first) & set(world.entries())
    assert len(world.entries()) <= KEPT + 2
    assert world.open().get("a") == b"%d" % (KEPT + 4)


def test_many_small_entries_are_put_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_secrets, "TIDY_EVERY", 0.0)
    monkeypatch.setattr(vault_secrets, "ENTRIES_MOST", 8)
    secrets = world.migrated()
    for number in range(12):
        secrets.put(f"tunnel/{number}", bytes([number]))
        secrets.recover()
    secrets.recover()
    assert len(world.entries()) <= 5
    assert world.open().get_many("") == {f"tunnel/{number}": bytes([number]) for number in range(12)}


def test_a_new_master_key_here_leaves_what_is_in_the_vault(world: World) -> None:
    secrets = world.migrated(a=b"1")
    secrets.rekey(None, None, silent)
    assert world.local() == []
    assert world.open().get("a") == b"1"


def test_everything_replaced_in_one_change_as_a_restored_back_up_does(world: World) -> None:
    secrets = world.migrated(**{f"old/{number}": b"old" for number in range(5)})
    with world.change():
        secrets.delete("")
        for number in range(5):
            secrets.put(f"new/{number}", b"new")
    assert set(world.open().get_many("")) == {f"new/{number}" for number in range(5)}
    secrets = world.open()
    world.undo()
    assert secrets.get_many("") == {f"old/{number}": b"old" for number in range(5)}


def _only_entry(world: World) -> str:
    (name,) = world.entries()
    return f"{world.path}/keys/{name}"


def _cut_short(world: World, bao: Bao, path: str) -> None:
    """Put another entry in its place, as somebody who means well might: the secret is cut short."""
    entry = bao.entry(path)
    held = json.loads(entry["secrets"])
    held["a"] = held["a"][:8]
    bao.call("DELETE", f"secret/metadata/{path}")
    bao.write(path, {**entry, "secrets": json.dumps(held)})


def test_a_secret_cut_short_is_refused_and_nothing_is_lost(world: World, bao: Bao) -> None:
    world.migrated(a=b"x" * 32)
    path = _only_entry(world)
    before = bao.entry(path)
    _cut_short(world, bao, path)
    secrets = world.open()
    with pytest.raises(DamagedSecret, match="altered or cut short"):
        secrets.get("a")
    assert secrets.unavailable() is None  # the others would do
    secrets.put("b", b"whole")
    assert secrets.get("b") == b"whole"
    secrets.migrate_back(silent)
    assert world.bao.entries(f"{world.path}/keys")  # what cannot be read is not removed either
    bao.call("DELETE", f"secret/metadata/{path}")
    bao.write(path, before)
    secrets = world.open()
    assert secrets.get("a") == b"x" * 32
    secrets.migrate_back(silent)
    assert not world.entries()


def test_what_is_written_over_an_entry_counts_for_nothing(world: World, bao: Bao) -> None:
    world.migrated(a=b"x" * 32)
    bao.write(_only_entry(world), {"secrets": "{}"})
    assert world.open().get("a") == b"x" * 32


def test_an_entry_that_is_gone_is_told_of(world: World, bao: Bao) -> None:
    world.migrated(a=b"1")
    bao.call("DELETE", f"secret/metadata/{_only_entry(world)}")
    with pytest.raises(DamagedSecret, match="is gone"):
        world.open().get("a")


def test_one_that_does_not_answer_is_asked_once_for_all(world: World, bao: Bao) -> None:
    names = [f"tunnel/{number}" for number in range(20)]
    world.migrated(**dict.fromkeys(names, b"1"))
    with socket.create_server(("127.0.0.1", 0)) as silent_server:
        elsewhere = f"https://127.0.0.1:{silent_server.getsockname()[1]}"
        world.store.execute("UPDATE vault SET place = replace(place, ?, ?)", bao.address, elsewhere)
        began = time.monotonic()
        secrets = world.open()
        for name in names:
            with pytest.raises(KeysUnavailable, match="does not answer"):
                secrets.get(name)
        assert time.monotonic() - began < 10


def test_no_key_is_in_the_files_of_the_host(world: World) -> None:
    key = bytes(range(7, 39))
    secrets = world.migrated()
    with world.change():
        secrets.put("a", key)
    content = world.files()
    assert key not in content
    assert key.hex().encode() not in content.lower()
