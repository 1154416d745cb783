"""Tests of the resource as it is installed on this host; they need no test tools and leave nothing.

runner.py        runs named checks within a time limit and prints what came of them
smoke.py         the service answers and is healthy; keys can be made
unit.py          keys, addresses, names, configs and sealed secrets, in this process
integration.py   asks for the stage in namespaces of its own
stage.py         there: two agents, a tunnel between them, traffic, and nothing left
wire.py          the cable between the two
"""

from collections.abc import Callable

import click

from resource_wireguard.cli.command import Group
from resource_wireguard.cli.options import format_option


@click.group(cls=Group)
def test() -> None:
    """Test the resource as it is installed on this host. No tunnel of yours is touched."""


@test.command(examples=("test smoke",))
@format_option
def smoke(format_: str) -> int:
    """Whether the service answers, is healthy, and can make keys; within 30 seconds."""
    return _run(format_, "smoke")


@test.command(examples=("test unit",))
@format_option
def unit(format_: str) -> int:
    """Keys, addresses, configs and sealed secrets, in this process; within 60 seconds.

    Exit code 2: there is no scratch space for it.
    """
    return _run(format_, "unit")


@test.command(examples=("test integration",))
@format_option
def integration(format_: str) -> int:
    """A throw-away tunnel between two throw-away hosts on this host; within 120 seconds.

    Both live in namespaces that the kernel removes with the test, however it ends. Exit code 2: this
    process may not make namespaces.
    """
    return _run(format_, "integration")


@test.command("all", examples=("test all", "test all --format json"))
@format_option
def all_(format_: str) -> int:
    """All of them: smoke, unit, integration. Exit code: 1 if one failed, 2 if one could not run."""
    return _run(format_, "smoke", "unit", "integration")


def _run(format_: str, *phases: str) -> int:
    from resource_wireguard.cli.selftest.integration import integration_phase
    from resource_wireguard.cli.selftest.runner import Outcome, run_phases
    from resource_wireguard.cli.selftest.smoke import smoke_phase
    from resource_wireguard.cli.selftest.unit import unit_phase

    known: dict[str, Callable[[], list[Outcome]]] = {
        "smoke": smoke_phase,
        "unit": unit_phase,
        "integration": integration_phase,
    }
    return run_phases({phase: known[phase] for phase in phases}, format_)
