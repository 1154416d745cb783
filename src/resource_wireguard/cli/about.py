"""What a supervisor wants to know of this service: runtime.json, as the Vrooli contract defines it."""

import json
import os
from collections.abc import Iterator
from typing import Any

import click

from resource_wireguard import __version__
from resource_wireguard.cli import output, placement
from resource_wireguard.cli.command import Command
from resource_wireguard.cli.options import format_option


@click.command(cls=Command, examples=("info", "info --json"))
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@format_option
def info(as_json: bool, format_: str) -> None:
    """Facts for a supervisor: start order, dependencies, time-outs, priority."""
    facts = {**runtime(), "version": __version__, **placement.described()}
    output.show(facts, "json" if as_json else format_, _lines)


def runtime() -> dict[str, Any]:
    """The content of runtime.json, which lies beside this file in the wheel."""
    with open(f"{os.path.dirname(__file__)}/runtime.json", encoding="utf-8") as file:
        content: dict[str, Any] = json.load(file)
    return content


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    return output.fields((name, _words(value)) for name, value in facts.items())


def _words(value: Any) -> str:
    return (", ".join(value) or "none") if isinstance(value, list) else str(value)
