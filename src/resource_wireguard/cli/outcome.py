"""What became of a change, as a person reads it. Imported by features too: nothing heavy here."""

from collections.abc import Iterator
from typing import Any

from resource_wireguard.cli import output


def result_lines(result: dict[str, Any]) -> Iterator[str]:
    """What was done on the host, and what is still to be done."""
    if result["actions"]:
        yield "on the host:"
    yield from (f"  {line}" for line in result["actions"])
    if result["drift"]:
        yield "still to be done:"
    yield from (f"  {line}" for line in result["drift"])


def show_problems(result: dict[str, Any]) -> None:
    """What the host refused, on stderr."""
    for problem in result["problems"]:
        output.error(problem["message"], problem["hint"])


def show_pending(pending: dict[str, Any] | None) -> None:
    """That somebody has to say yes."""
    if pending:
        output.note(f"taken back in {pending['seconds_left']} s unless you run: resource-wireguard confirm")
