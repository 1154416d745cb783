"""A back-up brings tunnels and keys to another host; or it is refused, and nothing changes."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.engine.test_history import House

from resource_wireguard.engine import archive
from resource_wireguard.engine.archive import seal, unseal
from resource_wireguard.engine.backup import Contents, Create, Created, Restore
from resource_wireguard.errors import ConflictError, InvalidInput
from resource_wireguard.host.facts import Survey
from resource_wireguard.host.state import Link

PASSPHRASE = "correct horse"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LOG2_N", 4)


@pytest.fixture
def old(tmp_path: Path) -> House:
    (tmp_path / "old").mkdir()
    house = House(tmp_path / "old")
    house("tunnel.create", name="home", exit=True)
    house("peer.add", tunnel="home", name="phone")
    house("peer.add", tunnel="home", name="tv", preshared_key="none", keep_key=False)
    house("tunnel.create", name="work", activate=False)
    return house


@pytest.fixture
def new(tmp_path: Path) -> House:
    (tmp_path / "new").mkdir()
    return House(tmp_path / "new")


def backup_of(house: House) -> str:
    made: str = house("backup.create", passphrase=PASSPHRASE)["archive"]
    return made


def restored(house: House, made: str, **more: Any) -> Any:
    return house("backup.restore", archive=made, passphrase=PASSPHRASE, **more)


def test_a_new_host_gets_the_same_keys_and_addresses_and_its_tunnels_up(old: House, new: House) -> None:
    answer = restored(new, backup_of(old))
    assert answer["tunnels"] == ["home", "work"]
    assert answer["drift"] == [] and answer["problems"] == []
    assert new.engine.specs().tunnels == old.engine.specs().tunnels
    assert new.kernel() == old.kernel()
    held = "peer.config", {"tunnel": "home", "name": "phone"}
    assert new(held[0], **held[1]) == old(held[0], **held[1]), "the phone's own key came along"
    new("peer.add", tunnel="home", name="laptop")


def test_keys_are_sealed_anew_under_the_new_hosts_master_key(old: House, new: House) -> None:
    restored(new, backup_of(old))
    sealed = [dict(house.store.query("SELECT name, sealed FROM secrets")) for house in (old, new)]
    assert sealed[0].keys() == sealed[1].keys()
    assert not set(sealed[0].values()) & set(sealed[1].values())
    new.start()
    assert new.engine.specs().tunnels == old.engine.specs().tunnels


def test_a_dry_run_tells_all_and_changes_nothing(old: House, new: House) -> None:
    said = restored(new, backup_of(old), dry_run=True)
    assert "create interface wg-home: kernel, mtu 1420, up" in said["actions"]
    assert new.engine.specs().tunnels == () and new.kernel().of(Link) == {}
    assert new.rows()["tunnels"] == []


def test_what_is_here_is_replaced_only_by_force_and_undo_brings_it_back(old: House, new: House) -> None:
    made = backup_of(old)
    new("tunnel.create", name="mine")
    rows, kernel = new.rows(), new.kernel()
    with pytest.raises(ConflictError, match="has tunnels already: mine"):
        restored(new, made)
    assert new.rows() == rows
    restored(new, made, force=True)
    assert [tunnel.name for tunnel in new.engine.specs().tunnels] == ["home", "work"]
    assert set(new.kernel().of(Link)) == {"wg-home"}
    new("undo")
    assert new.rows() == rows
    assert new.kernel() == kernel


def test_a_back_up_goes_back_over_what_it_was_made_of(old: House) -> None:
    specs, kernel = old.engine.specs().tunnels, old.kernel()
    answer = restored(old, backup_of(old), force=True)
    assert answer["actions"] == [], "no session is touched"
    assert old.engine.specs().tunnels == specs
    assert old.kernel() == kernel


def test_interfaces_and_ports_of_others_are_named_and_nothing_is_half_done(
    old: House, new: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backup_of(old)
    survey = Survey(udp_ports=frozenset({51820}), interfaces=frozenset({"wg-work"}))
    monkeypatch.setattr(new.host, "survey", lambda: survey)
    with pytest.raises(ConflictError) as refused:
        restored(new, made)
    assert "UDP port 51820 of tunnel 'home'" in refused.value.message
    assert "interface wg-work of tunnel 'work'" in refused.value.message
    assert new.engine.specs().tunnels == ()
    assert new.store.query("SELECT count(*) FROM secrets") == [(0,)]


def altered(made: str, **changes: Any) -> str:
    body = msgspec.msgpack.decode(unseal(msgspec.convert(made, bytes), PASSPHRASE))
    return msgspec.to_builtins(seal(msgspec.msgpack.encode(body | changes), PASSPHRASE))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"migrations": {"tunnel": 99}}, "newer version .*'tunnel' is at 99"),
        ({"migrations": {"mesh": 1}}, "newer version .*'mesh' is at 1, here at 0"),
        ({"tables": {"meshes": {"columns": ["id"], "rows": [[1]]}}}, "a table 'meshes'"),
        ({"tables": {"tunnels": {"columns": ["colour"], "rows": []}}}, "a table 'tunnels'"),
        ({"tables": {"settings": {"columns": ["name"], "rows": []}}}, "a table 'settings'"),
        ({"more": 1}, "not understood"),
        ({"made_at": "today"}, "not understood"),
    ],
)
def test_a_back_up_of_another_version_is_refused_whole(
    old: House, new: House, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        restored(new, altered(backup_of(old), **changes))
    assert new.engine.specs().tunnels == ()


def test_an_older_back_up_fits_where_columns_came_later(old: House, new: House) -> None:
    made = backup_of(old)
    new.store.execute("ALTER TABLE tunnels ADD COLUMN colour TEXT NOT NULL DEFAULT 'none'")
    new.start()
    restored(new, made)
    assert new.store.query("SELECT DISTINCT colour FROM tunnels") == [("none",)]
    assert new.engine.specs().tunnels == old.engine.specs().tunnels


def test_a_short_passphrase_is_refused(old: House) -> None:
    with pytest.raises(InvalidInput, match="less than 8 characters") as refused:
        old("backup.create", passphrase="hunter2")
    assert "hunter2" not in str(refused.value)


def test_none_of_it_prints_its_secrets(old: House) -> None:
    contents = Contents("1", 0.0, {}, {}, {"tunnel/1/private": b"KEY"}, {})
    shown = (Create(PASSPHRASE), Restore(b"KEY", PASSPHRASE), Created(b"KEY", 1, 1), contents)
    assert not [text for text in map(repr, shown) if "KEY" in text or "horse" in text]
    backup_of(old)
    assert "horse" not in str(old("journal"))
