"""A printed config works in a WireGuard of other people, which has no code in common with wg-quick(8)."""

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.netns.harness import Agent, Lab, Namespace

PHONE = Path(__file__).with_name("phone.py")


@contextlib.contextmanager
def answering(namespace: Namespace, address: str) -> Iterator[int]:
    """A TCP server in a namespace that answers each line with 'pong' and where it came from; its port."""
    with namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind((address, 0))
        server.listen()
        server.settimeout(30)

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, (source, _) = server.accept()
                with connection:
                    connection.recv(100)
                    connection.sendall(f"pong {source}\n".encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]


@pytest.fixture
def home(server: Agent) -> Iterator[dict]:
    made = server.make_tunnel(endpoint="192.0.2.1")
    yield made
    server.call("tunnel.delete", name=made["name"])


def test_a_phone_like_peer_gets_through(server: Agent, lab: Lab, home: dict, tmp_path: Path) -> None:
    config = tmp_path / "phone.conf"
    added = server.cli("peer", "add", home["name"], "phone", "--output", str(config))
    assert added.returncode == 0, added.stderr
    ours = home["addresses"][0].partition("/")[0]
    (peer,) = server.call("peer.list", tunnel=home["name"])
    with answering(lab.server, ours) as port:
        argv = (sys.executable, str(PHONE), str(config), ours, str(port))
        said = lab.laptop.exec(*argv, check=False)
    assert said.stdout == f"pong {peer['addresses'][0].partition('/')[0]}\n", said.stderr
    (after,) = server.call("peer.list", tunnel=home["name"])
    assert (after["state"], after["preshared_key"]) == ("online", True)
    assert after["rx_bytes"] > 0 < after["tx_bytes"]
