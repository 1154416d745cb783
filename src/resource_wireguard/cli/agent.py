"""The agent in the foreground: what 'manage start' and service supervisors run."""

import os

import click

from resource_wireguard.cli.client import config_dir
from resource_wireguard.cli.command import Command


@click.command(cls=Command, examples=("agent", "agent --log-level debug"))
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    envvar="WIREGUARD_LOG_LEVEL",
    default="info",
    show_default=True,
    help="What to log, on stderr.",
)
def agent(log_level: str) -> None:
    """Run the agent in the foreground until it is told to end.

    SIGTERM ends the agent and leaves the tunnels up; 'manage stop' takes them down.
    """
    from pathlib import Path

    from resource_wireguard.cli.compose import run_agent

    run_agent(Path(config_dir()), {**os.environ, "WIREGUARD_LOG_LEVEL": log_level})
