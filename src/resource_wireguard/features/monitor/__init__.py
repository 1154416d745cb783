"""Watching: the health of the service, and what the tunnels carry."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resource_wireguard.engine.feature import Feature

NAME = "monitor"

GROUPS: dict[str, str] = {}

COMMANDS = {
    "status": "What runs, and what is wrong.",
    "stats": "What the tunnels and peers have carried.",
}


def feature() -> "Feature":
    """The feature as the agent needs it."""
    from resource_wireguard.features.monitor.commands import feature as build

    return build()
