"""What happens between a person and the program: questions, colours, width, Ctrl-C, pipes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.unit.cli.fake_agent import KEY, PEER, RESULTS, TUNNEL_STATS, FakeAgent
from tests.unit.cli.terminal import on_terminal

from resource_wireguard.cli.client import call
from resource_wireguard.errors import PermissionDenied

DESTROYERS = [
    ("interface delete home", "tunnel.delete"),
    ("content remove home", "tunnel.delete"),
    ("peer remove home phone", "peer.remove"),
    (f"interface config home remove-peer {KEY}", "peer.remove"),
]


def changes(agent: FakeAgent) -> list[str]:
    """What the agent was told to change; it may be asked whether a name exists."""
    return [command for command, _ in agent.asked if not command.endswith(".show")]


@pytest.mark.parametrize(("typed", "command"), DESTROYERS, ids=[typed for typed, _ in DESTROYERS])
@pytest.mark.parametrize(("answer", "code", "sent"), [("y\n", 0, True), ("n\n", 1, False), ("\n", 1, False)])
def test_destroyers_ask(
    agent: FakeAgent,
    environment: dict[str, str],
    typed: str,
    command: str,
    answer: str,
    code: int,
    sent: bool,
) -> None:
    terminal = on_terminal(typed.split(), environment)
    terminal.wait_for("[y/N]: ")
    terminal.type(answer)
    assert terminal.end() == code
    assert changes(agent) == ([command] if sent else [])
    assert sent or "error: not confirmed: nothing was changed\n" in terminal.text


def test_ctrl_c_at_a_question_changes_nothing(agent: FakeAgent, environment: dict[str, str]) -> None:
    terminal = on_terminal(["interface", "delete", "home"], environment)
    terminal.wait_for("[y/N]: ")
    terminal.type("\x03")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    assert changes(agent) == []


def test_ctrl_c_while_the_agent_thinks(agent: FakeAgent, environment: dict[str, str]) -> None:
    agent.before = lambda: time.sleep(5)
    terminal = on_terminal(["interface", "list"], environment)
    while not agent.asked:
        time.sleep(0.01)
    terminal.type("\x03")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.text


def test_progress_is_shown_to_people(agent: FakeAgent, environment: dict[str, str]) -> None:
    agent.lines["tunnel.list"] = [{"progress": "starting the engine"}, {"result": []}]
    terminal = on_terminal(["interface", "list"], environment)
    assert terminal.end() == 0
    assert "starting the engine …" in terminal.text


@pytest.mark.parametrize(
    ("more", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_only_states_are_coloured(
    agent: FakeAgent, environment: dict[str, str], more: dict[str, str], coloured: bool
) -> None:
    terminal = on_terminal(["peer", "list", "home"], {**environment, **more})
    assert terminal.end() == 0
    assert re.findall(r"\x1b\[32m(\w+)\x1b\[0m", terminal.text) == (["online"] if coloured else [])
    assert coloured or "\x1b" not in terminal.text


@pytest.mark.parametrize("columns", [60, 200])
def test_tables_keep_to_the_terminals_width(
    agent: FakeAgent, environment: dict[str, str], columns: int
) -> None:
    agent.result("peer.list", [{**PEER, "addresses": ["10.13.13.2/32", "fd00:1234:5678:9abc::2/128"]}])
    terminal = on_terminal(["peer", "list", "home"], {**environment, "NO_COLOR": "1"}, columns)
    assert terminal.end() == 0
    lines = terminal.text.splitlines()
    assert max(map(len, lines)) <= columns
    assert ("…" in terminal.text) == (columns == 60)


def test_watching_ends_with_ctrl_c(agent: FakeAgent, environment: dict[str, str]) -> None:
    terminal = on_terminal(["stats", "--watch"], environment)
    terminal.wait_for("agent 4711")
    agent.result("stats", {**RESULTS["stats"], "tunnels": [{**TUNNEL_STATS, "rx_rate": 4608}]})
    terminal.wait_for("4.5 KiB/s")
    terminal.type("\x03")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.text


def test_a_reader_that_goes_away_is_no_error(agent: FakeAgent, environment: dict[str, str]) -> None:
    agent.result("peer.list", [{"n": number} for number in range(100_000)])
    command = [sys.executable, "-m", "resource_wireguard", "peer", "list", "home", "--format", "json"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(20) == 128 + signal.SIGPIPE


def test_a_terminal_without_unicode_gets_question_marks(
    agent: FakeAgent, environment: dict[str, str]
) -> None:
    agent.result("plan", {"actions": ["change mtu 1 → 2"], "problems": []})
    shown = subprocess.run(
        [sys.executable, "-m", "resource_wireguard", "plan"],
        env={**environment, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=60,
    )
    assert (shown.returncode, shown.stdout) == (0, b"change mtu 1 ? 2\n")


def test_nobody_else_may_ask(agent: FakeAgent, config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another user, or where that takes a root we are not, before a closed directory."""
    monkeypatch.setenv("CONFIG_DIR", str(config_dir))
    (config_dir / "run").chmod(0)
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            call("status")
        except PermissionDenied as refused:
            os._exit(0 if "you may not use the agent's socket" in refused.message else 3)
        finally:
            os._exit(4)
    _, status = os.waitpid(child, 0)
    (config_dir / "run").chmod(0o700)
    assert os.waitstatus_to_exitcode(status) == 0
