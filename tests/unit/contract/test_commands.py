"""Every command and flag of the contract, in the program's own tree of commands."""

import click
import pytest
from tests import contract

from resource_wireguard.cli.main import root

KINDS = {"boolean": bool, "integer": int, "string": str}
"""How the contract calls what a flag takes."""


def command(name: str) -> click.Command:
    """The click object of 'manage install'."""
    found: click.Command = root
    for word in name.split():
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), word)
        assert inner is not None, f"there is no command '{name}'"
        found = inner
    return found


def option(name: str, flag: str) -> click.Option:
    """One option of a command."""
    options = [p for p in command(name).params if isinstance(p, click.Option) and flag in p.opts]
    assert options, f"'{name}' has no {flag}"
    return options[0]


@pytest.mark.parametrize("name", contract.commands())
def test_the_command_is_there(name: str) -> None:
    assert command(name).help
    assert name.split()[0] in root.list_commands(click.Context(root)), "and on the first page"


@pytest.mark.parametrize(("name", "flag"), contract.flags())
def test_the_flag_is_there(name: str, flag: str) -> None:
    wanted, found = contract.flag(name, flag), option(name, flag)
    assert wanted.keys() <= {"type", "description", "default", "values", "required"}
    assert found.is_flag == (wanted["type"] == "boolean")
    if not found.is_flag:
        assert not found.multiple
    if "default" in wanted:
        default = found.get_default(click.Context(command(name)))
        default = bool(default) if found.is_flag and default is not True else default
        assert default == wanted["default"]
        assert isinstance(default, KINDS[wanted["type"]])
    if "values" in wanted:
        assert isinstance(found.type, click.Choice)
        assert set(wanted["values"]) <= set(found.type.choices)


REQUIRED = [(name, flag) for name, flag in contract.flags() if contract.flag(name, flag).get("required")]


@pytest.mark.parametrize(("name", "flag"), REQUIRED)
def test_a_required_flag_is_missed(run, name: str, flag: str) -> None:
    """It may be given as an argument instead; without either nothing is asked for."""
    refused = run(*name.split())
    assert refused.returncode == 1
    assert flag.strip("-").upper() in refused.stderr
