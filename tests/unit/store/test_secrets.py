"""Secrets: nothing in clear on the disk, nothing opens that was altered, moved or sealed by another key."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resource_wireguard.errors import DamagedSecret, KeysUnavailable
from resource_wireguard.store.secrets import FileSecrets
from resource_wireguard.store.sqlite import SqliteStore

SECRET = bytes(range(100, 132))


@pytest.fixture
def key_path(path: Path) -> Path:
    return path.with_name("master.key")


@pytest.fixture
def secrets(store: SqliteStore, key_path: Path) -> FileSecrets:
    return FileSecrets(store, key_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(secret=st.binary(max_size=100))
def test_what_is_put_comes_back_the_same(secrets: FileSecrets, secret: bytes) -> None:
    secrets.put("tunnel/1/private", secret)
    assert secrets.get("tunnel/1/private") == secret


def test_nothing_lies_in_clear(secrets: FileSecrets, path: Path) -> None:
    secrets.put("tunnel/1/private", SECRET)
    for file in path.parent.iterdir():
        assert SECRET not in file.read_bytes()


def test_of_a_deleted_secret_not_even_the_sealed_bytes_are_left(
    secrets: FileSecrets, store: SqliteStore, path: Path
) -> None:
    for number in range(200):
        secrets.put(f"{number}", SECRET)
    (sealed,) = store.query("SELECT sealed FROM secrets WHERE name = '77'")[0]
    store.query("PRAGMA wal_checkpoint(TRUNCATE)")
    assert sealed in path.read_bytes()
    secrets.delete("77")
    store.query("PRAGMA wal_checkpoint(TRUNCATE)")
    assert sealed not in path.read_bytes()


def test_it_opens_again_with_the_same_key_file(secrets: FileSecrets, path: Path, key_path: Path) -> None:
    secrets.put("a", SECRET)
    assert FileSecrets(SqliteStore(path), key_path).get("a") == SECRET


def test_the_key_file_is_the_owners_alone(secrets: FileSecrets, key_path: Path) -> None:
    assert key_path.stat().st_mode & 0o777 == 0o600
    assert len(key_path.read_bytes()) == 32


def test_prefixes_end_at_a_slash(secrets: FileSecrets) -> None:
    for name in ("tunnel/1/private", "tunnel/1/peer/2/preshared", "tunnel/10/private"):
        secrets.put(name, name.encode())
    assert set(secrets.get_many("tunnel/1/")) == {"tunnel/1/private", "tunnel/1/peer/2/preshared"}
    secrets.delete("tunnel/1/")
    assert secrets.get("tunnel/1/private") is None
    assert secrets.get("tunnel/10/private") == b"tunnel/10/private"


def test_a_rolled_back_secret_is_gone(secrets: FileSecrets, store: SqliteStore) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction():
        secrets.put("a", SECRET)
        raise ZeroDivisionError
    assert secrets.get("a") is None


@pytest.mark.parametrize("place", [0, 1, 13, -1])
def test_an_altered_row_is_refused(secrets: FileSecrets, store: SqliteStore, place: int) -> None:
    secrets.put("a", SECRET)
    sealed = bytearray(store.query("SELECT sealed FROM secrets WHERE name = 'a'")[0][0])
    sealed[place] ^= 1
    store.execute("UPDATE secrets SET sealed = ? WHERE name = 'a'", bytes(sealed))
    with pytest.raises(DamagedSecret, match=r"secret 'a' .* altered"):
        secrets.get("a")


def test_a_row_cut_short_is_refused(secrets: FileSecrets, store: SqliteStore) -> None:
    secrets.put("a", SECRET)
    store.execute("UPDATE secrets SET sealed = substr(sealed, 1, 5) WHERE name = 'a'")
    with pytest.raises(DamagedSecret, match="altered"):
        secrets.get("a")


def test_a_row_moved_to_another_name_is_refused(secrets: FileSecrets, store: SqliteStore) -> None:
    secrets.put("peer/1", SECRET)
    store.execute("UPDATE secrets SET name = 'peer/2' WHERE name = 'peer/1'")
    with pytest.raises(DamagedSecret, match="altered"):
        secrets.get("peer/2")


def unavailable(path: Path, key_path: Path) -> KeysUnavailable:
    """Opening it again finds no key, says so, and opens nothing."""
    secrets = FileSecrets(SqliteStore(path), key_path)
    why = secrets.unavailable()
    assert why is not None and why.hint
    for refused in (lambda: secrets.put("a", SECRET), lambda: secrets.get("kept")):
        with pytest.raises(KeysUnavailable, match=re.escape(why.message)):
            refused()
    assert secrets.custody().unavailable == why.message
    return why


@pytest.fixture
def kept(secrets: FileSecrets) -> FileSecrets:
    secrets.put("kept", SECRET)
    return secrets


def test_a_missing_key_is_never_made_anew_over_secrets(kept: FileSecrets, path: Path, key_path: Path) -> None:
    key_path.unlink()
    assert "missing" in unavailable(path, key_path).message
    assert not key_path.exists()


def test_the_key_of_another_database_is_refused(kept: FileSecrets, path: Path, key_path: Path) -> None:
    key_path.write_bytes(b"\x05" * 32)
    assert "not the one that sealed" in unavailable(path, key_path).message


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(
    kept: FileSecrets, path: Path, key_path: Path, mode: int
) -> None:
    key_path.chmod(mode)
    assert unavailable(path, key_path).hint == f"chmod 600 {key_path}"


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_key_of_the_wrong_length_is_refused(
    kept: FileSecrets, path: Path, key_path: Path, content: bytes
) -> None:
    key_path.write_bytes(content)
    assert "32 bytes" in unavailable(path, key_path).message


def test_a_key_that_comes_back_is_found(kept: FileSecrets, path: Path, key_path: Path) -> None:
    away = key_path.rename(key_path.with_name("away"))
    secrets = FileSecrets(SqliteStore(path), key_path)
    secrets.recover()
    assert secrets.unavailable() is not None
    away.rename(key_path)
    secrets.recover()
    assert secrets.get("kept") == SECRET


def test_new_keys_are_clamped_and_never_the_same(secrets: FileSecrets) -> None:
    keys = [secrets.new_private_key() for _ in range(50)]
    assert len(set(keys)) == 50
    assert all(key[0] & 7 == 0 and key[31] & 192 == 64 for key in keys)
    assert len({secrets.new_preshared_key() for _ in range(50)}) == 50


def test_keys_do_not_show_in_errors_or_repr(secrets: FileSecrets, key_path: Path) -> None:
    assert key_path.read_bytes().hex() not in repr(secrets)
    assert "bytes" not in repr(secrets)
