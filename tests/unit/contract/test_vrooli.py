"""The drop-in in a small Vrooli checkout, met as Vrooli meets its resources."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.contract import DROP_IN
from tests.unit.cli.fake_agent import FakeAgent

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture
def vrooli(tmp_path: Path) -> Path:
    """A checkout with the folder copied in, its registry entry, and the link that its installer makes."""
    root = tmp_path / "vrooli"
    resource = root / "resources" / "wireguard"
    shutil.copytree(DROP_IN, resource, ignore=shutil.ignore_patterns(".venv"))
    registry = root / ".vrooli" / "resource-registry" / "wireguard.json"
    registry.parent.mkdir(parents=True)
    registry.write_text(
        json.dumps({"name": "wireguard", "command": "resource-wireguard", "path": str(resource)})
    )
    (tmp_path / ".local" / "bin").mkdir(parents=True)
    (tmp_path / ".local" / "bin" / "resource-wireguard").symlink_to(resource / "cli.sh")
    return root


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The folder of PATH where pipx would have put the program."""
    script = tmp_path / "pipx" / "resource-wireguard"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m resource_wireguard "$@"\n')
    script.chmod(0o755)
    return script.parent


@pytest.fixture
def call(vrooli: Path, environment: dict[str, str], program: Path):
    """Run with Vrooli's root as cwd, its environment, and stderr merged in."""

    def call_(*words: str, path: str = "", **more: str) -> "subprocess.CompletedProcess[str]":
        given = {
            **environment,
            "PATH": path or f"{program}:{SYSTEM_PATH}",
            "VROOLI_ROOT": str(vrooli),
            **more,
        }
        return subprocess.run(
            words,
            cwd=vrooli,
            env=given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )

    return call_


CLI = ("bash", "resources/wireguard/cli.sh")


def test_status_is_one_object_with_two_booleans(call, agent: FakeAgent) -> None:
    def read(code: int) -> dict:
        shown = call(*CLI, "status", "--format", "json", "--fast")
        assert shown.returncode == code
        return json.loads(shown.stdout)

    found = read(0)
    assert found["running"] is True and found["healthy"] is True
    agent.close()
    found = read(2)
    assert found["running"] is False and found["healthy"] is False


def test_status_is_so_also_without_the_program(call) -> None:
    shown = call(*CLI, "status", "--format", "json", "--fast", path=SYSTEM_PATH)
    assert shown.returncode == 2
    assert json.loads(shown.stdout) == {"running": False, "healthy": False, "installed": False}


@pytest.mark.parametrize("command", ["install", "uninstall", "start", "stop", "restart"])
@pytest.mark.parametrize("installed", [True, False])
def test_help_never_acts(call, config_dir: Path, vrooli: Path, command: str, installed: bool) -> None:
    before = sorted(vrooli.rglob("*"))
    shown = call(*CLI, "manage", command, "--help", path="" if installed else SYSTEM_PATH)
    assert shown.returncode == 0
    assert ("Usage: resource-wireguard manage" if installed else "Usage examples") in shown.stdout
    assert not config_dir.exists()
    assert sorted(vrooli.rglob("*")) == before


def test_help_without_the_program_has_what_the_contract_wants(call) -> None:
    for words in ((), ("help",), ("--help",)):
        shown = call(*CLI, *words, path=SYSTEM_PATH)
        assert shown.returncode == 0
        for part in (
            "Usage examples",
            "Available commands",
            "Default configuration",
            "51820",
            "manage install",
        ):
            assert part in shown.stdout


def test_the_link_on_path_runs_the_program_and_not_itself(call, vrooli: Path, program: Path) -> None:
    local = vrooli.parent / ".local" / "bin"
    shown = call("resource-wireguard", "version", path=f"{local}:{program}:{SYSTEM_PATH}")
    assert (shown.returncode, shown.stdout.split()[0]) == (0, "resource-wireguard")
    alone = call("resource-wireguard", "peer", "list", "home", path=f"{local}:{SYSTEM_PATH}")
    assert alone.returncode == 1
    assert "not installed" in alone.stdout and "manage install" in alone.stdout


def test_a_wrapper_on_path_is_no_endless_loop(call, vrooli: Path, tmp_path: Path, program: Path) -> None:
    """Not a link, so it cannot be known by its place; it is found out when it comes back."""
    wrapper = tmp_path / "wrapped" / "resource-wireguard"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec bash "{vrooli}/resources/wireguard/cli.sh" "$@"\n')
    wrapper.chmod(0o755)
    alone = call("resource-wireguard", "version", path=f"{wrapper.parent}:{SYSTEM_PATH}")
    assert (alone.returncode, "not installed" in alone.stdout) == (1, True)
    shown = call("resource-wireguard", "version", path=f"{wrapper.parent}:{program}:{SYSTEM_PATH}")
    assert shown.returncode == 0


def test_words_and_exit_codes_pass_unchanged(call) -> None:
    assert "no command 'x y'" in call(*CLI, "x y").stdout
    assert call(*CLI, "x y").returncode == 1
    assert call(*CLI, "manage", "stop").returncode == 2
    assert call(*CLI, "manage", "stop", path=SYSTEM_PATH).returncode == 2


def test_generic_names_of_the_environment_have_no_effect(call, agent: FakeAgent) -> None:
    generic = dict.fromkeys(
        ("CONTAINER_NAME", "NAME", "PORT", "HOST", "IMAGE", "SERVICE", "COMMANDS"), "nginx"
    )
    generic |= {"HERE": "/tmp", "DEBUG": "1", "PROGRAM": "/bin/false", "LOG_LEVEL": "loud"}
    plain = call(*CLI, "status", "--format", "json")
    assert call(*CLI, "status", "--format", "json", **generic).stdout == plain.stdout
    assert json.loads(plain.stdout)["running"] is True


def test_install_without_a_source_says_where_from(call, vrooli: Path) -> None:
    refused = call(*CLI, "manage", "install", path=SYSTEM_PATH)
    assert refused.returncode == 1
    assert "error: " in refused.stdout and "hint: pipx install" in refused.stdout
    assert not (vrooli / "resources" / "wireguard" / ".venv").exists()


def test_a_wheel_that_does_not_install_leaves_no_environment(call, vrooli: Path) -> None:
    resource = vrooli / "resources" / "wireguard"
    (resource / "resource_wireguard-1-py3-none-any.whl").write_text("no wheel")
    refused = call(*CLI, "manage", "install", path=SYSTEM_PATH)
    assert refused.returncode == 1
    assert "could not be installed" in refused.stdout
    assert not (resource / ".venv").exists()


def test_an_environment_beside_it_is_used_and_goes_with_uninstall(call, vrooli: Path, program: Path) -> None:
    venv = vrooli / "resources" / "wireguard" / ".venv"
    (venv / "bin").mkdir(parents=True)
    stand_in = venv / "bin" / "resource-wireguard"
    stand_in.write_text('#!/bin/sh\necho "beside $*"\nexit ${ENDS_WITH:-0}\n')
    stand_in.chmod(0o755)
    assert call(*CLI, "status", path=SYSTEM_PATH).stdout == "beside status\n"
    assert call(*CLI, "manage", "uninstall", path=SYSTEM_PATH, ENDS_WITH="1").returncode == 1
    assert venv.exists(), "what failed can be tried again"
    assert call(*CLI, "manage", "uninstall", path=SYSTEM_PATH).returncode == 0
    assert not venv.exists()


def test_a_checkout_runs_its_own_program(tmp_path: Path, environment: dict[str, str]) -> None:
    """A link into a checkout: its environment is found from where the folder really lies."""
    checkout = tmp_path / "checkout"
    shutil.copytree(DROP_IN, checkout / "vrooli" / "wireguard", ignore=shutil.ignore_patterns(".venv"))
    (checkout / "pyproject.toml").write_text('[project]\nname = "resource-wireguard"\n')
    stand_in = checkout / ".venv" / "bin" / "resource-wireguard"
    stand_in.parent.mkdir(parents=True)
    stand_in.write_text('#!/bin/sh\necho "of the checkout: $*"\n')
    stand_in.chmod(0o755)
    link = tmp_path / "resources"
    os.symlink(checkout / "vrooli", link)
    environment = {**environment, "PATH": SYSTEM_PATH}
    shown = subprocess.run(
        ["bash", str(link / "wireguard" / "cli.sh"), "status"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert shown.stdout == "of the checkout: status\n"
