"""Completion: what bash gets when somebody presses Tab, and what zsh and fish would."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_agent import FakeAgent

PRESS_TAB = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
$(complete -p resource-wireguard | sed 's/.*-F \\([^ ]*\\).*/\\1/') "$1"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def tab(run: Run, environment: dict[str, str], tmp_path: Path):
    """What bash would offer for the last of some words."""
    script = tmp_path / "completion"
    script.write_text(run("completion", "bash").stdout)
    program = tmp_path / "resource-wireguard"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m resource_wireguard "$@"\n')
    program.chmod(0o755)

    def offered(*words: str) -> list[str]:
        argv = ["bash", "-c", PRESS_TAB, "bash", script, "resource-wireguard", *words]
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run(
            argv, env={**environment, "PATH": path}, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    return offered


def test_bash_completes_commands_of_all_features(tab, agent: FakeAgent) -> None:
    assert tab("inter") == ["interface"]
    assert {"peer", "plan"} <= set(tab("p"))
    assert tab("peer", "dis") == ["disable"]
    assert tab("manage", "re") == ["restart"]
    assert agent.connections == 0, "asking what could be typed asks nobody else"


def test_bash_completes_options_and_their_values(tab) -> None:
    assert tab("peer", "add", "--pre") == ["--preshared-key-file"]
    assert tab("status", "--format", "") == ["text", "json", "yaml"]
    assert tab("nonsense", "x") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_of_their_own_kind(run: Run, shell: str) -> None:
    script = run("completion", shell)
    assert (script.returncode, script.stderr) == (0, "")
    assert {"zsh": "#compdef resource-wireguard", "fish": "complete --no-files --command resource-wireguard"}[
        shell
    ] in script.stdout
    asked = {"_RESOURCE_WIREGUARD_COMPLETE": f"{shell}_complete", "COMP_WORDS": "resource-wireguard stat"}
    answer = run(**asked, COMP_CWORD="1" if shell == "zsh" else "stat")
    assert {"status", "stats"} <= set(answer.stdout.replace(",", "\n").replace("\t", "\n").split())


def test_an_unknown_shell_is_refused(run: Run) -> None:
    refused = run("completion", "tcsh")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "tcsh" in refused.stderr
    assert run(_RESOURCE_WIREGUARD_COMPLETE="tcsh_complete").returncode == 1
