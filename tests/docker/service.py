"""The command line as somebody has it who runs the agent in a container."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.docker.daemon import Daemon
from tests.netns.harness import Namespace, wait_until

NAME = "vrooli-wireguard"


@dataclass
class Service:
    """A CONFIG_DIR, and the program of a checkout, on the host that Docker runs on."""

    checkout: Path
    config_dir: Path
    daemon: Daemon
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> Namespace:
        return self.daemon.namespace

    def run(self, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """One command to its end, on that host."""
        argv = [sys.executable, "-m", "resource_wireguard", *words]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(self.checkout / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "CONFIG_DIR": str(self.config_dir),
            **self.daemon.environment,
            **self.settings,
            **more,
        }
        return subprocess.run(
            ["ip", "netns", "exec", self.host.name, *argv],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def ok(self, *words: str, **more: str) -> str:
        """What a command that must not fail printed on stdout."""
        done = self.run(*words, **more)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout

    def json(self, *words: str) -> Any:
        """The result of a command that shows something; status may say 'unhealthy'."""
        return json.loads(self.run(*words, "--format", "json").stdout)

    def info(self) -> Any:
        """What 'info' says."""
        return json.loads(self.ok("info", "--json"))

    def start(self) -> None:
        """Start it, unless it runs."""
        done = self.run("manage", "start", "--wait")
        assert done.returncode in (0, 2), f"{done.stderr}\n{self.log()}"

    def inspected(self) -> dict[str, Any]:
        """The container as the daemon describes it."""
        return dict(self.daemon.client.api.inspect_container(NAME))

    def log(self) -> str:
        """What the agent printed."""
        return self.run("logs", "--tail", "100").stdout

    def healthy(self) -> bool:
        """Whether the agent says so."""
        return bool(self.json("status")["healthy"])

    def wait_until_healthy(self) -> None:
        wait_until(self.healthy, what="a healthy service")
