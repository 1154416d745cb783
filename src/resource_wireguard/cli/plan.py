"""What the agent would change on this host now."""

import click

from resource_wireguard.cli import output
from resource_wireguard.cli.client import call
from resource_wireguard.cli.command import Command
from resource_wireguard.cli.options import format_option


@click.command(cls=Command, examples=("plan", "plan --format json"))
@format_option
def plan(format_: str) -> None:
    """What the agent would change on this host now; nothing is changed.

    The words are those of the journal. An empty plan means: the host is as specified.
    """
    found = call("plan")
    output.show(found, format_, lambda plan: plan["actions"])
    for problem in found["problems"]:
        output.error(problem["message"], problem["hint"])
    if format_ == "text" and not found["actions"]:
        output.note("nothing to do")
