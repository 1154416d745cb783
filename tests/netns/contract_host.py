"""A host as Vrooli has it: the real command line and the drop-in, in a namespace of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.contract import DROP_IN
from tests.netns.harness import Agent, Lab, new_name

Done = SimpleNamespace
"""code, stdout, stderr and seconds of a command that ended."""


class Host:
    """Runs commands; what is asked for twice (an installed, a started host, a tunnel) is made once."""

    def __init__(self, lab: Lab, **settings: str) -> None:
        self.namespace = lab.namespace("host")  # two agents in one would fight for what carries their mark
        self.agent: Agent = lab.agent(self.namespace, settings=settings)
        self.config_dir = self.agent.config_dir
        self.tunnel_name = new_name("c")
        self.folder = Path(f"{self.config_dir}.files")
        self.folder.mkdir()
        self._made: set[str] = set()

    # -- running things --

    def run(self, *words: str, before: tuple[str, ...] = (), **environment: str) -> Done:
        """Run a command of the program."""
        return self._run([*before, sys.executable, "-m", "resource_wireguard", *words], environment)

    def script(self, path: str, *words: str, before: tuple[str, ...] = (), **environment: str) -> Done:
        """Run a script of the drop-in, which finds the program on PATH."""
        program = self.folder / "bin" / "resource-wireguard"
        if not program.exists():
            program.parent.mkdir()
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m resource_wireguard "$@"\n')
            program.chmod(0o755)
        environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", **environment}
        return self._run([*before, "bash", str(DROP_IN / path), *words], environment)

    def endless(self, *words: str) -> Done:
        """Run a command that ends by Ctrl-C only; it is pressed after the first line."""
        argv = [*self._enter(), sys.executable, "-m", "resource_wireguard", *words]
        process = subprocess.Popen(argv, env=self.agent.environment(), stdout=subprocess.PIPE, text=True)
        assert process.stdout
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
        return Done(code=process.returncode, stdout=line + rest, stderr="", seconds=0.0)

    def _enter(self) -> list[str]:
        return ["ip", "netns", "exec", self.namespace.name]

    def _run(self, argv: list[str], environment: dict[str, str]) -> Done:
        begin = time.monotonic()
        done = subprocess.run(
            [*self._enter(), *argv],
            env={**self.agent.environment(), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        took = time.monotonic() - begin
        return Done(code=done.returncode, stdout=done.stdout, stderr=done.stderr, seconds=took)

    # -- getting there --

    def done(self, *words: str, **environment: str) -> None:
        """Run a command that must succeed."""
        done = self.run(*words, **environment)
        assert done.code == 0, f"{words}: {done.stderr}"

    def installed(self) -> None:
        """An installed resource."""
        if "installed" not in self._made:
            self.done("manage", "install", "--force")
            self._made.add("installed")

    def started(self) -> None:
        """A running service."""
        self.installed()
        if "started" not in self._made:
            self.done("manage", "start", "--wait")
            self._made.add("started")

    def stopped(self) -> None:
        """A service that was stopped again."""
        self.installed()
        if "started" in self._made:
            self.done("manage", "stop")
            self._made.discard("started")

    def tunnel(self) -> str:
        """The name of a tunnel that is up."""
        self.started()
        if "tunnel" not in self._made:
            self.done("interface", "create", self.tunnel_name)
            self._made.add("tunnel")
        return self.tunnel_name

    def pid(self) -> int:
        """The agent."""
        return int((self.config_dir / "run" / "agent.lock").read_text().split()[0])

    def config_file(self) -> Path:
        """A config of wg-quick's to be added as content."""
        path = self.folder / "wg0.conf"
        key = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="
        path.write_text(f"[Interface]\nPrivateKey = {key}\nAddress = 10.77.0.1/24\nListenPort = 51977\n")
        path.chmod(0o600)
        return path

    def close(self) -> None:
        """End the agent, whatever state it is in, and forget its files."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(self.pid(), signal.SIGCONT)
        self.run("manage", "stop", "--force", "--timeout", "10")
        shutil.rmtree(self.config_dir, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def host_in(lab: Lab, **settings: str) -> Iterator[Host]:
    """A host for as long as it is needed."""
    host = Host(lab, **settings)
    try:
        yield host
    finally:
        host.close()


@contextlib.contextmanager
def paused(pid: int) -> Iterator[None]:
    """A process that does nothing for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def without_namespaces() -> tuple[str, ...]:
    """Words before a command, which then may not make namespaces."""
    return ("setpriv", "--bounding-set=-sys_admin")


__all__ = ["Any", "Done", "Host", "host_in", "paused", "without_namespaces"]
