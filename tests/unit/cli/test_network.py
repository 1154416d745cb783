"""apply, export, undo, confirm, journal, drift and backup as they are typed."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_agent import FakeAgent, error
from tests.unit.cli.terminal import on_terminal

NOTHING: dict[str, Any] = {
    "faults": [],
    "changes": [],
    "left_alone": [],
    "actions": [],
    "drift": [],
    "problems": [],
    "pending": None,
}
CREATE = {"verb": "create", "noun": "tunnel", "tunnel": "home", "text": "create tunnel home: 10.0.0.1/24"}
DELETE = {"verb": "delete", "noun": "peer", "tunnel": "home", "text": "delete peer tv of home"}
FILE = "version: 1\ntunnels:\n  home:\n    port: 51820\n"
DOCUMENT = {"version": 1, "tunnels": {"home": {"port": 51820}}}


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "network.yaml"
    path.write_text(FILE)
    return str(path)


def answers(agent: FakeAgent, **changes: Any) -> None:
    for command in ("network.plan", "network.apply"):
        agent.result(command, {**NOTHING, **changes})


def asked(agent: FakeAgent) -> list[str]:
    return [command for command, _ in agent.asked]


def test_apply_plans_first_and_then_applies(run: Run, agent: FakeAgent, file: str) -> None:
    answers(agent, changes=[CREATE], actions=["create interface wg-home"])
    done = run("apply", "-f", file, "--confirm", "60", "--prune")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [CREATE["text"], "on the host:", "  create interface wg-home"]
    request = {"document": DOCUMENT, "prune": True}
    assert agent.asked == [("network.plan", request), ("network.apply", {**request, "confirm": 60})]


def test_a_dry_run_and_an_empty_plan_do_not_apply(run: Run, agent: FakeAgent, file: str) -> None:
    answers(agent, changes=[CREATE], actions=["create interface wg-home"])
    assert run("apply", "-f", file, "--dry-run").stdout.splitlines()[-1] == "  create interface wg-home"
    answers(agent, left_alone=["tunnel a"])
    done = run("apply", "-f", file)
    assert done.returncode == 0 and done.stdout == ""
    assert "left alone: tunnel a" in done.stderr and "nothing to do" in done.stderr
    assert asked(agent) == ["network.plan"] * 2


def test_each_fault_is_told_with_file_line_and_column(run: Run, agent: FakeAgent, file: str) -> None:
    faults = [
        {"path": ["tunnels", "home", "port"], "message": "taken", "hint": "another", "at_key": False},
        {"path": ["tunnels"], "message": "odd", "hint": "", "at_key": True},
    ]
    answers(agent, faults=faults)
    done = run("apply", "-f", file)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines() == [
        f"error: {file}:2:1: odd",
        f"error: {file}:4:11: taken",
        "hint: another",
    ]
    assert asked(agent) == ["network.plan"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a: 1\na: 2\n", ":2:1: the key 'a' is there twice: first in line 1"),
        (b"a: [1\n", ":2:1: this is not YAML"),
        (b"version: 1\ntunnels: {home: {po", ":3:1: this is not YAML"),
        (b"\x00" * 10_000_000, ":1:1: the file has more than 8 MiB"),
        (b"\xff\xfea", ":1:1: this is not UTF-8"),
    ],
)
def test_what_is_no_yaml_never_reaches_the_agent(
    run: Run, agent: FakeAgent, tmp_path: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "network.yaml"
    path.write_bytes(content)
    done = run("apply", "-f", str(path))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {path}{told}")
    assert sum(line.startswith("error") for line in done.stderr.splitlines()) == 1
    assert agent.asked == []


def test_a_file_that_is_not_there(run: Run, agent: FakeAgent) -> None:
    done = run("apply", "-f", "/nowhere/network.yaml")
    assert done.returncode == 1 and "cannot read /nowhere/network.yaml: No such file" in done.stderr


def test_removing_needs_a_yes(run: Run, agent: FakeAgent, file: str, environment: dict[str, str]) -> None:
    answers(agent, changes=[DELETE])
    refused = run("apply", "-f", file)
    assert refused.returncode == 1 and "add --force" in refused.stderr
    assert "network.apply" not in asked(agent)
    terminal = on_terminal(["apply", "-f", file], environment)
    terminal.wait_for("delete peer tv of home")
    terminal.wait_for("[y/N]")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert run("apply", "-f", file, "--yes").returncode == 0
    assert asked(agent).count("network.apply") == 2


def test_a_pending_change_says_how_to_keep_it(run: Run, agent: FakeAgent, file: str) -> None:
    pending = {"change": "x", "deadline": "2025-06-01T12:00:00Z", "seconds_left": 60}
    answers(agent, changes=[CREATE], pending=pending)
    done = run("apply", "-f", file, "--confirm", "60")
    assert "taken back in 60 s unless you run: resource-wireguard confirm" in done.stderr


@pytest.mark.parametrize("seconds", ["0", "-1", "x", "86401"])
def test_confirm_takes_seconds(run: Run, agent: FakeAgent, file: str, seconds: str) -> None:
    assert run("apply", "-f", file, "--confirm", seconds).returncode == 1
    assert agent.asked == []


def test_export_is_yaml_with_a_word_about_keys_and_is_read_back(
    run: Run, agent: FakeAgent, tmp_path: Path
) -> None:
    agent.result("network.export", DOCUMENT)
    answers(agent)
    exported = run("export").stdout
    assert exported.startswith("# ") and "Private and preshared keys are not in it" in exported
    path = tmp_path / "out.yaml"
    assert run("export", "--output", str(path)).stdout == ""
    assert path.read_text() == exported and path.stat().st_mode & 0o777 == 0o600
    for form in (exported, run("export", "--format", "json").stdout):
        run("apply", "-f", "-", stdin=form)
        assert agent.asked[-1] == ("network.plan", {"document": DOCUMENT, "prune": False})


UNDONE = {
    "change": "home: port 1",
    "actor": "uid 0",
    "at": "2025-06-01T12:00:00Z",
    "actions": ["change device wg-home"],
    "drift": [],
    "problems": [],
}


def test_undo_says_what_and_by_whom(run: Run, agent: FakeAgent) -> None:
    agent.result("undo", UNDONE)
    lines = run("undo", "--dry-run").stdout.splitlines()
    assert lines[0] == "would take back: home: port 1"
    assert lines[1].startswith("  by uid 0, ")
    assert lines[2] == "  change device wg-home"
    assert run("undo").stdout.startswith("taken back: ")
    assert [request for _, request in agent.asked] == [{"dry_run": True}, {"dry_run": False}]


def test_confirm_and_drift(run: Run, agent: FakeAgent) -> None:
    agent.result("confirm", {"change": "home: port 1"})
    assert run("confirm").stderr == "kept: home: port 1\n"
    agent.lines["confirm"] = [error("not-found", "nothing waits to be confirmed", 2)]
    assert run("confirm").returncode == 2
    agent.result("drift", {"mode": "report"})
    assert run("drift", "report").stdout == "report\n"
    assert run("drift").stdout == "report\n"
    assert json.loads(run("drift", "--format", "json").stdout) == {"mode": "report"}
    assert [request for command, request in agent.asked if command == "drift"] == [{"mode": "report"}, {}, {}]
    assert run("drift", "ignore").returncode == 1


def test_journal(run: Run, agent: FakeAgent) -> None:
    line = {"at": "2025-06-01T12:00:00Z", "actor": "uid 0", "subject": "home", "text": "x", "result": "done"}
    agent.result("journal", [line, {**line, "subject": "", "result": "refused"}])
    assert run("journal").stdout.splitlines() == [
        "2025-06-01T12:00:00Z  uid 0  home: x",
        "2025-06-01T12:00:00Z  uid 0  x (refused)",
    ]
    assert json.loads(run("journal", "--format", "json").stdout)[0] == line
    run("journal", "--tail", "5")
    run("journal", "--since", "@1748779200")
    assert [request for _, request in agent.asked[-2:]] == [
        {"tail": 5},
        {"since": 1748779200.0, "tail": None},
    ]
    assert run("journal", "--since", "soon").returncode == 1


# Back-ups -------------------------------------------------------------------------------------------

ARCHIVE = b"sealed \x00\xff bytes"
MADE = {"archive": b64encode(ARCHIVE).decode(), "tunnels": 1, "peers": 2}
SECRET = "correct horse"


def test_a_back_up_is_written_for_its_owner_alone(run: Run, agent: FakeAgent, tmp_path: Path) -> None:
    agent.result("backup.create", MADE)
    path, secret = tmp_path / "all.backup", tmp_path / "secret"
    secret.write_text(f"{SECRET}\nsecond line\n")
    done = run("backup", "create", str(path), "--passphrase-file", str(secret))
    assert done.returncode == 0 and "1 tunnel, 2 peers" in done.stderr
    assert path.read_bytes() == ARCHIVE and path.stat().st_mode & 0o777 == 0o600
    run("backup", "create", str(path), WIREGUARD_BACKUP_PASSPHRASE="another one")
    assert [request["passphrase"] for _, request in agent.asked] == [SECRET, "another one"]
    assert [entry.name for entry in tmp_path.iterdir() if "new" in entry.name] == []


def test_without_a_passphrase_nothing_is_asked(run: Run, agent: FakeAgent, tmp_path: Path) -> None:
    done = run("backup", "create", str(tmp_path / "x"))
    assert done.returncode == 1 and "WIREGUARD_BACKUP_PASSPHRASE" in done.stderr
    assert agent.asked == []
    assert run("backup", "create", str(tmp_path / "x"), "--passphrase", SECRET).returncode == 1


def test_on_a_terminal_the_passphrase_is_asked_for_twice_and_not_shown(
    agent: FakeAgent, tmp_path: Path, environment: dict[str, str]
) -> None:
    agent.result("backup.create", MADE)
    terminal = on_terminal(["backup", "create", str(tmp_path / "x")], environment)
    terminal.wait_for("passphrase:")
    terminal.type(f"{SECRET}\n")
    terminal.wait_for("Repeat")
    terminal.type(f"{SECRET}\n")
    assert terminal.end() == 0
    assert SECRET not in terminal.text
    assert agent.asked[0][1]["passphrase"] == SECRET


def test_restore_sends_the_file_and_prints_what_came_back(run: Run, agent: FakeAgent, tmp_path: Path) -> None:
    path = tmp_path / "all.backup"
    path.write_bytes(ARCHIVE)
    agent.result(
        "backup.restore",
        {
            "made_at": "2025-06-01T12:00:00Z",
            "tunnels": ["home"],
            "actions": ["create interface wg-home"],
            "drift": [],
            "problems": [],
        },
    )
    done = run("backup", "restore", str(path), WIREGUARD_BACKUP_PASSPHRASE=SECRET)
    assert done.stdout.splitlines()[0] == "restored the back-up of 2025-06-01T12:00:00Z: home"
    request = {"archive": MADE["archive"], "passphrase": SECRET, "dry_run": False, "force": False}
    assert agent.asked == [("backup.restore", request)]


def test_a_file_that_is_far_too_large_is_not_sent(run: Run, agent: FakeAgent, tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    done = run("backup", "restore", str(path), WIREGUARD_BACKUP_PASSPHRASE=SECRET)
    assert done.returncode == 1 and "larger than any" in done.stderr
    assert agent.asked == []
