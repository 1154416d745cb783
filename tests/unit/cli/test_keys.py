"""The keys commands as they are typed: where a passphrase may come from, and what a script learns."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_agent import FakeAgent, error
from tests.unit.cli.terminal import on_terminal

WORDS = "correct horse battery"
HERE: dict[str, Any] = {
    "source": "file",
    "place": "/x/master.key",
    "master_made_at": "2025-06-01T12:00:00Z",
    "secrets": 12,
    "available": True,
    "problem": None,
    "vault": None,
}
PROBLEM = {"message": "the keys are locked: they need the passphrase", "hint": "run it"}
LOCKED: dict[str, Any] = {**HERE, "source": "passphrase", "available": False, "problem": PROBLEM}
UNLOCKED = {"changed": True, "actions": ["create interface wg-home"], "drift": [], "problems": []}


def asked(agent: FakeAgent, command: str) -> list[dict[str, Any]]:
    return [request for name, request in agent.asked if name == command]


def test_status_says_in_its_exit_code_whether_keys_can_be_had(run: Run, agent: FakeAgent) -> None:
    agent.result("keys.status", HERE)
    assert run("keys", "status").returncode == 0
    agent.result("keys.status", LOCKED)
    done = run("keys", "status")
    assert done.returncode == 1
    assert "no: the keys are locked" in done.stdout
    assert json.loads(run("keys", "status", "--format", "json").stdout) == LOCKED


def test_a_passphrase_comes_from_standard_input(run: Run, agent: FakeAgent) -> None:
    agent.result("keys.status", LOCKED)
    agent.result("keys.unlock", UNLOCKED)
    done = run("keys", "unlock", stdin=f"{WORDS}\nmore\n")
    assert (done.returncode, asked(agent, "keys.unlock")) == (0, [{"passphrase": WORDS}])
    assert "create interface wg-home" in done.stdout


def test_what_is_not_locked_needs_no_passphrase(run: Run, agent: FakeAgent) -> None:
    agent.result("keys.status", HERE)
    done = run("keys", "unlock")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("words", [["keys", "unlock"], ["keys", "rekey", "--to", "passphrase"]])
def test_without_a_passphrase_nothing_is_asked(run: Run, agent: FakeAgent, words: list[str]) -> None:
    agent.result("keys.status", LOCKED)
    done = run(*words, stdin="\n")
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no passphrase on standard input\nhint: ")
    assert run(*words, WORDS).returncode == 1, "never as an argument"
    assert not asked(agent, "keys.unlock") and not asked(agent, "keys.rekey")


def test_a_wrong_passphrase_is_one_line(run: Run, agent: FakeAgent) -> None:
    agent.result("keys.status", LOCKED)
    refusal = error("invalid-input", "the passphrase does not open the keys", "try again in 4 s")
    agent.lines["keys.unlock"] = [refusal]
    done = run("keys", "unlock", stdin="wrong wrong\n")
    assert done.returncode == 1
    assert done.stderr == "error: the passphrase does not open the keys\nhint: try again in 4 s\n"


def test_a_person_types_a_new_passphrase_twice_and_unseen(
    environment: dict[str, str], agent: FakeAgent
) -> None:
    agent.result("keys.rekey", {**HERE, "source": "passphrase"})
    terminal = on_terminal(["keys", "rekey", "--to", "passphrase"], environment)
    for prompt in ("passphrase:", "Repeat"):
        terminal.wait_for(prompt)
        terminal.type(f"{WORDS}\n")
    assert terminal.end() == 0
    assert WORDS not in terminal.text
    assert asked(agent, "keys.rekey") == [{"to": "passphrase", "passphrase": WORDS}]


VAULT: dict[str, Any] = {
    **dict.fromkeys(("namespace", "problem"), ""),
    "address": "https://vault:8200",
    "mount": "secret",
    "path": "wireguard/gateway",
    "way_in": "token",
    "keys_in": "vault",
    "inside": 7,
    "outside": 5,
}


def test_files_reach_the_agent_by_their_full_names(run: Run, agent: FakeAgent) -> None:
    agent.result("keys.migrate", {"moved": 7, "keys": {**HERE, "vault": VAULT}})
    place = ["--address", "https://vault:8200", "--token-file", "token", "--ca", "/ca.pem"]
    done = run("keys", "migrate", "--to", "vault", *place)
    assert done.returncode == 0
    expected = {"address": "https://vault:8200", "token_file": str(Path.cwd() / "token"), "ca": "/ca.pem"}
    assert asked(agent, "keys.migrate") == [{"to": "vault", "place": expected}]
    assert "7 secrets moved" in done.stdout
    assert "7 secrets, 5 not" in done.stdout


def test_a_credential_is_no_file(run: Run, agent: FakeAgent) -> None:
    agent.result("keys.rekey", HERE)
    run(
        "keys",
        "rekey",
        "--to",
        "transit",
        "--address",
        "https://vault:8200",
        "--token-file",
        "credential:vault",
    )
    place = {"address": "https://vault:8200", "token_file": "credential:vault"}
    assert asked(agent, "keys.rekey") == [{"to": "transit", "place": place}]
