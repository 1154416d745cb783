"""The lane itself: two namespaces, a veth pair between them, and a ping through WireGuard over it."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

READY_WITHIN = 10.0  # seconds


def run(*argv: str, stdin: str | None = None) -> str:
    return subprocess.run(argv, input=stdin, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def namespace(name: str) -> Iterator[str]:
    run("ip", "netns", "add", name)
    try:
        yield name
    finally:
        run("ip", "netns", "delete", name)


@contextlib.contextmanager
def interface(namespace: str, name: str, engine: str) -> Iterator[str]:
    """A WireGuard interface in the namespace; the userspace engine lives exactly as long."""
    if engine == "kernel":
        run("ip", "-n", namespace, "link", "add", name, "type", "wireguard")
        yield name
        return
    process = subprocess.Popen(["ip", "netns", "exec", namespace, "wireguard-go", "--foreground", name])
    try:
        wait_for_socket(name)
        yield name
    finally:
        process.terminate()
        process.wait(timeout=READY_WITHIN)


def wait_for_socket(name: str) -> None:
    """The engine makes the link first and its control socket after it."""
    deadline = time.monotonic() + READY_WITHIN
    while not Path(f"/run/wireguard/{name}.sock").exists():
        assert time.monotonic() < deadline, f"wireguard-go made no socket for {name}"
        time.sleep(0.02)


def set_up_side(namespace: str, device: str, host: int, private_key: str, peer_key: str) -> None:
    other = 3 - host
    commands = [
        f"address add 192.0.2.{host}/24 dev underlay",
        f"address add 10.77.0.{host}/24 dev {device}",
        "link set underlay up",
        f"link set {device} up",
    ]
    peer = ["peer", peer_key, "allowed-ips", f"10.77.0.{other}/32", "endpoint", f"192.0.2.{other}:51820"]
    set_device = ["wg", "set", device, "private-key", "/dev/stdin", "listen-port", "51820", *peer]
    run("ip", "netns", "exec", namespace, *set_device, stdin=private_key)
    run("ip", "-n", namespace, "-batch", "-", stdin="\n".join(commands))


@pytest.fixture
def names() -> tuple[str, str]:
    """For namespace and device of either side: userspace devices of all namespaces share one folder."""
    return f"lane{os.getpid()}a", f"lane{os.getpid()}b"


def test_a_ping_crosses_a_tunnel_between_two_namespaces(engine: str, names: tuple[str, str]) -> None:
    a, b = names
    with namespace(a), namespace(b), interface(a, a, engine), interface(b, b, engine):
        run("ip", "-n", a, "link", "add", "underlay", "type", "veth", "peer", "name", "underlay", "netns", b)
        keys = [run("wg", "genkey") for _ in names]
        publics = [run("wg", "pubkey", stdin=key) for key in keys]
        set_up_side(a, a, 1, keys[0], publics[1])
        set_up_side(b, b, 2, keys[1], publics[0])
        run("ip", "netns", "exec", a, "ping", "-c", "1", "-W", "5", "10.77.0.2")
        assert run("ip", "netns", "exec", a, "wg", "show", a, "latest-handshakes").split()[1] != "0"
