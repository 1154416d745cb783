"""Isolation: programs that reach the world through one tunnel only, or not at all.

tables.py         the only SQL: namespaces in and out of the store
compile.py        specs and facts → records of the host state; pure
compile_netns.py  the same of kind 'netns'
choose.py         which number and prefix is free
commands.py       the namespace.* commands
containers.py     those of them that move containers
netns.py          what those of kind 'netns' are refused, show and give to programs
views.py          what the bus shows of a namespace, and its part of the service's health
cli.py            the commands of the group 'namespace'
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resource_wireguard.engine.feature import Feature

NAME = "isolation"

GROUPS = {"namespace": "Programs that reach the world through one tunnel only."}


def feature() -> "Feature":
    """Isolation as the registry lists it."""
    from resource_wireguard.engine.feature import Feature
    from resource_wireguard.features.isolation import commands, containers
    from resource_wireguard.features.isolation.compile import compile_namespaces, questions, remaining
    from resource_wireguard.features.isolation.tables import MIGRATIONS, load
    from resource_wireguard.features.isolation.views import checks

    return Feature(
        name=NAME,
        migrations=MIGRATIONS,
        load=load,
        compile=compile_namespaces,
        remaining=remaining,
        questions=questions,
        commands=(*commands.COMMANDS, *containers.COMMANDS),
        checks=checks,
    )
