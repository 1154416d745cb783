"""The throw-away tunnel of 'test integration'; runs in namespaces of its own and prints JSON.

        near: this namespace               far: a network namespace more
    ┌───────────────────────────┐        ┌───────────────────────────┐
    │ agent, CONFIG_DIR=…/near  │ cable  │ agent, CONFIG_DIR=…/far   │
    │ 192.0.2.1   10.213.0.1    ├────────┤ 192.0.2.2   10.213.0.2    │
    └───────────────────────────┘        └───────────────────────────┘

Both are the real agent, asked by the real command line. Outside the namespaces nothing is touched.
Each tunnel has its host's name, because the two share the folder of the engines' sockets.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from resource_wireguard.cli.selftest import wire
from resource_wireguard.cli.selftest.runner import LIMITS, Check, expect, run_checks, time_limit
from resource_wireguard.errors import HostError, ResourceError
from resource_wireguard.system import process

PLACE = "/run"
"""Where the stage's tmpfs lies: userspace engines keep their sockets in /run/wireguard."""

ADDRESSES = {"near": ("192.0.2.1", "10.213.0.1"), "far": ("192.0.2.2", "10.213.0.2")}
"""On the cable (RFC 5737), and inside the tunnel."""

PORT = 51820
PROGRAM = (sys.executable, "-P", "-m", "resource_wireguard")

STARTED_WITHIN = 30.0
"""Seconds an agent may take to answer."""

PATIENCE = 15.0
"""Seconds for what else must happen but has no promised time."""

COUNT, SIZE = 20, 1000
"""Packets of the traffic, and bytes in each."""

DISCARD = 9
"""A UDP port (RFC 863) where nobody listens: the far kernel says so, and that is an answer."""


class Stage:
    """Two throw-away hosts and the checks that are made on them, in their order."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.before: set[str] = set()

    def checks(self) -> list[Check]:
        """Each needs those before it."""
        return [
            ("agents", self.agents),
            ("cable", self.cable),
            ("create", self.create),
            ("config-round-trip", self.round_trip),
            ("peers", self.peers),
            ("handshake", self.handshake),
            ("traffic", self.traffic),
            ("delete", self.delete),
            ("stop", self.stop),
        ]

    def agents(self) -> str:
        """Start both; the far one in a network namespace more."""
        process.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", PLACE])
        self._start("near", [*PROGRAM, "agent"])
        self._far_pid = self._start("far", ["unshare", "--net", *PROGRAM, "agent"])
        return "two agents run, each in a network namespace of its own"

    def cable(self) -> str:
        """Connect their namespaces."""
        wire.lay(self._far_pid)
        wire.connect(f"{ADDRESSES['near'][0]}/24")
        enter = ["nsenter", f"--net=/proc/{self._far_pid}/ns/net"]
        process.run([*enter, sys.executable, "-P", "-m", wire.__name__, f"{ADDRESSES['far'][0]}/24"])
        self.before = _links()
        return "a cable connects them"

    def create(self) -> str:
        """A tunnel at either end."""
        for host, (_, inner) in ADDRESSES.items():
            words = ("interface", "create", host, "--address", f"{inner}/24", "--port", str(PORT))
            made = _ask(host, *words)
            expect(made["state"] == "up", f"the {host} tunnel is {made['state']}", _first_hint(made))
            self.keys[host] = made["public_key"]
            engine = made["engine"]
        return f"a tunnel is up at either end ({engine} WireGuard)"

    def round_trip(self) -> str:
        """The tunnel's config, written, read and written again."""
        from resource_wireguard.model.formats.wgquick import parse, render

        config = parse(_run("near", "interface", "config", "near", "--show-secrets"))
        expect(parse(render(config)) == config, "the config changes when it is written and read again")
        expect(config.interface.listen_port == PORT, "the config has another port than the tunnel")
        expect(str(config.interface.private_key.public()) == self.keys["near"], "the config has another key")
        return "the tunnel's config is read and written without a change"

    def peers(self) -> str:
        """Each knows the other's public key, and where it is."""
        for host, other in (("near", "far"), ("far", "near")):
            outer, inner = ADDRESSES[other]
            words = ("peer", "add", host, other, "--public-key", self.keys[other])
            _ask(host, *words, "--endpoint", f"{outer}:{PORT}", "--address", inner)
        return "each has the other as a peer"

    def handshake(self) -> str:
        """A datagram through the tunnel is answered by the far kernel: nobody listens there."""
        begin = time.monotonic()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.2)
            probe.connect((ADDRESSES["far"][1], DISCARD))
            _until(lambda: _refused_by_the_other_end(probe), PATIENCE, "no answer came through the tunnel")
        took = time.monotonic() - begin
        peer = _ask("near", "peer", "show", "near", "far")
        expect(peer["state"] == "online", f"there was an answer, but the peer is {peer['state']}")
        return f"the two ends shook hands, and a packet came back ({took:.2f} s)"

    def traffic(self) -> str:
        """Both ends count what goes from one to the other."""
        before = _counted()
        _send(COUNT, SIZE)
        _until(
            lambda: all(now - then >= COUNT * SIZE for now, then in zip(_counted(), before, strict=True)),
            PATIENCE,
            f"{COUNT} packets of {SIZE} bytes were not counted at both ends",
        )
        sent, received = _counted()
        return f"traffic is counted: {sent} bytes sent, {received} received at the other end"

    def delete(self) -> str:
        """Nothing of the tunnels is left."""
        for host in ADDRESSES:
            _run(host, "interface", "delete", host, "--force")
            plan = _ask(host, "plan")
            expect(not plan["actions"] and not plan["problems"], f"{host}: left to do: {plan['actions']}")
        left = _links() - self.before
        expect(not left, f"left after deletion: {', '.join(sorted(left))}")
        expect(not _engines(), "an engine still runs after its tunnel was deleted")
        return "the deleted tunnels left nothing"

    def stop(self) -> str:
        """The agents end when asked."""
        for host in ADDRESSES:
            _run(host, "manage", "stop")
        return "both agents ended"

    def _start(self, host: str, argv: list[str]) -> int:
        folder = f"{PLACE}/{host}"
        os.mkdir(folder, 0o700)
        log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            pid = process.spawn_detached(argv, {**os.environ, "CONFIG_DIR": folder}, log)
        finally:
            os.close(log)
        _until(lambda: _answers(host, pid), STARTED_WITHIN, f"the {host} agent did not answer")
        return pid


def main() -> None:
    """Run all checks and print their outcomes; the exit code says only that there are any."""
    with time_limit(LIMITS["integration"] - 5, "the integration test"):
        outcomes = run_checks(Stage().checks(), needs_all=True)
    print(json.dumps([asdict(outcome) for outcome in outcomes]))


def _run(host: str, *words: str) -> str:
    """Run a command of ours against one of the two agents."""
    try:
        return process.run(["env", f"CONFIG_DIR={PLACE}/{host}", *PROGRAM, *words], timeout=60.0).stdout
    except HostError as error:
        raise HostError(f"{host}: {error.message.removeprefix('env failed: error: ')}") from None


def _ask(host: str, *words: str) -> Any:
    return json.loads(_run(host, *words, "--format", "json"))


def _answers(host: str, pid: int) -> bool:
    if process.reap(pid) is not None:
        with open(f"{PLACE}/{host}.log", encoding="utf-8", errors="replace") as log:
            lines = log.read().strip().splitlines()
        raise HostError(f"the {host} agent ended at once: {(lines or ['it wrote nothing'])[-1]}")
    try:
        _ask(host, "plan")
    except ResourceError:
        return False
    return True


def _refused_by_the_other_end(probe: socket.socket) -> bool:
    try:
        probe.send(b"selftest")
        probe.recv(1)
    except ConnectionRefusedError:
        return True
    except TimeoutError:
        return False
    return False


def _send(count: int, size: int) -> None:
    """Datagrams to the far end, which refuses them; that it does is nothing to stop for."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _ in range(count):
            probe.sendto(bytes(size), (ADDRESSES["far"][1], DISCARD))


def _counted() -> tuple[int, int]:
    """Bytes that near has sent and far has received, as their agents see it."""
    near, far = (_ask(host, "peer", "list", host)[0] for host in ("near", "far"))
    return near["tx_bytes"], far["rx_bytes"]


def _until(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < deadline, f"{otherwise} within {seconds:g} s")
        time.sleep(0.05)


def _links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def _engines() -> list[str]:
    """The processes in here that are neither an agent nor we ourselves: engines."""
    from resource_wireguard.host.ownership import ENGINE_VARIABLE

    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if f"{ENGINE_VARIABLE}=".encode() in file.read():
                    found.append(pid)
        except OSError:  # it has ended since
            continue
    return found


def _first_hint(tunnel: dict[str, Any]) -> str:
    return next((problem["message"] for problem in tunnel["problems"]), "")


if __name__ == "__main__":
    main()
