"""Help: complete, without side effects, and cheap."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_agent import FakeAgent
from tests.unit.cli.words import all_commands

from resource_wireguard import __version__

HEAVY = {"msgspec", "asyncio", "cryptography", "ipaddress", "sqlite3", "pathlib", "subprocess"}


@pytest.mark.parametrize("words", [(), ("help",), ("--help",), ("-h",)])
def test_the_first_page_has_what_the_contract_wants(run: Run, words: tuple[str, ...]) -> None:
    shown = run(*words)
    assert (shown.returncode, shown.stderr) == (0, "")
    for part in ("Usage examples", "Available commands", "Default configuration", "WIREGUARD_PORT", "51820"):
        assert part in shown.stdout


def test_all_words_of_the_issue_are_there() -> None:
    typed = {" ".join(word for word in words if word != "x") for words in all_commands()}
    manage = {f"manage {word}" for word in ("install", "start", "stop", "restart", "uninstall")}
    content = {f"content {word}" for word in ("add", "list", "get", "remove", "execute", "deactivate")}
    interface = {f"interface {word}" for word in ("create", "delete", "list", "config", "status")}
    peer = {f"peer {word}" for word in ("add", "remove", "list", "show", "config", "enable", "disable")}
    inner = {"interface config add-peer", "interface config remove-peer"}
    single = {"help", "info", "version", "status", "stats", "plan", "agent", "doctor"}
    assert manage | content | interface | peer | inner | single <= typed


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_help_never_acts(run: Run, agent: FakeAgent, config_dir: Path, words: tuple[str, ...]) -> None:
    before = sorted(config_dir.rglob("*"))
    shown = run(*words, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("Usage: resource-wireguard")
    assert agent.connections == 0
    assert sorted(config_dir.rglob("*")) == before


def test_help_of_a_command_is_its_page(run: Run) -> None:
    assert run("help", "peer", "add").stdout == run("peer", "add", "--help").stdout


@pytest.mark.parametrize("words", [("help",), ("status",), ("peer", "list", "home"), ("version",)])
def test_the_thin_path_imports_nothing_heavy(
    environment: dict[str, str], agent: FakeAgent, words: tuple[str, ...]
) -> None:
    traced = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "resource_wireguard", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert traced.returncode == 0
    modules = {line.rpartition("|")[2].strip() for line in traced.stderr.splitlines()}
    assert "click" in modules
    assert {module.partition(".")[0] for module in modules} & HEAVY <= {"pathlib"} & _at_startup(environment)
    others = {
        "resource_wireguard.cli.service",
        "resource_wireguard.cli.doctor",
        "resource_wireguard.cli.compose",
    }
    assert not modules & others


def _at_startup(environment: dict[str, str]) -> set[str]:
    """What this Python imports before any of our code, for example for an editable installation."""
    listing = [sys.executable, "-c", "import sys; print(*sys.modules)"]
    shown = subprocess.run(listing, env=environment, capture_output=True, text=True, timeout=60)
    return set(shown.stdout.split())


def test_info_is_what_the_contract_wants(run: Run) -> None:
    facts = json.loads(run("info", "--json").stdout)
    assert 0 <= facts["startup_order"] <= 1000
    assert facts["dependencies"] == []
    assert 1 <= facts["recovery_attempts"] <= 5
    assert facts["priority"] in {"critical", "high", "medium", "low"}
    assert facts.keys() >= {"startup_time_estimate", "startup_timeout"}
    for name in facts:
        assert name in run("info").stdout


def test_version_and_info_come_in_every_form(run: Run) -> None:
    shown = {"name": "resource-wireguard", "version": __version__}
    assert json.loads(run("version", "--format", "json").stdout) == shown
    assert (
        run("version", "--format", "yaml").stdout == f'name: resource-wireguard\nversion: "{__version__}"\n'
    )
    assert run("info", "--format", "json").stdout == run("info", "--json").stdout
    assert "priority: high\n" in run("info", "--format", "yaml").stdout


@pytest.mark.parametrize("words", [("version",), ("--version",)])
def test_version(run: Run, words: tuple[str, ...]) -> None:
    assert run(*words).stdout == f"resource-wireguard {__version__}\n"
