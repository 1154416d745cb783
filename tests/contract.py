"""The Vrooli contract as data: what it asks of commands, files and times, for the tests that walk it."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[1]
PATH = CHECKOUT / "tests" / "cases" / "contract" / "universal.yaml"
DROP_IN = CHECKOUT / "vrooli" / "wireguard"

Words = tuple[str, ...]
Leaf = tuple[str, Any]


@cache
def contract() -> dict[str, Any]:
    """The file as it was given; its regular expressions stand in double quotes, where YAML knows no \\s."""
    text = re.sub(r'detection: ".*"', lambda found: found[0].replace("\\", "\\\\"), PATH.read_text())
    return yaml.safe_load(text)


def commands() -> dict[str, dict[str, Any]]:
    """What the contract says of each command that can be run: 'manage install' → its entry."""
    found = {}
    for word, entry in contract()["commands"].items():
        inner = entry.get("subcommands") or {}
        found |= {f"{word} {second}": inner[second] for second in inner}
        if not inner:
            found[word] = entry
    return found


def exit_codes() -> list[tuple[str, int]]:
    """Every command with every exit code it has."""
    return [(name, code) for name, entry in commands().items() for code in entry["exit_codes"]]


def flags() -> list[tuple[str, str]]:
    """Every command with every flag it has."""
    return [(name, flag) for name, entry in commands().items() for flag in entry.get("flags", ())]


def flag(command: str, name: str) -> dict[str, Any]:
    """What the contract says of a flag."""
    return commands()[command]["flags"][name]


def seconds(command: str) -> float:
    """How long a command may take."""
    given = contract()["performance"]["command_response_time"]
    return commands()[command].get("timeout_seconds") or given.get(command) or given["other"]


def outputs() -> list[tuple[str, str]]:
    """Every command with everything its output must include."""
    said = {name: entry.get("output", {}).get("must_include", ()) for name, entry in commands().items()}
    return [(name, part) for name, parts in said.items() for part in parts]


def leaves(value: Any = None, path: str = "") -> Iterator[Leaf]:
    """Every statement of the contract with its place: 'commands/help/exit_codes/0' and so on."""
    if not path:
        value = contract()
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            yield from leaves(inner, f"{path}/{key}")
    else:
        yield path.removeprefix("/"), value
