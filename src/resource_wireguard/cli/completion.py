"""Completion of commands in bash, zsh and fish."""

import os

import click

from resource_wireguard.cli.command import Command

COMPLETION = "_RESOURCE_WIREGUARD_COMPLETE"
"""Set by the shell's function when it asks what could come next (click's protocol); as in main.py."""

PROGRAM = "resource-wireguard"

PLACES = {
    "bash": "/etc/bash_completion.d/resource-wireguard",
    "zsh": "/usr/local/share/zsh/site-functions/_resource-wireguard",
    "fish": "/etc/fish/completions/resource-wireguard.fish",
}


@click.command(
    cls=Command,
    examples=(
        f"completion bash > {PLACES['bash']}",
        f"completion zsh > {PLACES['zsh']}",
        f"completion fish > {PLACES['fish']}",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete this program's commands and options."""
    from click import shell_completion

    kind = shell_completion.get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root().command
    writer = kind(root, {}, PROGRAM, COMPLETION)
    # click would start bash to ask for its version, and a script must not depend on who writes it.
    print(writer.source_template % writer.source_vars())


def answer(root: click.Command) -> int:
    """Tell the shell that asks what could come next; the exit code."""
    from click import shell_completion

    return shell_completion.shell_complete(root, {}, PROGRAM, COMPLETION, os.environ[COMPLETION])
