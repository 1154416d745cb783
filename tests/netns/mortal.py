"""An agent that lives many short lives, for tests that kill it in the middle of things."""

import os
import select
import signal
import subprocess
import sys

from tests.netns.harness import CHECKOUT, Agent, wait_until


class MortalAgent(Agent):
    """Lives of an agent that each end after so many actions (mortal_agent.py)."""

    def open(self) -> None:
        self.config_dir.mkdir(mode=0o700)
        entry = str(CHECKOUT / "tests" / "netns" / "mortal_agent.py")
        argv = ["ip", "netns", "exec", self.namespace.name, sys.executable, entry]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(argv, stderr=log, env=self.environment(), **pipes)

    def live(self, lifetime: float = 0) -> bool:
        """Begin a life that ends after so many actions (int) or seconds (float); False if it is over."""
        self.process.stdin.write(f"{lifetime}\n")
        self.process.stdin.flush()
        wait_until(lambda: self.is_dead() or self._answers(), what="a life or a death")
        return not self.is_dead()

    def death(self) -> int:
        """Wait for the end of a life: an exit code, or minus a signal."""
        wait_until(self.is_dead, what="the end of a life")
        return int(self.process.stdout.readline())

    def retire(self) -> None:
        """End a life by SIGTERM: the tunnels stay."""
        os.kill(self.call("agent.info")["pid"], signal.SIGTERM)
        assert self.death() == 0

    def stop(self) -> None:
        """End a life and take the tunnels down."""
        self.call("agent.stop")
        assert self.death() == 0

    def is_dead(self) -> bool:
        """Whether a life is over and `death` has not been asked about it yet."""
        return bool(select.select([self.process.stdout], [], [], 0)[0])
