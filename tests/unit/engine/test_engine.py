"""The engine: changes are kept whole or not at all, looks are spared only where that is safe."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.worlds import (
    StoppedClock,
    asked_sysctls,
    compile_pieces,
    full_tunnel,
    peer_of,
    tunnel_piece,
)

from resource_wireguard.engine.bus import answer
from resource_wireguard.engine.commands import feature as own_commands
from resource_wireguard.engine.engine import KNOWN_FOR, Engine
from resource_wireguard.engine.feature import Command, Feature, Resources
from resource_wireguard.errors import ConflictError
from resource_wireguard.host.state import Address, Link, Peer, Piece
from resource_wireguard.model.settings import Settings
from resource_wireguard.store.migrations import migrate
from resource_wireguard.store.secrets import FileSecrets
from resource_wireguard.store.sqlite import SqliteStore
from resource_wireguard.system.fake import FakeHost

BY_NAME = {
    "a": full_tunnel("a", 1),
    "b": full_tunnel("b", 2),
    "on-a's-port": tunnel_piece("c", 3, port=51821),
}


def load_wanted(resources: Resources) -> tuple[Piece, ...]:
    return tuple(BY_NAME[name] for (name,) in resources.store.query("SELECT name FROM wanted ORDER BY name"))


def fail(_: Engine, __: object) -> None:
    raise ZeroDivisionError("a secret could stand here")


class Empty(msgspec.Struct, forbid_unknown_fields=True):
    pass


WANTED = Feature(
    "pieces",
    migrations=("CREATE TABLE wanted (name TEXT PRIMARY KEY);",),
    load=load_wanted,
    compile=compile_pieces,
    questions=asked_sysctls,
    commands=(Command("fail", Empty, fail),),
)


@pytest.fixture
def engine(tmp_path: Path, host: FakeHost, clock: StoppedClock) -> Engine:
    store = SqliteStore(tmp_path / "state.db")
    migrate(store, [WANTED])
    secrets = FileSecrets(store, tmp_path / "master.key")
    return Engine(Resources(store, secrets, host, clock, Settings()), [own_commands(), WANTED])


def want(engine: Engine, name: str) -> None:
    with engine.change():
        engine.resources.store.execute("INSERT INTO wanted VALUES (?)", name)


def links(host: FakeHost) -> set[str]:
    return set(host.observe().state.of(Link))


def journal(engine: Engine) -> list[tuple[Any, ...]]:
    return engine.resources.store.query("SELECT actor, subject, text, result FROM journal ORDER BY id")


def ask(engine: Engine, command: str, **request: object) -> dict[str, Any]:
    line = json.dumps({"command": command, "request": request}).encode()
    answered: dict[str, Any] = json.loads(answer(engine, line, "uid 0", lambda _: None))
    return answered


def test_a_change_that_conflicts_is_rolled_back_and_names_both(engine: Engine, host: FakeHost) -> None:
    want(engine, "a")
    with pytest.raises(ConflictError, match="'a' and 'c' both listen on UDP port 51821"):
        want(engine, "on-a's-port")
    assert [name for (name,) in engine.resources.store.query("SELECT name FROM wanted")] == ["a"]
    assert engine.settle().drift == ()
    assert links(host) == {"wg-a"}


def test_a_settled_engine_needs_one_look_for_the_next_change_and_still_verifies(
    engine: Engine, host: FakeHost
) -> None:
    want(engine, "a")
    engine.settle()
    engine.settle()
    before = host.observations
    engine.settle()
    assert host.observations - before == 1


def test_what_was_reported_since_the_last_look_makes_the_next_pass_look_first(
    engine: Engine, host: FakeHost
) -> None:
    want(engine, "a")
    engine.settle()
    host.tamper(gone=Address("wg-a", "10.1.0.1/24"))
    assert engine.anything_new()
    assert next(action.record for action in engine.settle().done if action.verb == "create") == Address(
        "wg-a", "10.1.0.1/24"
    )


def test_silent_drift_is_found_although_the_first_look_was_spared(engine: Engine, host: FakeHost) -> None:
    """WireGuard announces nothing; the verifying look sees it, and the same pass repairs it."""
    want(engine, "a")
    engine.settle()
    host.tamper(gone=peer_of("wg-a", "phone", "10.1.0.2/32", shared=True))
    assert not engine.anything_new()
    report = engine.settle()
    assert report.drift == ()
    assert len(host.observe().state.of(Peer)) == 2


def test_an_old_look_is_not_used(engine: Engine, host: FakeHost, clock: StoppedClock) -> None:
    want(engine, "a")
    engine.settle()
    clock.time += KNOWN_FOR + 1
    before = host.observations
    host.tamper(gone=peer_of("wg-a", "phone", "10.1.0.2/32", shared=True))
    engine.settle()
    assert host.observations - before == 2


def test_the_journal_tells_what_was_done_in_the_words_of_plan(engine: Engine) -> None:
    want(engine, "a")
    planned = ask(engine, "plan")["result"]["actions"]
    engine.settle()
    assert sorted(text for _, _, text, _ in journal(engine)) == sorted(planned)
    assert {subject for _, subject, _, _ in journal(engine)} >= {"a"}


def test_the_journal_says_what_was_refused(engine: Engine, host: FakeHost) -> None:
    host.refuse(Link, "wg-a")
    want(engine, "a")
    engine.settle()
    results = {text: result for _, _, text, result in journal(engine)}
    assert results["create interface wg-a: kernel, mtu 1420, up"] == "interface wg-a: Operation not permitted"


def test_the_same_failure_is_told_once_however_often_it_is_tried(engine: Engine, host: FakeHost) -> None:
    host.refuse(Link, "wg-a")
    want(engine, "a")
    engine.settle()
    told = len(journal(engine))
    engine.settle()
    engine.settle()
    repeated = journal(engine)[told:]
    host.relent()
    engine.settle()
    made = [text for _, _, text, result in journal(engine) if result == "done"]
    assert "create interface wg-a: kernel, mtu 1420, up" in made
    assert [text for _, _, text, _ in repeated].count("create interface wg-a: kernel, mtu 1420, up") <= 1


def test_stop_takes_all_down_and_keeps_the_specs(engine: Engine, host: FakeHost) -> None:
    want(engine, "a")
    engine.settle()
    assert ask(engine, "agent.stop") == {"result": {"stopped": True, "left": []}}
    assert links(host) == set()
    assert engine.specs().by_feature["pieces"] == (BY_NAME["a"],)


def test_purge_gives_a_sysctl_the_value_it_had_before_the_first_change(
    engine: Engine, host: FakeHost
) -> None:
    want(engine, "a")
    engine.settle()
    assert host.sysctls["net.ipv4.ip_forward"] == "1"
    host.sysctls["net.ipv4.ip_forward"] = "0"  # somebody else's doing, repaired by the next pass
    want(engine, "b")
    engine.settle()
    ask(engine, "agent.purge")
    assert host.sysctls["net.ipv4.ip_forward"] == "0"


def test_purge_leaves_a_sysctl_that_was_right_before_us(engine: Engine, host: FakeHost) -> None:
    host.sysctls["net.ipv4.ip_forward"] = "1"
    want(engine, "a")
    engine.settle()
    ask(engine, "agent.purge")
    assert host.sysctls["net.ipv4.ip_forward"] == "1"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"not json", "invalid-input"),
        (b"[]", "invalid-input"),
        (b'{"command": "plan", "request": {"surprise": 1}}', "invalid-input"),
        (b'{"command": "plan", "extra": 1}', "invalid-input"),
        (b'{"command": "no.such"}', "not-found"),
        (b"\xff\xfe", "invalid-input"),
    ],
)
def test_a_request_that_is_not_understood_is_refused(engine: Engine, line: bytes, kind: str) -> None:
    answered = json.loads(answer(engine, line, "uid 0", lambda _: None))
    assert answered["error"]["kind"] == kind
    assert answered["error"]["hint"]


def test_a_bug_in_a_command_answers_without_its_details(engine: Engine) -> None:
    answered = ask(engine, "fail")
    assert answered["error"]["exit_code"] == 1
    assert "secret" not in json.dumps(answered)
