"""Wrong input: one line, a hint, the right exit code, and nothing that changes anything is sent."""
# ruff: noqa: E501 - tables read best with a case a line

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_agent import KEY, FakeAgent, error

REFUSED: list[tuple[str, str, str]] = [
    ("stauts", "there is no command 'stauts'", "did you mean 'stats' or 'status'?"),
    ("frobnicate", "there is no command 'frobnicate'", "there are: manage, doctor, interface"),
    ("--frob", "no such option '--frob'", "see 'resource-wireguard --help'"),
    ("peer", "peer: a command is missing", "there are: add, set, remove, list, show, config, enable, disable"),
    ("peer ad home x", "peer: there is no command 'ad'", "did you mean 'add'?"),
    ("peer add home", "peer add: missing argument 'NAME'", "see 'resource-wireguard peer add --help'"),
    ("peer add home phone more", "peer add: got unexpected extra argument (more)", "see 'resource-wireguard"),
    ("peer list home --frmat json", "peer list: no such option '--frmat'", "did you mean '--format'?"),
    ("status --format xml", "status: invalid value for '--format': 'xml' is not one of", "see 'resource"),
    ("interface create home --port 0", "interface create: invalid value for '--port': '0' is not a number", "see"),
    ("interface create home --port 65536", "interface create: invalid value for '--port': '65536'", "see"),
    ("interface create home --port x", "interface create: invalid value for '--port': 'x' is not a number from 1 to 65535", "see"),
    ("interface create home --mtu 10", "interface create: invalid value for '--mtu' (env var: 'WIREGUARD_MTU'): '10' is not a number", "see"),
    ("interface config home --exit add-peer " + KEY, "interface config: give the options of add-peer after it", "see"),
    ("interface config home ad-peer", "interface config: there is no command 'ad-peer'", "did you mean 'add-peer'?"),
    ("interface config home add-peer", "interface config NAME add-peer: missing argument 'PUBLIC-KEY'", "see"),
    ("interface delete home", "this needs a yes: Delete tunnel 'home' with", "there is no terminal to ask on; add --force"),
    ("content remove home", "this needs a yes: Delete tunnel 'home' with", "there is no terminal to ask on; add --force"),
    ("peer remove home phone", "this needs a yes: Remove peer 'phone'", "there is no terminal to ask on; add --force"),
    (f"interface config home remove-peer {KEY}", "this needs a yes: Remove peer xTIBA5rb…", "there is no"),
    ("content add", "content add: missing argument 'NAME'", "see 'resource-wireguard content add --help'"),
    ("content add a --name b", "content add: two names are given: 'a' and 'b'", "see"),
    ("content add a --type image", "content add: invalid value for '--type': 'image' is not", "see"),
    ("peer add home phone --keepalive 65536", "peer add: invalid value for '--keepalive' (env var: 'WIREGUARD_KEEPALIVE'): '65536'", "see"),
    ("peer add home phone --preshared-key-file /nowhere/psk", "cannot read the key in /nowhere/psk", "make one with"),
    ("peer add home phone --preshared-key-file a --no-preshared-key", "peer add: --preshared-key-file and", "see"),
    ("peer add home phone --output /nowhere/phone.conf", "cannot write /nowhere/phone.conf: No such file", "name a place"),
    (f"peer add home phone --public-key {KEY} --output x", "peer add: --output has nothing to write", "leave one"),
    ("manage start --timeout 0", "manage start: invalid value for '--timeout': '0' is not a number", "see"),
    ("help nothing", "there is no command 'nothing'", "there are:"),
    ("help peer add more", "peer add: 'add' has no command 'more'", "see"),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "message", "hint"), REFUSED, ids=[typed for typed, *_ in REFUSED])
def test_refused_before_anything_is_changed(
    run: Run, agent: FakeAgent, typed: str, message: str, hint: str
) -> None:
    refused = run(*typed.split())
    assert refused.returncode == 1
    assert refused.stdout == ""
    first, second = refused.stderr.splitlines()
    assert first.startswith(f"error: {message}")
    assert second.startswith(f"hint: {hint}")
    assert [command for command, _ in agent.asked if not command.endswith(".show")] == []


def test_a_wrong_name_is_answered_before_a_yes_is_wanted(run: Run, agent: FakeAgent) -> None:
    agent.lines["tunnel.show"] = [error("not-found", "no tunnel named 'hoem'", "did you mean 'home'?", 2)]
    refused = run("interface", "delete", "hoem")
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == ["error: no tunnel named 'hoem'", "hint: did you mean 'home'?"]


@pytest.mark.parametrize(
    ("variable", "typed"),
    [
        ("WIREGUARD_PORT", "interface create home"),
        ("WIREGUARD_MTU", "interface create home"),
        ("WIREGUARD_KEEPALIVE", "peer add home phone"),
    ],
)
def test_a_bad_setting_is_named(run: Run, agent: FakeAgent, variable: str, typed: str) -> None:
    refused = run(*typed.split(), **{variable: "lots"})
    assert (refused.returncode, agent.connections) == (1, 0)
    assert variable in refused.stderr
    assert len(refused.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("invalid-input", 1),
        ("not-found", 2),
        ("already-exists", 2),
        ("conflict", 1),
        ("store", 1),
        ("host", 1),
        ("of-a-later-version", 1),
    ],
)
def test_a_refusal_of_the_agent_is_passed_on(run: Run, agent: FakeAgent, kind: str, code: int) -> None:
    agent.lines["tunnel.show"] = [error(kind, "no tunnel named 'hoem'", "did you mean 'home'?", code)]
    refused = run("interface", "status", "hoem", "--format", "json")
    assert (refused.returncode, refused.stdout) == (code, "")
    assert refused.stderr == "error: no tunnel named 'hoem'\nhint: did you mean 'home'?\n"


def test_what_others_wrote_cannot_break_out_of_its_line(run: Run, agent: FakeAgent) -> None:
    agent.lines["tunnel.show"] = [error("host", "engine said:\n\x1b[2Jall is well\r\x07", "a\nb")]
    refused = run("interface", "status", "home")
    assert refused.stderr == "error: engine said:  [2Jall is well  \nhint: a b\n"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([b"garbage\n"], "the agent's answer is not understood"),
        ([b"[1]\n"], "the agent's answer is not understood"),
        ([b'{"error": 5}\n'], "the agent's answer is not understood"),
        ([b""], "the agent ended without an answer"),
        ([b'{"result": {"na'], "the agent ended without an answer"),
        ([{"progress": "half"}], "the agent ended without an answer"),
    ],
)
def test_an_agent_that_breaks_the_protocol(
    run: Run, agent: FakeAgent, lines: list[Any], message: str
) -> None:
    agent.lines["tunnel.show"] = lines
    refused = run("interface", "status", "home")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: {message}\nhint: ")
    assert len(refused.stderr.splitlines()) == 2


def test_nobody_listens(run: Run) -> None:
    refused = run("interface", "list")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: the service is not running (nothing listens on ")
    assert refused.stderr.endswith("hint: start it with 'resource-wireguard manage start'\n")


def test_a_dead_agents_socket_is_nobody(run: Run, agent: FakeAgent) -> None:
    agent.close()
    assert run("interface", "list").returncode == 1


def test_a_config_dir_too_long_for_a_socket(run: Run) -> None:
    refused = run("interface", "list", CONFIG_DIR=f"/tmp/{'x' * 120}")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: CONFIG_DIR is too long for a unix socket")


def test_keys_are_in_no_error(run: Run, agent: FakeAgent, tmp_path: Path) -> None:
    secret = "c2VjcmV0"
    (tmp_path / "psk").write_text(secret * 5)
    agent.lines["peer.add"] = [error("invalid-input", "preshared key is not a WireGuard key")]
    refused = run("peer", "add", "home", "phone", "--preshared-key-file", str(tmp_path / "psk"))
    assert refused.returncode == 1
    assert secret not in refused.stderr


def test_a_bug_is_one_line_without_values(run: Run, agent: FakeAgent) -> None:
    agent.result("tunnel.list", [{"name": "c2VjcmV0"}])
    broken = run("interface", "list")
    assert broken.returncode == 1
    assert broken.stderr.startswith("error: a bug of this program: KeyError in views.py:")
    assert len(broken.stderr.splitlines()) == 2
    assert "c2VjcmV0" not in broken.stderr
    told = run("interface", "list", WIREGUARD_LOG_LEVEL="debug")
    assert "Traceback" in told.stderr


def test_big_answers_arrive_whole(run: Run, agent: FakeAgent) -> None:
    names = [f"peer-{number:06}-{'x' * 300}" for number in range(10_000)]
    agent.result("peer.list", names)
    shown: subprocess.CompletedProcess[str] = run("peer", "list", "home", "--format", "json")
    assert json.loads(shown.stdout) == names
