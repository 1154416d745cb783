"""One file for the whole network: network.yaml, out and in.

    marked_yaml.py   text of YAML to plain values, with the line and column of each
    cli.py           export and apply

What the document means is the tunnel feature's to say (its document.py): this one turns paths into lines.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resource_wireguard.engine.feature import Feature

NAME = "network"

ACTIONS = {
    "apply": "Make all tunnels and peers as a file says.",
    "export": "All tunnels and peers as one file, without their keys.",
}


def feature() -> "Feature":
    """Nothing in the agent: the file is read where it lies."""
    from resource_wireguard.engine.feature import Feature

    return Feature(NAME)
