"""Isolation: programs that reach the world through one tunnel only, or not at all.

tables.py    the only SQL: namespaces in and out of the store
compile.py   specs and facts → records of the host state; pure
commands.py  the namespace.* commands
cli.py       the commands of the group 'namespace'
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resource_wireguard.engine.feature import Feature

NAME = "isolation"

GROUPS = {"namespace": "Programs that reach the world through one tunnel only."}


def feature() -> "Feature":
    """Isolation as the registry lists it."""
    from resource_wireguard.engine.feature import Feature
    from resource_wireguard.features.isolation.commands import COMMANDS
    from resource_wireguard.features.isolation.compile import compile_namespaces
    from resource_wireguard.features.isolation.tables import MIGRATIONS, load

    return Feature(name=NAME, migrations=MIGRATIONS, load=load, compile=compile_namespaces, commands=COMMANDS)
