"""The rules that matter, as tests: what the tools say, and what no tool checks (source_rules.py)."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path, PurePath

import pytest
from packaging.requirements import Requirement
from tests.unit import source_rules as rules

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = CHECKOUT / "src" / "resource_wireguard"
BIN = Path(sys.executable).parent


def project_files() -> list[Path]:
    """Every file that git tracks or would: also the new ones, before somebody forgets about them."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    printed = subprocess.run(listing, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True).stdout
    return sorted(path for name in printed.split("\0") if name and (path := CHECKOUT / name).is_file())


FILES = project_files()
MODULES = [path for path in FILES if path.suffix == ".py" and path.is_relative_to(PACKAGE)]


def texts(files: Iterable[Path]) -> Iterable[tuple[PurePath, str]]:
    """Name in the checkout and content of each file that is text."""
    for path in files:
        content = path.read_bytes()
        if b"\0" not in content:
            yield PurePath(path.relative_to(CHECKOUT)), content.decode()


def expect_none(violations: Iterable[str]) -> None:
    if found := list(violations):
        pytest.fail("\n" + "\n".join(found), pytrace=False)


def expect_success(argv: list[str | Path]) -> None:
    done = subprocess.run(argv, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        pytest.fail(f"{Path(argv[0]).name} found:\n{done.stdout}", pytrace=False)


@pytest.mark.parametrize(
    "command",
    [
        "ruff check --output-format concise",
        "ruff format --check",
        "mypy --no-error-summary",
        "lint-imports --no-logo",
    ],
    ids=lambda command: command.split(" --")[0],
)
def test_the_tools_are_content(command: str) -> None:
    tool, *arguments = command.split()
    expect_success([BIN / tool, *arguments])


def test_shellcheck_is_content() -> None:
    if not (shellcheck := shutil.which("shellcheck")):
        pytest.skip("shellcheck is not installed (scripts/bootstrap test)")
    shebang = b"#!/usr/bin/env bash\n"
    scripts = [path for path in FILES if path.suffix == ".sh" or path.read_bytes().startswith(shebang)]
    assert scripts
    expect_success([shellcheck, "--format=gcc", *scripts])


@pytest.mark.parametrize(
    "rule",
    [
        lambda module, text, tree: rules.wrong_imports(module, tree),
        lambda module, text, tree: rules.broad_excepts(module, tree),
        lambda module, text, tree: rules.missing_docstring(module, tree),
        rules.oversize,
    ],
    ids=["imports", "broad-excepts", "docstrings", "sizes"],
)
def test_every_module_keeps_the_rule(rule: Callable[[str, str, ast.Module], Iterable[str]]) -> None:
    assert MODULES
    sources = [(str(path.relative_to(PACKAGE)), path.read_text()) for path in MODULES]
    found = [line for module, text in sources for line in rule(module, text, ast.parse(text))]
    expect_none(f"src/{PACKAGE.name}/{line}" for line in found)


def test_every_folder_of_modules_is_a_package() -> None:
    expect_none(rules.folders_without_init(path.relative_to(CHECKOUT) for path in MODULES))


def test_tests_say_what_they_are_for() -> None:
    modules = [
        (path, text) for path, text in texts(FILES) if path.parts[0] == "tests" and path.suffix == ".py"
    ]
    expect_none(
        line for path, text in modules for line in rules.missing_docstring(str(path), ast.parse(text))
    )


def test_no_file_names_a_registry_or_somebodys_machine() -> None:
    expect_none(line for path, text in texts(FILES) for line in rules.machine_traces(str(path), text))


def test_links_between_pages_lead_somewhere() -> None:
    names = {PurePath(path.relative_to(CHECKOUT)) for path in FILES}
    pages = [(path, text) for path, text in texts(FILES) if path.suffix == ".md"]
    expect_none(line for path, text in pages for line in rules.dead_links(path, text, names))


@pytest.mark.parametrize("lock", ["runtime.txt", "dev.txt"])
def test_a_lock_holds_nothing_but_pins_and_hashes(lock: str) -> None:
    expect_none(rules.foreign_lock_lines(lock, (CHECKOUT / "requirements" / lock).read_text()))


@pytest.mark.parametrize(("lock", "extra"), [("runtime.txt", None), ("dev.txt", None), ("dev.txt", "dev")])
def test_a_lock_has_what_the_project_asks_for(lock: str, extra: str | None) -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    asked = project["optional-dependencies"][extra] if extra else project["dependencies"]
    pins = dict(
        re.findall(r"^([\w.-]+)==(\S+)", (CHECKOUT / "requirements" / lock).read_text(), re.MULTILINE)
    )
    for requirement in map(Requirement, asked):
        pinned = pins.get(requirement.name)
        assert pinned, f"{requirement} is not in requirements/{lock}; run scripts/lock"
        assert requirement.specifier.contains(pinned), (
            f"{lock} pins {pinned}, not {requirement}; run scripts/lock"
        )


def test_the_environment_is_the_locks() -> None:
    pins = re.findall(r"^([\w.-]+)==(\S+)", (CHECKOUT / "requirements" / "dev.txt").read_text(), re.MULTILINE)
    expect_none(
        f"{name} is {version(name)} here, {pinned} in dev.txt"
        for name, pinned in pins
        if version(name) != pinned
    )
