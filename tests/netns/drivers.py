"""The real host's drivers in a namespace of their own: what the test_drivers_*.py files stand on."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.netns.harness import Namespace, in_namespace, new_name, run

from resource_wireguard.host.diff import Action, Plan, diff
from resource_wireguard.host.facts import Observation, Problem, Questions
from resource_wireguard.host.state import Device, Link, Record, state_of
from resource_wireguard.model.keys import PrivateKey, PublicKey
from resource_wireguard.model.names import interface_name
from resource_wireguard.model.settings import Settings
from resource_wireguard.system.linux import LinuxHost


@dataclass
class Box:
    """A namespace, the host in it, and one interface name that nobody else on this machine has."""

    namespace: Namespace
    host: LinuxHost
    engine: str
    interface: str

    def observe(self, questions: Questions = Questions()) -> Observation:  # noqa: B008 (frozen)
        return in_namespace(self.namespace.name, lambda: self.host.observe(questions))

    def apply(self, *actions: Action) -> tuple[Problem, ...]:
        return in_namespace(self.namespace.name, lambda: self.host.apply(actions))

    def plan(self, *desired: Record) -> Plan:
        seen = self.observe()
        assert seen.complete, seen.problems
        return diff(state_of(desired), seen.state)

    def settle(self, *desired: Record) -> Plan:
        """Bring the host to what is desired; what was done. A second diff has to be empty."""
        done = self.plan(*desired)
        assert self.apply(*done) == ()
        assert self.plan(*desired) == ()
        return done

    def refused(self, *desired: Record) -> list[Problem]:
        """What the host says to a plan that it cannot carry out."""
        return list(self.apply(*self.plan(*desired)))

    def link(self, **fields: object) -> Link:
        plain = {"name": self.interface, "tunnel": "t", "engine": self.engine, "mtu": 1420}
        return Link(**{**plain, **fields})  # type: ignore[arg-type]

    def again(self) -> None:
        """The agent has died, and another one has come."""
        self.use()

    def use(self, engine: str | None = None, log: Path | None = None) -> None:
        """Take a new host, with this setting of WIREGUARD_ENGINE."""
        self.host.close()
        self.host = new_host(self.namespace, engine or setting(self.engine), log)


def setting(engine: str) -> str:
    """WIREGUARD_ENGINE for an engine of the lane."""
    return "kernel" if engine == "kernel" else str(shutil.which("wireguard-go"))


def new_host(namespace: Namespace, engine: str, log: Path | None = None) -> LinuxHost:
    return in_namespace(namespace.name, lambda: LinuxHost(Settings(engine=engine), log))


@contextlib.contextmanager
def box(engine: str) -> Iterator[Box]:
    """A fresh one; all that it left behind is removed."""
    name = new_name()
    namespace = Namespace(f"rwd-{name}")
    run("ip", "netns", "add", namespace.name)
    interface = interface_name(name)
    try:
        namespace.ip("link set lo up")
        box = Box(namespace, new_host(namespace, setting(engine)), engine, interface)
        try:
            yield box
            box.apply(*box.plan())
        finally:
            box.host.close()
    finally:
        for pid in namespace.pids():
            os.kill(pid, 9)
        run("ip", "netns", "delete", namespace.name)
        Path(f"/run/wireguard/{interface}.sock").unlink(missing_ok=True)


def device(interface: str, listen_port: int = 51820, fwmark: int = 0) -> Device:
    return Device(interface, private_key(), listen_port, fwmark)


def private_key() -> PrivateKey:
    raw = bytearray(os.urandom(32))
    raw[0] &= 248
    raw[31] = raw[31] & 127 | 64
    return PrivateKey(raw)


def public_key() -> PublicKey:
    return private_key().public()
