"""Every command there is, as it is typed."""

from collections.abc import Iterator

import click

from resource_wireguard.cli.main import root


def all_commands() -> list[tuple[str, ...]]:
    """All groups and commands; a placeholder stands where a group wants an argument before its command."""
    return list(_below(root, ()))


def _below(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    wanted = tuple("x" for parameter in group.params if isinstance(parameter, click.Argument))
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        assert command is not None
        yield (*path, *wanted, word)
        if isinstance(command, click.Group):
            yield from _below(command, (*path, *wanted, word))
