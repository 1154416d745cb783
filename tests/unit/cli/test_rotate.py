"""What the commands of rotation ask of the agent, and what a person reads."""
# ruff: noqa: E501 - tables read best with a case a line

import json
from typing import Any

import pytest
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_agent import KEY, FakeAgent

ROTATION = {
    "id": 3, "tunnel": "home", "peer": None, "what": "tunnel", "actor": "uid 0", "started_at": "2025-06-01T12:00:00Z",
    "deadline": "2025-06-08T12:00:00Z", "seconds_left": 500_000, "ended_at": None, "outcome": "",
    "old_fingerprint": "SHA256:old", "new_fingerprint": "SHA256:new", "kept_until": None,
}  # fmt: skip
PEERS = [
    {"name": "phone", "enabled": True, "moved": True, "latest_handshake": None, "config_held": True},
    {"name": "laptop", "enabled": True, "moved": False, "latest_handshake": None, "config_held": False},
]
DONE = {
    "rotation": ROTATION,
    "peers": PEERS,
    "next": ["resource-wireguard peer config home laptop"],
    "notes": ["let it in"],
}
RUNNING = {
    **ROTATION,
    "interface": "wg-homer",
    "listen_port": 51821,
    "new_public_key": KEY,
    "peers": PEERS,
    "next": DONE["next"],
}
STATUS = [
    {"tunnel": "home", "generation": 1, "fingerprint": "SHA256:old", "public_key": KEY, "running": [RUNNING]}
]
HOME, PHONE = {"tunnel": "home"}, {"tunnel": "home", "peer": "phone"}

ASKED: list[tuple[str, str, dict[str, Any], Any]] = [
    ("keys home", "rotate.keys", HOME, DONE),
    ("keys home --overlap 14d --port 5000 --keep 0s", "rotate.keys", {**HOME, "overlap": 1209600, "port": 5000, "keep": 0}, DONE),
    ("keys home --now --restore 3", "rotate.keys", {**HOME, "now": True, "restore": 3}, DONE),
    ("peer home phone --grace 1h", "rotate.peer", {**PHONE, "grace": 3600}, DONE),
    (f"peer home phone --now --public-key {KEY}", "rotate.peer", {**PHONE, "now": True, "public_key": KEY}, DONE),
    ("psk home phone", "rotate.psk", PHONE, DONE),
    ("status", "rotate.status", {}, STATUS),
    ("status home", "rotate.status", HOME, STATUS),
    ("history home --tail 5", "rotate.history", {**HOME, "tail": 5}, [ROTATION]),
    ("rollback home", "rotate.rollback", HOME, DONE),
    ("rollback home phone", "rotate.rollback", PHONE, DONE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "command", "request_", "answer"), ASKED, ids=[typed for typed, *_ in ASKED]
)
def test_what_is_asked(
    run: Run, agent: FakeAgent, typed: str, command: str, request_: dict[str, Any], answer: Any
) -> None:
    agent.lines[command] = [{"result": answer}]
    shown = run("rotate", *typed.split(), "--format", "json")
    assert shown.returncode == 0, shown.stderr
    assert agent.asked == [(command, request_)]
    assert json.loads(shown.stdout) == answer


def test_the_answer_of_a_peers_agent_is_waited_for(run: Run, agent: FakeAgent) -> None:
    state = "its agent makes the new key"
    granted = {**DONE, "rotation": {**ROTATION, "outcome": state, "peer": "phone", "what": "peer"}}
    agent.lines["rotate.peer"] = [{"result": {**DONE, "asking": True}}]
    agent.lines["rotate.asked"] = [{"result": granted}]
    done = run("rotate", "peer", "home", "phone")
    assert agent.asked == [("rotate.peer", PHONE), ("rotate.asked", {**HOME, "number": 3})]
    assert state in done.stdout
    assert done.stderr == "note: let it in\n"


def test_status_says_who_has_moved_and_what_is_next(run: Run, agent: FakeAgent) -> None:
    agent.lines["rotate.status"] = [{"result": STATUS}]
    lines = run("rotate", "status").stdout.splitlines()
    fields = dict(line.split(":", 1) for line in lines if ": " in line)
    assert fields["listens on"].strip() == "wg-homer, UDP port 51821"
    assert fields["ends in"].strip() == "5 d 18 h"
    assert [line.split()[:2] for line in lines if line.startswith(("phone", "laptop"))] == [
        ["phone", "yes"],
        ["laptop", "no"],
    ]
    assert lines[-2:] == ["next:", "  resource-wireguard peer config home laptop"]


def test_what_was_done_and_what_to_do(run: Run, agent: FakeAgent) -> None:
    agent.lines["rotate.keys"] = [{"result": DONE}]
    done = run("rotate", "keys", "home")
    assert done.stdout.splitlines()[-1] == "  resource-wireguard peer config home laptop"
    assert done.stderr == "note: let it in\n"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("keys home --overlap 0", "'0' is not a time, such as 90s, 10m, 2h or 7d"),
        ("keys home --overlap -7d", "'-7d' is not a time"),
        ("keys home --overlap 7", "'7' is not a time"),
        ("keys home --overlap 9999999999d", "is not a time"),
        ("keys home --now --overlap 7d", "--now and --overlap exclude each other"),
        ("peer home phone --now --grace 7d", "--now and --grace exclude each other"),
        ("keys", "missing argument 'TUNNEL'"),
    ],
)
def test_refused_without_asking(run: Run, agent: FakeAgent, typed: str, message: str) -> None:
    refused = run("rotate", *typed.split())
    assert refused.returncode == 1
    first, second = refused.stderr.splitlines()
    assert message in first
    assert second.startswith("hint: ")
    assert agent.asked == []


def test_the_word_of_a_peers_agent_is_waited_for(run: Run, agent: FakeAgent) -> None:
    agent.lines["rotate.psk"] = [{"result": {**DONE, "asking": True}}]
    agent.lines["rotate.asked"] = [{"result": {**DONE, "next": [], "notes": ["the agent has it"]}}]
    done = run("rotate", "psk", "home", "phone")
    assert (done.returncode, "note: the agent has it" in done.stderr) == (0, True)
    assert "let it in" not in done.stderr
