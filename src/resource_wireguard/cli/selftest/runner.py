"""Named checks, one after the other, within a time limit; and what came of them, in words."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

from resource_wireguard.cli import output
from resource_wireguard.errors import HostError, ResourceError

PASSED, FAILED, SKIPPED = "ok", "failed", "skipped"

LIMITS = {"smoke": 25, "unit": 50, "integration": 110}
"""Seconds a phase may take: the contract's 30, 60 and 120, less what tidying up and starting may cost."""

Check = tuple[str, Callable[[], str]]
"""What is looked at, and the function that looks: it returns what it saw, or raises a ResourceError."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one check."""

    check: str
    result: str
    message: str
    hint: str = ""


class Unavailable(ResourceError):
    """A phase cannot run here, which says nothing about the resource."""

    kind = "unavailable"
    exit_code = 2


def run_checks(checks: Sequence[Check], needs_all: bool = False) -> list[Outcome]:
    """Run the checks; with needs_all each needs those before it, so the first failure is the last check."""
    outcomes = []
    for name, look in checks:
        outcomes.append(_outcome(name, look))
        if needs_all and outcomes[-1].result == FAILED:
            break
    return outcomes


def run_phases(phases: Mapping[str, Callable[[], list[Outcome]]], format_: str) -> int:
    """Run the phases, print what came of them, and return the contract's exit code."""
    found = {}
    for name, phase in phases.items():
        found[name] = _run_phase(name, phase)
        if format_ == "text":
            for line in _lines(found[name]):
                print(line, flush=True)
    if format_ != "text":
        output.show(found, format_, lambda _: ())
    results = {phase["result"] for phase in found.values()}
    return 1 if FAILED in results else 2 if SKIPPED in results else 0


def expect(holds: bool, message: str, hint: str = "") -> None:
    """Fail the check unless it holds."""
    if not holds:
        raise HostError(message, hint)


@contextmanager
def time_limit(seconds: int, what: str) -> Iterator[None]:
    """Raise HostError in this thread, the main one, when the time is up."""

    def ring(_: int, __: FrameType | None) -> None:
        raise HostError(f"{what} did not end within {seconds} s", "see 'resource-wireguard logs'")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _run_phase(name: str, phase: Callable[[], list[Outcome]]) -> dict[str, Any]:
    begin = time.monotonic()
    try:
        with time_limit(LIMITS[name], f"the {name} test"):
            outcomes = phase()
    except Unavailable as unavailable:
        outcomes = [Outcome("available", SKIPPED, unavailable.message, unavailable.hint)]
    except ResourceError as error:
        outcomes = [Outcome("finished", FAILED, error.message, error.hint)]
    results = {outcome.result for outcome in outcomes}
    result = FAILED if FAILED in results else SKIPPED if SKIPPED in results else PASSED
    seconds = round(time.monotonic() - begin, 3)
    return {"phase": name, "result": result, "seconds": seconds, "checks": [asdict(o) for o in outcomes]}


def _outcome(name: str, look: Callable[[], str]) -> Outcome:
    try:
        return Outcome(name, PASSED, look())
    except Unavailable:
        raise
    except ResourceError as error:
        return Outcome(name, FAILED, error.message, error.hint)
    except (OSError, ValueError, LookupError, ImportError) as error:
        return Outcome(name, FAILED, f"{type(error).__name__}: {error}")


def _lines(phase: dict[str, Any]) -> Iterator[str]:
    for check in phase["checks"]:
        word = output.coloured(check["result"]) + " " * (len(SKIPPED) - len(check["result"]))
        yield f"{word}  {check['check']}: {output.one_line(check['message'])}"
        if check["hint"]:
            yield f"{'':{len(SKIPPED)}}  hint: {output.one_line(check['hint'])}"
    passed = sum(check["result"] == PASSED for check in phase["checks"])
    total = len(phase["checks"])
    yield f"{phase['phase']}: {phase['result']}, {passed} of {total} checks in {phase['seconds']:.1f} s"
