"""vrooli/wireguard as files: what must lie there, what must not, and what its scripts do."""

import json
import re
import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.contract import DROP_IN, contract

from resource_wireguard.cli import about
from resource_wireguard.cli.main import ENVIRONMENT

STRUCTURE = contract()["file_structure"]
TEST = STRUCTURE["optional"]["test/"]
SCRIPTS = sorted(DROP_IN.rglob("*.sh"))

TYPES = {"integer": int, "string": str, "array<string>": list}


def call(*words: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a script with a bare environment."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    environment = {"PATH": path, "HOME": "/nonexistent", **environment}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder for PATH with a program that says how it was called and ends as told."""
    stand_in = tmp_path / "bin" / "resource-wireguard"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\necho "$@"\nexit ${ENDS_WITH:-0}\n')
    stand_in.chmod(0o755)
    return stand_in.parent


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The folder alone, as somebody copies it into a Vrooli checkout."""
    return Path(shutil.copytree(DROP_IN, tmp_path / "wireguard", ignore=shutil.ignore_patterns(".venv")))


def path_with(folder: Path) -> str:
    return f"{folder}:/usr/bin:/bin"


# -- what lies there --


@pytest.mark.parametrize("place", STRUCTURE["required"])
def test_required_files_are_there(place: str) -> None:
    names = STRUCTURE["required"][place].get("required_files", [""])
    for name in names:
        assert (DROP_IN / place / name).is_file() and not (DROP_IN / place / name).is_symlink()


def test_the_test_structure_is_there() -> None:
    for place, wanted in TEST["required_structure"].items():
        assert (DROP_IN / "test" / place).exists()
        if wanted.get("executable"):
            assert (DROP_IN / "test" / place).stat().st_mode & stat.S_IXUSR
        for name in wanted.get("required_files", ()):
            assert (DROP_IN / "test" / place / name).is_file()


def test_nothing_else_lies_there() -> None:
    """Files that the contract neither asks for nor allows have no place in a drop-in."""
    known = {"cli.sh", "README.md", ".shellcheckrc", "test/run-tests.sh"}
    for part in ("required", "optional"):
        for place, wanted in STRUCTURE[part].items():
            for kind in ("required_files", "optional_files", "recommended_files"):
                known |= {f"{place}{name}" for name in wanted.get(kind, ())}
    known |= {f"test/phases/{name}" for name in TEST["required_structure"]["phases/"]["required_files"]}
    found = {str(path.relative_to(DROP_IN)) for path in DROP_IN.rglob("*") if path.is_file()}
    assert {name for name in found if not name.startswith(".venv/")} <= known


def test_nothing_deprecated_is_there() -> None:
    assert not [name for name in STRUCTURE["deprecated"] if (DROP_IN / name).exists()]
    patterns = [
        entry["detection"] for kind in contract()["deprecated_patterns"].values() for entry in kind.values()
    ]
    assert patterns
    for path in SCRIPTS:
        for pattern in patterns:
            assert not re.search(pattern, path.read_text(), re.MULTILINE), f"{path}: {pattern}"


@pytest.mark.parametrize("pattern", contract()["security"]["file_permissions"])
def test_file_permissions(pattern: str) -> None:
    files = list(DROP_IN.glob(pattern))
    assert files
    wanted = contract()["security"]["file_permissions"][pattern]
    assert {f"{path.stat().st_mode & 0o777:o}" for path in files} == {wanted}


def test_layer_1() -> None:
    """Files exist (above), the syntax is valid, commands are registered as Vrooli greps for them."""
    for path in SCRIPTS:
        assert call("bash", "-n", path).returncode == 0, path
    text = (DROP_IN / "cli.sh").read_text()
    required = [word for word, entry in contract()["commands"].items() if entry["required"]]
    for word in required:
        assert re.search(rf'cli::register_command.*"{word}"', text), word


def test_compatibility() -> None:
    """Of tools, only what the contract grants and coreutils; the framework's registering is there."""
    needed = contract()["compatibility"]
    assert all(shutil.which(name) for name in needed["required_commands"])
    assert float(needed["bash_version_min"]) <= 4.0, "associative arrays and mapfile came with bash 4.0"
    assert not re.search(r"\$\{\w+@|declare -n|\bwait -n", "".join(p.read_text() for p in SCRIPTS)), "4.3 on"
    assert needed["framework_integration"] == {
        "cli_command_framework": "required",
        "resource_common": "required",
    }
    assert "cli::register_command()" in (DROP_IN / "cli.sh").read_text()


# -- runtime.json and settings: one source --


def test_runtime_json_is_the_programs() -> None:
    assert json.loads((DROP_IN / "config" / "runtime.json").read_text()) == about.runtime()
    assert contract()["runtime_configuration"]["file_path"] == "config/runtime.json"


@pytest.mark.parametrize("name", contract()["runtime_configuration"]["schema"])
def test_runtime_json_keeps_the_schema(name: str) -> None:
    wanted: Mapping[str, Any] = contract()["runtime_configuration"]["schema"][name]
    value = about.runtime()[name]
    assert isinstance(value, TYPES[wanted["type"]])
    if "range" in wanted:
        least, most = wanted["range"]
        assert least <= value <= most
    if "enum" in wanted:
        assert value in wanted["enum"]
    if "format" in wanted:
        assert wanted["format"] == "{min}-{max}s"
        low, high = re.fullmatch(r"(\d+)-(\d+)s", value).groups()
        assert int(low) < int(high) <= about.runtime()["startup_timeout"]


def test_the_settings_are_the_programs() -> None:
    schema = json.loads((DROP_IN / "config" / "schema.json").read_text())["properties"]
    told = {name: (default, what) for name, default, what in ENVIRONMENT if name != "NO_COLOR"}
    assert schema.keys() == told.keys()
    for name, entry in schema.items():
        default, what = told[name]
        assert entry["description"] == what
        if "default" in entry:
            assert str(entry["default"]) == default
    script = f'. {DROP_IN}/config/defaults.sh; for n in ${{!WIREGUARD_DEFAULT_@}}; do echo "$n=${{!n}}"; done'
    shown = dict(line.split("=", 1) for line in call("bash", "-c", script).stdout.splitlines())
    defaults = {name: str(entry["default"]) for name, entry in schema.items() if "default" in entry}
    del defaults["CONFIG_DIR"]
    assert {name.replace("_DEFAULT", "", 1): value for name, value in shown.items()} == defaults


# -- what the scripts do --


@pytest.mark.parametrize("what", STRUCTURE["required"]["cli.sh"]["must_support"])
def test_cli_sh_supports(what: str, copy: Path, program: Path) -> None:
    match what:
        case "Command routing":
            done = call(copy / "cli.sh", "peer", "add", "home", "a b", PATH=path_with(program))
            assert done.stdout == "peer add home a b\n"
        case "Help display":
            assert call(copy / "cli.sh", "--help", PATH=path_with(program)).stdout == "--help\n"
        case "Error handling":
            assert call(copy / "cli.sh", "status", PATH=path_with(program), ENDS_WITH="7").returncode == 7
        case _:
            pytest.fail(f"no test for: {what}")


@pytest.mark.parametrize("phase", contract()["commands"]["test"]["subcommands"])
def test_tests_are_delegated(phase: str, copy: Path, program: Path) -> None:
    """cli.sh test PHASE → the script that the contract names → the program's test PHASE."""
    entry = contract()["commands"]["test"]["subcommands"][phase]
    script, *words = entry["implementation_requirement"].removeprefix("Must delegate to ").split()
    assert (copy / script).is_file()
    done = call(copy / "cli.sh", "test", phase, PATH=path_with(program))
    phases = ["smoke", "unit", "integration"] if phase == "all" else [phase]
    assert (done.returncode, done.stdout) == (0, "".join(f"test {name}\n" for name in phases))
    (copy / script).write_text('#!/usr/bin/env bash\necho "asked: $*"\nexit 5\n')
    done = call(copy / "cli.sh", "test", phase, PATH=path_with(program))
    assert (done.returncode, done.stdout.split()) == (5, ["asked:", *words])


@pytest.mark.parametrize("what", TEST["required_structure"]["run-tests.sh"]["must_support"])
def test_the_runner_supports(what: str, program: Path) -> None:
    runner = DROP_IN / "test" / "run-tests.sh"

    def ran(*words: str) -> list[str]:
        return call(runner, *words, PATH=path_with(program)).stdout.splitlines()

    match what.split()[0]:
        case "Smoke" | "Integration" | "Unit" as word:
            assert ran(word.lower()) == ran(f"--{word.lower()}") == [f"test {word.lower()}"]
        case "Phase":
            for phase in re.findall(r"--(\w+)", what):
                assert len(ran(f"--{phase}")) == (3 if phase == "all" else 1)
            assert ran() == ran("--all")
        case "Standard":
            for code in ("0", "1", "2"):
                done = call(runner, PATH=path_with(program), ENDS_WITH=code)
                assert done.returncode == min(int(code), 1)
            assert call(runner, "--soak", PATH=path_with(program)).returncode == 1
        case _:
            pytest.fail(f"no test for: {what}")
