"""The one list of features. A new one is its folder in features/ and its word here.

A feature's package is light (names and one-line help); its click commands lie in its cli.py, found by
name when they are used; what the agent needs of it is imported by its feature() alone.
"""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resource_wireguard.engine.feature import Feature

FEATURES = ("tunnel", "network", "isolation", "monitor", "keys", "rotate")


def load_features() -> "list[Feature]":
    """All features as the agent needs them, in registry order."""
    return [package.feature() for package in _packages()]


def feature_groups() -> dict[str, str]:
    """The command groups of all features with their help, in registry order."""
    return _manifest("GROUPS")


def feature_actions() -> dict[str, str]:
    """The single commands of all features that change something, with their help, in registry order."""
    return _manifest("ACTIONS")


def feature_commands() -> dict[str, str]:
    """The single commands of all features that only look, with their help, in registry order."""
    return _manifest("COMMANDS")


def module_of(command: str) -> str | None:
    """The module with the click object of a feature's group or command."""
    for name, package in zip(FEATURES, _packages(), strict=True):
        if any(command in _words(package, kind) for kind in ("GROUPS", "ACTIONS", "COMMANDS")):
            return f"resource_wireguard.features.{name}.cli"
    return None


def _manifest(kind: str) -> dict[str, str]:
    return {word: text for package in _packages() for word, text in _words(package, kind).items()}


def _words(package: ModuleType, kind: str) -> Mapping[str, str]:
    words: Mapping[str, str] = getattr(package, kind, {})
    return words


def _packages() -> list[ModuleType]:
    return [import_module(f"resource_wireguard.features.{name}") for name in FEATURES]
