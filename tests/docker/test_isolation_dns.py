"""Who asks for a container's DNS: Docker from the host, where the host's own resolver is on loopback."""

import contextlib
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.models.containers import Container
from tests.docker.daemon import Daemon
from tests.docker.sealed import WORLD4, Sealed
from tests.netns.harness import Lab, wait_until

QUESTION = b"\x06secret\x07example\x03org"


class DaemonOfLocalResolver(Daemon):
    """A dockerd that finds another resolv.conf."""

    def _command(self) -> list[str]:
        bound = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", bound, "sh", str(resolv_conf(self)), *super()._command()]


def resolv_conf(daemon: Daemon) -> Path:
    """ip-netns(8) shows this one to what it starts in the namespace: to our agent."""
    return Path("/etc/netns", daemon.namespace.name, "resolv.conf")


@pytest.fixture
def sealed(engine: str) -> Iterator[Sealed]:
    with contextlib.ExitStack() as exits:
        lab = Lab(engine)
        exits.callback(lab.close)
        daemon = DaemonOfLocalResolver(lab.server)
        exits.callback(daemon.close)
        resolv_conf(daemon).parent.mkdir(parents=True)
        exits.callback(shutil.rmtree, resolv_conf(daemon).parent)
        resolv_conf(daemon).write_text("nameserver 127.0.0.1\n")
        daemon.start()
        yield Sealed(lab, daemon, exits)


def started(sealed: Sealed, name: str, network: str, *dns: str) -> Container:
    words = ["sh", "-c", "while :; do timeout 1 nslookup secret.example.org; sleep 0.1; done"]
    container = sealed.daemon.client.containers.run(
        sealed.image, words, detach=True, name=name, network=network, dns=dns, stop_signal="SIGKILL"
    )
    sealed.exits.callback(container.remove, force=True)
    return container


def test_a_resolver_on_loopback_is_asked_outside_and_we_say_so(sealed: Sealed) -> None:
    resolver = sealed.server.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sealed.exits.callback(resolver.close)
    resolver.bind(("127.0.0.1", 53))
    resolver.settimeout(5)
    made = sealed.agent.cli("namespace", "create", "web", sealed.tunnel)
    assert made.returncode == 0
    assert "from the host, outside the tunnel" in made.stderr

    started(sealed, "told", "wg-web", WORLD4)
    wait_until(lambda: sealed.flows(1), what="its queries in the tunnel")
    assert sealed.agent.call("namespace.status", name="web")["state"] == "up"
    resolver.settimeout(0.5)
    with pytest.raises(TimeoutError):
        resolver.recv(512)

    moved = started(sealed, "moved", "bridge")
    refused = sealed.agent.cli("namespace", "connect", "moved", "web")
    assert refused.returncode == 1
    assert "DNS queries of container 'moved' would leave outside the tunnel" in refused.stderr
    moved.kill()

    started(sealed, "untold", "wg-web")
    resolver.settimeout(5)
    assert QUESTION in resolver.recv(512)
    shown = sealed.agent.call("namespace.status", name="web")
    assert shown["state"] == "leaking"
    assert {c["name"]: c["dns"] for c in shown["containers"]} == {"told": "tunnel", "untold": "host"}
