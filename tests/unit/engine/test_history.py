"""Every change of specs can be taken back: by undo, or by itself where nobody confirms it in time."""

from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.worlds import StoppedClock

from resource_wireguard.engine.commands import feature as own_commands
from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Resources
from resource_wireguard.engine.history import KEPT, Change, History
from resource_wireguard.errors import AlreadyExists, ConflictError, NotFound
from resource_wireguard.features.tunnel import feature
from resource_wireguard.host.state import Address, Device, Link, Peer
from resource_wireguard.model.settings import Settings
from resource_wireguard.store.migrations import migrate
from resource_wireguard.store.secrets import FileSecrets
from resource_wireguard.store.sqlite import SqliteStore
from resource_wireguard.system.fake import FakeHost

FEATURES = [own_commands(), feature()]


class House:
    """A CONFIG_DIR, a host and a clock, on which agents live and die."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.host = FakeHost()
        self.clock = StoppedClock()
        self.start()

    def start(self) -> None:
        """A new life of the agent's engine, over the same database and the same kernel."""
        self.store = SqliteStore(self.directory / "state.db")
        migrate(self.store, FEATURES)
        secrets = FileSecrets(self.store, self.directory / "master.key")
        self.engine = Engine(Resources(self.store, secrets, self.host, self.clock, Settings()), FEATURES)

    def __call__(self, command: str, /, **request: Any) -> Any:
        known = self.engine.commands[command]
        answer = known.run(self.engine, msgspec.convert(request, known.request))
        return msgspec.json.decode(msgspec.json.encode(answer))

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """All that the user said, with the sealed keys."""
        tables = {"tunnels": "id", "peers": "id", "secrets": "name"}
        return {
            name: self.store.query(f"SELECT * FROM {name} ORDER BY {key}") for name, key in tables.items()
        }

    def kernel(self) -> Any:
        return self.host.observe().state


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.store.close()


CHANGES: dict[str, Callable[[House], Any]] = {
    "create": lambda house: house("tunnel.create", name="work"),
    "change": lambda house: house("tunnel.change", name="home", port=51900, mtu=1300),
    "deactivate": lambda house: house("tunnel.deactivate", name="home"),
    "delete": lambda house: house("tunnel.delete", name="home"),
    "add": lambda house: house("peer.add", tunnel="home", name="laptop"),
    "disable": lambda house: house("peer.disable", tunnel="home", name="phone"),
    "remove": lambda house: house("peer.remove", tunnel="home", name="phone"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_undo_puts_back_every_row_and_what_the_kernel_shows(
    house: House, change: Callable[[House], Any]
) -> None:
    house("tunnel.create", name="home")
    house("peer.add", tunnel="home", name="phone")
    rows, kernel = house.rows(), house.kernel()
    change(house)
    changed_rows, changed_kernel = house.rows(), house.kernel()
    assert changed_rows != rows
    undone = house("undo")
    assert house.rows() == rows
    assert house.kernel() == kernel
    assert undone["drift"] == [] and undone["change"]
    house("undo")
    assert house.rows() == changed_rows
    assert house.kernel() == changed_kernel


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=5))
def test_any_row_of_changes_is_taken_back_at_once(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    house = House(tmp_path_factory.mktemp("house"))
    house("tunnel.create", name="home")
    house("peer.add", tunnel="home", name="phone")
    before = house.rows()
    first = house.engine.history.last().id + 1
    for name in names:
        with suppress(NotFound, AlreadyExists):  # such as deleting twice: then it changed nothing
            CHANGES[name](house)
    for columns in house.store.query("SELECT id, at, actor, text FROM changes WHERE id = ?", first):
        house.engine.take_back(Change(*columns), "all")
    assert house.rows() == before
    house.store.close()


def test_undo_says_what_it_would_do_and_does_nothing(house: House) -> None:
    house("tunnel.create", name="home")
    rows, kernel = house.rows(), house.kernel()
    said = house("undo", dry_run=True)
    assert "tunnel stored" in said["change"]
    assert any("delete interface wg-home" in line for line in said["actions"])
    assert house.rows() == rows
    assert house.kernel() == kernel
    assert [tunnel.name for tunnel in house.engine.specs().tunnels] == ["home"]


def test_there_is_nothing_to_undo_at_first(house: House) -> None:
    with pytest.raises(NotFound):
        house("undo")


def test_only_the_last_changes_are_kept_and_with_them_the_keys(house: House) -> None:
    house("tunnel.create", name="home")
    for number in range(KEPT + 5):
        house("tunnel.change", name="home", mtu=1300 + number)
    assert len(house.store.query("SELECT id FROM changes")) == KEPT
    assert house.store.query("SELECT DISTINCT change FROM change_log EXCEPT SELECT id FROM changes") == []


def test_a_change_of_one_peer_among_many_costs_a_few_rows(house: House) -> None:
    house("tunnel.create", name="home")
    for number in range(30):
        house("peer.add", tunnel="home", name=f"p{number}")
    house("peer.disable", tunnel="home", name="p7")
    last = house.engine.history.last().id
    assert len(house.store.query("SELECT 1 FROM change_log WHERE change = ?", last)) <= 4


def test_the_tables_of_a_later_feature_are_covered_without_a_word(house: House) -> None:
    """Whatever its key: one column, several, none, or a text full of quotes."""
    store = house.store
    store.execute("CREATE TABLE plain (a TEXT, b BLOB, c REAL)")
    store.execute('CREATE TABLE "odd name" ("a b" TEXT, n INTEGER, v, PRIMARY KEY ("a b", n)) WITHOUT ROWID')
    store.execute("CREATE TABLE counters (n INTEGER)")
    history = History(store, house.clock, ["counters"])

    def look() -> list[list[tuple[Any, ...]]]:
        return [store.query("SELECT rowid, * FROM plain"), store.query('SELECT * FROM "odd name"')]

    store.execute("INSERT INTO plain VALUES ('it''s; \"so\"', x'00ff27', 0.1), (NULL, NULL, 1e300)")
    store.execute("INSERT INTO \"odd name\" VALUES ('x''', 1, NULL), ('y', 2, -1.5)")
    before = look()
    with store.transaction(), history.recording("me"):
        history.tell("odd things")
        store.execute("UPDATE plain SET a = 'é\n' || a, c = c / 3")
        store.execute("DELETE FROM plain WHERE a IS NULL")
        store.execute("INSERT OR REPLACE INTO \"odd name\" VALUES ('y', 2, 'other')")
        store.execute('UPDATE "odd name" SET n = n + 5')
        store.execute("INSERT INTO counters VALUES (1)")
    assert look() != before
    with store.transaction(), history.recording("me"):
        history.take_back(history.last())
    assert look() == before
    assert store.query("SELECT n FROM counters") == [(1,)]


def test_a_change_that_is_refused_leaves_no_trace(house: House) -> None:
    house("tunnel.create", name="home")
    last = house.engine.history.last()
    with pytest.raises(ZeroDivisionError), house.engine.change():
        house.store.execute("UPDATE tunnels SET mtu = 1300")
        raise ZeroDivisionError
    assert house.engine.history.last() == last
    assert house.store.query("SELECT * FROM open_change") == []


# Changes that wait for a word -----------------------------------------------------------------------


def risky_change(house: House, seconds: float = 60) -> None:
    """Another port and another network, as an apply with --confirm makes them."""
    with house.engine.change():
        house.store.execute("UPDATE tunnels SET listen_port = 51999, revision = random()")
        house.engine.journal("home", "a risky change")
        house.engine.history.await_confirmation(seconds)


def ports(house: House) -> set[int]:
    return {device.listen_port for device in house.kernel().of(Device).values()}


def test_what_is_not_confirmed_in_time_is_taken_back_by_a_pass(house: House) -> None:
    house("tunnel.create", name="home")
    risky_change(house)
    house.engine.settle()
    assert ports(house) == {51999}
    house.clock.time += 59
    house.engine.settle()
    assert ports(house) == {51999}
    house.clock.time += 1
    house.engine.settle("timer")
    assert ports(house) == {51820}
    assert house.engine.history.pending() is None
    assert any("not confirmed in time" in line["text"] for line in house("journal"))


def test_what_is_confirmed_stays(house: House) -> None:
    house("tunnel.create", name="home")
    risky_change(house)
    house.engine.settle()
    assert house("confirm")["change"] == "home: a risky change"
    house.clock.time += 100
    house.engine.settle()
    assert ports(house) == {51999}
    with pytest.raises(NotFound, match="nothing waits"):
        house("confirm")


def test_a_killed_agent_takes_it_back_when_it_lives_again(house: House) -> None:
    """Killed right after the commit, before the kernel heard of it, and started after the deadline."""
    house("tunnel.create", name="home")
    risky_change(house)
    house.clock.time += 61
    house.start()
    house.engine.settle("start")
    assert ports(house) == {51820}


@pytest.mark.parametrize("actions", range(12))
def test_killed_after_any_number_of_actions_the_rollback_holds(house: House, actions: int) -> None:
    house("tunnel.create", name="home")
    house("peer.add", tunnel="home", name="phone")
    rows, kernel = house.rows(), house.kernel()
    with house.engine.change():
        house.store.execute("DELETE FROM peers")
        house.store.execute("UPDATE tunnels SET listen_port = 51999, mtu = 1300, revision = random()")
        house.engine.journal("home", "a risky change")
        house.engine.history.await_confirmation(60)
    house.host.apply(house.engine.report().drift[:actions])  # and here it is killed
    house.clock.time += 60
    house.start()
    house.engine.settle("start")
    assert house.rows() == rows
    assert house.kernel() == kernel


def test_an_agent_that_comes_back_in_time_goes_on_and_waits(house: House) -> None:
    house("tunnel.create", name="home")
    risky_change(house)
    house.start()
    house.engine.settle("start")
    assert ports(house) == {51999}
    assert house.engine.seconds_to_confirm() == 60
    house("confirm")


def test_no_other_change_is_made_while_one_waits_and_undo_ends_the_wait(house: House) -> None:
    house("tunnel.create", name="home")
    risky_change(house)
    house.engine.settle()
    with pytest.raises(ConflictError, match="waits to be confirmed, and is taken back in 60 s") as refused:
        house("peer.add", tunnel="home", name="phone")
    assert "confirm" in refused.value.hint
    house("undo")
    assert ports(house) == {51820}
    house("peer.add", tunnel="home", name="phone")


# Foreign changes ------------------------------------------------------------------------------------


def test_in_report_mode_the_doings_of_others_are_told_and_left(house: House) -> None:
    house("tunnel.create", name="home")
    assert house("drift") == {"mode": "enforce"}
    house("drift", mode="report")
    (address,) = [a for a in house.kernel().of(Address).values() if ":" not in a.address]
    house.host.tamper(gone=address)
    assert house.engine.settle("event").drift
    assert address.key not in house.kernel().of(Address)
    assert house("plan")["actions"] == [f"create address {address.address} on wg-home"]
    house("peer.add", tunnel="home", name="phone")
    assert len(house.kernel().of(Peer)) == 1, "what a command changes is applied"
    assert address.key not in house.kernel().of(Address), "and only that"
    house("drift", mode="enforce")
    assert address.key in house.kernel().of(Address)


def test_in_report_mode_an_own_debt_is_still_paid(house: House) -> None:
    house("tunnel.create", name="home", activate=False)
    house("drift", mode="report")
    house.engine.settle()
    house.host.refuse(Link, "wg-home")
    with pytest.raises(Exception, match="not up"):
        house("tunnel.activate", name="home")
    house.host.refusals.clear()
    assert house.engine.settle("timer").drift == ()
    assert "wg-home" in house.kernel().of(Link)


def test_the_journal_tells_who_and_what_and_is_only_added_to(house: House) -> None:
    house.engine.actor = "uid 1000"
    house("tunnel.create", name="home")
    house.clock.time += 10
    house("peer.add", tunnel="home", name="phone")
    lines = house("journal")
    assert {line["actor"] for line in lines} == {"uid 1000"}
    assert next(line["text"] for line in lines if line["subject"] == "home").startswith("tunnel stored")
    assert house("journal", tail=1) == lines[-1:]
    since = house("journal", since=house.clock.time)
    assert since and all(line["at"] == lines[-1]["at"] for line in since)
    for attempt in ("DELETE FROM journal", "UPDATE journal SET text = ''"):
        with pytest.raises(Exception, match="only added to"):
            house.store.execute(attempt)


def test_no_key_is_in_journal_or_history_but_sealed(house: House) -> None:
    house("tunnel.create", name="home")
    config = house("peer.add", tunnel="home", name="phone")["config"]
    house("peer.remove", tunnel="home", name="phone")
    (tunnel,) = house.engine.specs().tunnels
    keys = [line.split(" = ")[1] for line in config.splitlines() if "Key" in line and "Public" not in line]
    everything = repr(
        house.store.query("SELECT text FROM journal") + house.store.query("SELECT sql FROM change_log")
    )
    assert len(keys) == 2
    for key in [*keys, tunnel.private_key.reveal()]:
        assert key not in everything
        assert b64decode(key).hex().upper() not in everything
