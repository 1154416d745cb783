"""Real agents that kill themselves with SIGKILL after so many actions: a test runs this as a script.

Reads a number from stdin, forks an agent that dies after that many actions (0: never; with a point in it:
after so many seconds, by a signal that nothing catches), and prints how it ended. Forking spares each of a
hundred lives the import of Python and all; the agents themselves are the product's own, over its own host.
"""

import os
import signal
import sys
from pathlib import Path

from resource_wireguard.cli import compose
from resource_wireguard.host.diff import Plan
from resource_wireguard.host.facts import Problem
from resource_wireguard.model.settings import settings_from
from resource_wireguard.system.linux import LinuxHost


class MortalHost:
    """A host that carries out so many actions and then takes its process along; it is the real one else."""

    def __init__(self, host: object, lifetime: int) -> None:
        self._host = host
        self._left = lifetime

    def __getattr__(self, name: str) -> object:
        return getattr(self._host, name)

    def apply(self, plan: Plan) -> tuple[Problem, ...]:
        problems = self._host.apply(plan[: self._left])
        self._left -= len(plan)
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return problems


def live(lifetime: str) -> None:
    """One life of an agent; returns only when it was told to end."""
    if "." in lifetime:
        signal.setitimer(signal.ITIMER_REAL, float(lifetime))
    actions = 0 if "." in lifetime else int(lifetime)
    config_dir = Path(os.environ["CONFIG_DIR"])
    host = LinuxHost(settings_from(os.environ), config_dir / "engines.log")
    compose.run_agent(config_dir, os.environ, MortalHost(host, actions) if actions else host)


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                live(line.strip())
            finally:
                os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


main()
