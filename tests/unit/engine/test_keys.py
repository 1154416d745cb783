"""Engines whose keys are away, come back, or change under what can be taken back."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.worlds import StoppedClock

from resource_wireguard.engine.commands import feature as own_commands
from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Resources
from resource_wireguard.errors import DamagedSecret, KeysUnavailable
from resource_wireguard.features.keys import feature as keys_feature
from resource_wireguard.features.tunnel import feature as tunnel_feature
from resource_wireguard.host.state import Address, Device, Link, Peer
from resource_wireguard.model.settings import Settings
from resource_wireguard.store.migrations import migrate
from resource_wireguard.store.secrets import FileSecrets
from resource_wireguard.store.sqlite import SqliteStore
from resource_wireguard.system.fake import FakeHost


class Life:
    """An agent's engine on a CONFIG_DIR, and its next one."""

    def __init__(self, folder: Path) -> None:
        self.key = folder / "master.key"
        self.host = FakeHost()
        self._folder = folder
        self.begin()

    def begin(self) -> None:
        self.store = SqliteStore(self._folder / "state.db")
        features = [own_commands(), tunnel_feature(), keys_feature()]
        migrate(self.store, features)
        secrets = FileSecrets(self.store, self.key)
        resources = Resources(self.store, secrets, self.host, StoppedClock(), Settings())
        self.engine = Engine(resources, features)
        self.engine.settle("start")

    def call(self, command: str, /, **request: Any) -> Any:
        known = self.engine.commands[command]
        answer = known.run(self.engine, msgspec.convert(request, known.request))
        return msgspec.json.decode(msgspec.json.encode(answer))

    def without_key(self) -> Callable[[], object]:
        """The next engine finds no master key; what puts it back."""
        away = self.key.rename(self.key.with_name("away"))
        self.store.close()
        self.begin()
        return lambda: away.rename(self.key)

    def seen(self, kind: type) -> Any:
        return self.host.observe().state.of(kind)

    def damage(self, name: str) -> None:
        self.store.execute("UPDATE secrets SET sealed = x'02' WHERE name = ?", name)
        self.store.close()
        self.begin()


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    life = Life(tmp_path)
    life.call("tunnel.create", name="home")
    life.call("peer.add", tunnel="home", name="phone")
    yield life
    life.store.close()


def test_without_keys_nothing_that_runs_is_touched(life: Life) -> None:
    before = life.host.observe().state
    life.without_key()
    report = life.engine.settle()
    assert (report.done, report.drift, report.problems) == ((), (), ())
    assert life.host.observe().state == before


def test_without_keys_drift_is_repaired(life: Life) -> None:
    life.without_key()
    (address,) = [a for a in life.seen(Address).values() if ":" not in a.address]
    life.host.tamper(gone=address)
    life.engine.settle()
    assert address in life.seen(Address).values()


def test_without_keys_what_needs_one_is_refused_and_nothing_is_kept(life: Life) -> None:
    life.without_key()
    for command, request in (
        ("tunnel.create", {"name": "work"}),
        ("peer.add", {"tunnel": "home", "name": "tablet"}),
        ("peer.config", {"tunnel": "home", "name": "phone"}),
        ("backup.create", {"passphrase": "long enough"}),
        ("keys.rekey", {}),
    ):
        with pytest.raises(KeysUnavailable, match="missing"):
            life.call(command, **request)
    assert [tunnel["name"] for tunnel in life.call("tunnel.list")] == ["home"]
    assert [peer["name"] for peer in life.call("peer.list", tunnel="home")] == ["phone"]


def test_without_keys_a_peer_can_be_shut_out_but_not_let_in_without_its_preshared_key(life: Life) -> None:
    life.without_key()
    life.call("peer.disable", tunnel="home", name="phone")
    assert life.seen(Peer) == {}
    with pytest.raises(KeysUnavailable, match="missing"):
        life.call("peer.enable", tunnel="home", name="phone")
    assert life.seen(Peer) == {}, "never without the preshared key that it should have"


def test_without_keys_a_link_of_another_key_is_left_alone(life: Life) -> None:
    life.without_key()
    (device,) = life.seen(Device).values()
    foreign = msgspec.structs.replace(device, private_key=type(device.private_key)(b"\x40" * 32))
    life.host.tamper(there=foreign)
    report = life.engine.settle()
    assert report.done == ()
    assert [(problem.interface, problem.hint) for problem in report.problems] == [
        (device.interface, "put back the key file that belongs to this database")
    ]
    assert life.seen(Device)[device.key] == foreign


def test_keys_that_come_back_are_found_by_the_next_pass(life: Life) -> None:
    put_back = life.without_key()
    (peer,) = life.seen(Peer).values()
    life.host.tamper(gone=peer)
    assert life.engine.settle().problems
    put_back()
    report = life.engine.settle()
    assert (report.drift, report.problems) == ((), ())
    assert len(life.seen(Peer)) == 1
    life.call("peer.add", tunnel="home", name="tablet")


def test_what_is_in_memory_serves_on_when_keys_go_away(life: Life) -> None:
    """As with a Vault that is sealed in the middle of a life."""
    secrets = life.engine.resources.secrets
    secrets._keyring.why = KeysUnavailable("sealed", "unseal it")  # type: ignore[attr-defined]
    (link,) = life.seen(Link).values()
    life.host.tamper(gone=link)
    life.call("peer.remove", tunnel="home", name="phone")
    assert life.seen(Link) == {link.name: link}, "made anew with the key in memory"


def test_a_damaged_key_is_its_tunnels_trouble_alone(life: Life) -> None:
    life.call("tunnel.create", name="work")
    life.damage("tunnel/1/private")
    assert life.engine.settle().problems == ()
    with pytest.raises(DamagedSecret, match="tunnel/1/private"):
        life.call("tunnel.config", name="home", show_secrets=True)
    life.call("peer.add", tunnel="work", name="laptop")
    life.call("tunnel.change", name="home", mtu=1300)
    with pytest.raises(DamagedSecret, match="tunnel/1/private"):
        life.call("backup.create", passphrase="long enough")
    life.host.tamper(gone=life.seen(Link)["wg-home"])
    problems = life.engine.settle().problems
    assert [problem.interface for problem in problems] == ["wg-home"]
    assert set(life.seen(Link)) == {"wg-work"}


def test_what_was_deleted_before_a_new_master_is_brought_back_after_it(life: Life) -> None:
    before = life.call("tunnel.config", name="home", show_secrets=True)["config"]
    life.call("tunnel.delete", name="home")
    for _ in range(2):
        life.call("keys.rekey")
    life.call("undo")
    assert life.call("tunnel.config", name="home", show_secrets=True)["config"] == before
    life.store.close()
    life.begin()
    assert life.call("tunnel.config", name="home", show_secrets=True)["config"] == before


def test_an_old_data_key_goes_when_nothing_needs_it_any_more(life: Life) -> None:
    life.call("tunnel.delete", name="home")
    life.call("keys.rekey")
    assert life.store.query("SELECT count(*) FROM data_keys") == [(2,)]
    life.store.execute("DELETE FROM changes")
    life.call("keys.rekey")
    assert life.store.query("SELECT count(*) FROM data_keys") == [(1,)]


def test_a_back_up_from_before_a_new_master_is_restored_after_it(life: Life) -> None:
    before = life.call("tunnel.config", name="home", show_secrets=True)["config"]
    made = life.call("backup.create", passphrase="long enough")
    life.call("keys.rekey")
    life.call("backup.restore", archive=made["archive"], passphrase="long enough", force=True)
    assert life.call("tunnel.config", name="home", show_secrets=True)["config"] == before
    assert life.call("keys.status")["source"] == "file"


def test_the_journal_says_that_the_master_changed(life: Life) -> None:
    life.call("keys.rekey")
    assert "master key changed (file): 3 secrets sealed anew" in [
        text for _, _, _, text, _ in life.engine.journal_lines(None, None)
    ]


def test_requests_print_without_their_passphrase(life: Life) -> None:
    for command in ("keys.unlock", "keys.rekey"):
        request = msgspec.convert({"passphrase": "hush hush"}, life.engine.commands[command].request)
        assert "hush" not in repr(request)
