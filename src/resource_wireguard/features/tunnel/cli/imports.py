"""content add --file: a wg-quick config read here and understood by the agent."""

import os
from typing import Any

import click
from click.core import ParameterSource

from resource_wireguard.cli.client import call
from resource_wireguard.cli.files import read_config
from resource_wireguard.cli.options import given
from resource_wireguard.errors import InvalidInput

BESIDE_A_FILE = {"name", "by_option", "path", "type_", "ignore_hooks", "interface", "format_"}
"""The options that make sense with --file; what the others say stands in the file."""


def import_file(path: str, name: str, ignore_hooks: bool) -> Any:
    """Ask the agent to store what a file says; its refusals name the file."""
    context = click.get_current_context()
    _refuse_others(context)
    request = given(name=name, interface=context.params["interface"], ignore_hooks=ignore_hooks or None)
    return call_with_file("tunnel.import", request, path)


def call_with_file(command: str, request: dict[str, Any], path: str | None) -> Any:
    """Ask the agent, and send it what a file says, if there is one; what it finds wrong names the file."""
    if path is None:
        return call(command, request)
    text = read_config(path)
    try:
        return call(command, {**request, "text": text})
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error.message}", error.hint) from None


def stem_of(path: str) -> str:
    """'/etc/wireguard/wg0.conf' → 'wg0'; nothing for stdin."""
    return "" if path == "-" else os.path.splitext(os.path.basename(path))[0]


def _refuse_others(context: click.Context) -> None:
    for parameter in context.command.params:
        word = parameter.name or ""
        typed = context.get_parameter_source(word) is ParameterSource.COMMANDLINE
        if typed and word not in BESIDE_A_FILE:
            raise click.UsageError(
                f"{parameter.opts[0]} and --file exclude each other: change it afterwards", context
            )
