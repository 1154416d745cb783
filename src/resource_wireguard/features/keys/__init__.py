"""Keys at rest: what opens them, and changing that."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resource_wireguard.engine.feature import Feature

NAME = "keys"

GROUPS = {"keys": "Where the keys of this host lie and what opens them: unlock, rekey."}


def feature() -> "Feature":
    """The feature as the agent needs it."""
    from resource_wireguard.engine.feature import Feature
    from resource_wireguard.features.keys.commands import COMMANDS

    return Feature(NAME, commands=COMMANDS)
