"""The master key changes, moves and is killed in the middle of it; the secrets open all the same."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from resource_wireguard.errors import DamagedSecret, InvalidInput, KeysUnavailable, StoreError
from resource_wireguard.store import keyring, passphrase
from resource_wireguard.store.keyring import Keyring
from resource_wireguard.store.master import FileSource
from resource_wireguard.store.migrations import migrate
from resource_wireguard.store.seal import Cipher, Sealed, cipher_of, parse, seal, unseal
from resource_wireguard.store.secrets import FileSecrets
from resource_wireguard.store.sqlite import SqliteStore

SECRETS = {f"tunnel/{number}/private": bytes([number]) * 32 for number in range(1, 4)}
WORDS = b"correct horse battery"


def quiet(_: str) -> None:
    pass


@pytest.fixture(autouse=True)
def cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrase, "ARGON2ID", {**passphrase.ARGON2ID, "iterations": 1, "memory_kib": 64})


class Host:
    """A CONFIG_DIR and a folder of credentials; opening it is a start of the agent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "config"
        self.credentials = folder / "credentials"
        self.credentials.mkdir(parents=True)
        self.key = self.folder / "master.key"
        self.database = self.folder / "state.db"

    def open(self) -> FileSecrets:
        store = SqliteStore(self.database)
        migrate(store, [])
        return FileSecrets(store, self.key, self.credentials)

    def opened(self) -> FileSecrets:
        """As open(), with the passphrase if one is awaited."""
        secrets = self.open()
        if secrets.custody().source == "passphrase":
            secrets.unlock(bytearray(WORDS))
        return secrets

    def give_credential(self, name: str) -> None:
        (self.credentials / name).write_bytes(os.urandom(32))
        (self.credentials / name).chmod(0o400)

    def bytes_on_disk(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.folder.iterdir()))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    secrets = host.open()
    for name, secret in SECRETS.items():
        secrets.put(name, secret)
    return host


def rekey(secrets: FileSecrets, to: str | None = None) -> None:
    secrets.rekey(to, bytearray(WORDS) if to == "passphrase" else None, quiet)


def test_a_new_master_opens_all_and_the_old_one_nothing(host: Host) -> None:
    old, sealed = host.key.read_bytes(), host.open()._store.query("SELECT sealed FROM secrets")
    secrets = host.open()
    rekey(secrets)
    assert secrets.get_many("") == host.open().get_many("") == SECRETS
    assert not set(sealed) & set(secrets._store.query("SELECT sealed FROM secrets"))
    host.key.write_bytes(old)
    assert "not the one that sealed" in str(host.open().unavailable())
    assert list(host.folder.glob("master.key*")) == [host.key]


def test_neither_old_master_nor_old_data_key_is_left_on_the_disk(host: Host) -> None:
    old = host.key.read_bytes()
    secrets = host.open()
    (wrapped,) = secrets._store.query("SELECT wrapped FROM data_keys")[0]
    rekey(secrets)
    assert old not in host.bytes_on_disk()
    assert wrapped not in host.bytes_on_disk()


@pytest.mark.parametrize(
    "way",
    [
        ("file", "passphrase", "file"),
        ("credential", "passphrase", "credential"),
        ("passphrase", "passphrase"),
        ("credential", "file"),
    ],
)
def test_the_source_changes_and_the_old_one_is_forgotten(host: Host, way: tuple[str, ...]) -> None:
    host.give_credential("wireguard.master")
    for step in way:
        secrets = host.opened()
        rekey(secrets, step)
        assert secrets.get_many("") == host.opened().get_many("") == SECRETS
        assert host.open().custody().source == step
        assert host.key.exists() == (step == "file")


def test_progress_is_told(host: Host) -> None:
    told: list[str] = []
    host.open().rekey(None, None, told.append)
    assert told == ["sealing secret 1 of 3"]


def test_a_source_that_has_no_key_changes_nothing(host: Host) -> None:
    secrets, before = host.open(), host.bytes_on_disk()
    for to, words, what in (
        ("credential", None, "without a credential"),
        ("passphrase", None, "no passphrase"),
        ("passphrase", bytearray(b"short"), "less than 8"),
        ("passphrase", bytearray(b"\xff" * 9), "UTF-8"),
    ):
        with pytest.raises(InvalidInput, match=what):
            secrets.rekey(to, words, quiet)
    assert secrets.get_many("") == SECRETS
    assert host.bytes_on_disk() == before


def test_a_damaged_secret_stays_what_it_is_and_hinders_no_other(host: Host) -> None:
    secrets = host.open()
    secrets._store.execute("UPDATE secrets SET sealed = substr(sealed, 1, 40) WHERE name LIKE '%2%'")
    rekey(secrets)
    with pytest.raises(DamagedSecret, match=r"'tunnel/2/private' .* altered"):
        secrets.get("tunnel/2/private")
    assert secrets.get("tunnel/3/private") == SECRETS["tunnel/3/private"]


# Killed at every step ---------------------------------------------------------------------------


def lines_in_store(limit: int) -> Callable[[FrameType, str, Any], Any]:
    """A tracer (sys.settrace) that kills the process at the so-manieth line of keyring.py and master.py."""
    left = limit

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(("store/keyring.py", "store/master.py")):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def killed_at(line: int, work: Callable[[], object]) -> bool:
    """Do it in a child that dies at a line; False if it came to its end."""
    child = os.fork()
    if child == 0:
        sys.settrace(lines_in_store(line))
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("to", ["file", "passphrase", "credential"])
def test_killed_at_any_step_all_is_old_or_all_is_new(host: Host, to: str) -> None:
    for name in ("wireguard.master", "wireguard.master.next"):
        host.give_credential(name)
    line = 0
    while True:
        line += 1
        if not killed_at(line, lambda: rekey(host.opened(), to)):
            break
        secrets = host.opened()
        assert secrets.get_many("") == SECRETS, f"killed at line {line}"
        kept = {path.name for path in host.folder.glob("master.key*")}
        assert kept == ({"master.key"} if secrets.custody().source == "file" else set()), f"at line {line}"
        secrets._store.close()
    assert line > 60
    assert host.opened().custody().source == to


@pytest.mark.parametrize("first", [True, False])
def test_killed_at_any_step_of_the_first_start_it_starts(tmp_path: Path, first: bool) -> None:
    line = 0
    while True:
        line += 1
        host = Host(tmp_path / f"{line}")
        if not first:
            format_1(host)
        if not killed_at(line, host.open):
            break
        assert host.open().unavailable() is None
        assert host.open().get_many("") == ({} if first else SECRETS)
    assert line > 20


# Format 1 ---------------------------------------------------------------------------------------


def format_1(host: Host) -> None:
    """A database as it was when the key file sealed each secret itself."""
    store = SqliteStore(host.database)
    migrate(store, [])
    host.key.write_bytes(b"m" * 32)
    host.key.chmod(0o600)
    for name, secret in {**SECRETS, "proof": b""}.items():
        nonce = os.urandom(12)
        sealed = b"\x01" + nonce + ChaCha20Poly1305(b"m" * 32).encrypt(nonce, secret, name.encode())
        store.execute("INSERT INTO secrets VALUES (?, ?)", name, sealed)
    store.close()


@pytest.fixture
def old(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    format_1(host)
    return host


def test_format_1_is_taken_over(old: Host) -> None:
    assert old.open().get_many("") == SECRETS
    assert {sealed[0] for (sealed,) in old.open()._store.query("SELECT sealed FROM secrets")} == {2}
    assert old.key.read_bytes() == b"m" * 32


def test_format_1_waits_for_its_key(old: Host) -> None:
    away = old.key.rename(old.key.with_name("away"))
    secrets = old.open()
    assert "missing" in str(secrets.unavailable())
    old.key.write_bytes(b"x" * 32)
    old.key.chmod(0o600)
    secrets.recover()
    assert "not the one that sealed" in str(secrets.unavailable())
    away.rename(old.key)
    secrets.recover()
    assert secrets.get_many("") == SECRETS


def test_a_damaged_secret_of_format_1_does_not_hinder_the_others(old: Host) -> None:
    store = SqliteStore(old.database)
    store.execute("UPDATE secrets SET sealed = x'01' WHERE name = 'tunnel/2/private'")
    secrets = old.open()
    with pytest.raises(DamagedSecret, match="tunnel/2/private"):
        secrets.get("tunnel/2/private")
    assert secrets.get("tunnel/1/private") == SECRETS["tunnel/1/private"]


# Credentials ------------------------------------------------------------------------------------


def test_a_new_host_with_a_credential_begins_with_it(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.give_credential("wireguard.master")
    assert host.open().custody().source == "credential"
    assert not host.key.exists()


def test_a_second_credential_takes_over_and_the_first_can_go(host: Host) -> None:
    host.give_credential("wireguard.master")
    rekey(host.open(), "credential")
    with pytest.raises(InvalidInput, match="second credential"):
        rekey(host.open())
    host.give_credential("wireguard.master.2026")
    rekey(host.open())
    (host.credentials / "wireguard.master").unlink()
    assert host.open().get_many("") == SECRETS


def test_a_missing_credential_is_named(host: Host) -> None:
    host.give_credential("wireguard.master")
    rekey(host.open(), "credential")
    (host.credentials / "wireguard.master").unlink()
    why = host.open().unavailable()
    assert why is not None
    assert "wireguard.master" in why.message
    assert "LoadCredential" in why.hint


# Passphrases ------------------------------------------------------------------------------------


class Wall:
    """A clock on the wall, in Unix seconds."""

    def __init__(self) -> None:
        self.time_now = 1_800_000_000.0

    def time(self) -> float:
        return self.time_now


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    wall = Wall()
    monkeypatch.setattr(keyring, "time", wall)
    return wall


@pytest.fixture
def locked(host: Host, wall: Wall) -> Iterator[Host]:
    rekey(host.open(), "passphrase")
    yield host


def refused(secrets: FileSecrets, words: bytes) -> InvalidInput:
    offered = bytearray(words)
    with pytest.raises(InvalidInput) as refusal:
        secrets.unlock(offered)
    assert not any(offered), "erased, whatever became of it"
    return refusal.value


def test_a_locked_host_says_so_and_opens_with_the_passphrase(locked: Host) -> None:
    secrets = locked.open()
    with pytest.raises(KeysUnavailable, match="locked"):
        secrets.get("tunnel/1/private")
    assert "keys unlock" in secrets.custody().hint
    secrets.unlock(bytearray(WORDS))
    assert secrets.get_many("") == SECRETS


def test_one_passphrase_is_the_same_on_every_keyboard(host: Host) -> None:
    host.open().rekey("passphrase", bytearray("Ångström-Straße".encode()), quiet)
    secrets = host.open()
    secrets.unlock(bytearray("A\u030angstro\u0308m-Straße".encode()))
    assert secrets.get_many("") == SECRETS


def test_the_wait_grows_outlives_restarts_and_ends(locked: Host, wall: Wall) -> None:
    waits = []
    for _ in range(12):
        hint = refused(locked.open(), b"wrong wrong").hint
        waits.append(int(re.findall(r"(\d+) s", hint)[0]))
        assert "wrong passphrases" in refused(locked.open(), WORDS).message, "not even the right one is tried"
        wall.time_now += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    locked.open().unlock(bytearray(WORDS))
    assert refused(locked.open(), b"wrong wrong").hint.endswith("in 1 s")


def test_an_attempt_that_was_killed_counts(locked: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()

    def die(*_: object) -> None:
        assert os.getpid() != parent, "the next one was tried"
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(passphrase, "_derive", die)
    assert killed_at(0, lambda: locked.open().unlock(bytearray(WORDS)))
    assert "wrong passphrases" in refused(locked.open(), WORDS).message


def test_a_clock_that_was_set_back_does_not_lock_for_ever(locked: Host, wall: Wall) -> None:
    refused(locked.open(), b"wrong wrong")
    wall.time_now -= 86_400
    assert "in 1 s" in refused(locked.open(), WORDS).message


def test_a_host_without_passphrase_cannot_be_unlocked(host: Host) -> None:
    assert "not locked with a passphrase" in refused(host.open(), WORDS).message


def test_absurd_parameters_are_not_tried(locked: Host) -> None:
    store = SqliteStore(locked.database)
    store.execute("UPDATE master SET parameters = json_set(parameters, '$.memory_kib', 1 << 40)")
    with pytest.raises(KeysUnavailable, match="absurd"):
        locked.open().unlock(bytearray(WORDS))


# Memory -----------------------------------------------------------------------------------------


class Known(FileSource):
    """Keeps hold of the very bytes that it gave out."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.given: list[bytearray] = []

    def find(self, parameters: Any) -> Iterator[bytearray]:
        for key in super().find(parameters):
            self.given.append(key)
            yield key

    def make(self, parameters: Any) -> tuple[bytearray, dict[str, Any]]:
        key, found = super().make(parameters)
        self.given.append(key)
        return key, found


def test_master_and_old_data_keys_are_erased(host: Host) -> None:
    known = Known(host.key)
    ring = Keyring(SqliteStore(host.database), [known])
    ring.open()
    held = list(ring._keys.values())
    assert any(held[0])
    ring.install("file", lambda: ring._store.execute("DELETE FROM secrets") and None)
    assert [any(key) for key in (*known.given, *held)] == [False, False, False]
    assert any(next(iter(ring._keys.values())))


@pytest.mark.parametrize("why", [StoreError("the disk is full", ""), KeyboardInterrupt()])
def test_a_change_of_the_master_that_breaks_off_leaves_the_old_one(host: Host, why: BaseException) -> None:
    known = Known(host.key)
    ring = Keyring(SqliteStore(host.database), [known])
    ring.open()
    before, begun = dict(ring._keys), list[bytearray]()

    def break_off() -> None:
        begun.extend(key for number, key in ring._keys.items() if number not in before)
        raise why

    with pytest.raises(type(why)):
        ring.install("file", break_off)
    assert (ring._keys, ring.sealing()[0]) == (before, max(before))
    assert [any(key) for key in (*known.given, *begun)] == [False, False, False]
    assert list(host.folder.glob("master.key*")) == [host.key]
    assert host.open().get_many("") == SECRETS


def test_the_passphrase_is_erased(host: Host) -> None:
    words = bytearray(WORDS)
    host.open().rekey("passphrase", words, quiet)
    assert not any(words)
    words[:] = WORDS
    host.open().unlock(words)
    assert not any(words)


def test_nothing_prints_a_key(host: Host) -> None:
    secrets = host.open()
    assert repr(secrets._keyring) == f"Keyring({host.database})"


# The sealed format ------------------------------------------------------------------------------


def opens(cipher: Cipher, sealed: bytes, name: str) -> bool:
    try:
        unseal(cipher, parse(sealed), name)
    except ValueError:
        return False
    return True


@given(st.binary(max_size=80))
def test_any_bytes_are_parsed_or_refused(sealed: bytes) -> None:
    try:
        parts = parse(sealed)
    except ValueError:
        return
    assert isinstance(parts, Sealed)
    assert len(parts.nonce) == 12
    assert not opens(cipher_of(bytearray(32)), sealed, "name")


@given(st.data(), st.binary(max_size=64), st.integers(1, 2**32 - 1), st.text(max_size=20))
def test_no_change_of_a_bit_name_or_number_opens(
    data: st.DataObject, secret: bytes, number: int, name: str
) -> None:
    cipher = cipher_of(bytearray(b"k" * 32))
    sealed = seal(cipher, number, name, secret)
    assert parse(sealed).key == number
    assert unseal(cipher, parse(sealed), name) == secret
    altered = bytearray(sealed)
    altered[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    assert not opens(cipher, bytes(altered), name)
    assert not opens(cipher, sealed, f"{name}/")
    assert not opens(cipher, sealed[: data.draw(st.integers(0, len(sealed) - 1))], name)
