"""An agent that speaks docs/bus.md over a real socket and answers from a table."""

import contextlib
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="

TUNNEL = {
    "name": "home",
    "interface": "wg-home",
    "active": True,
    "engine": "kernel",
    "state": "up",
    "listen_port": 51820,
    "public_key": KEY,
    "addresses": ["10.13.13.1/24", "fd00:1::1/64"],
    "mtu": 1420,
    "exit": True,
    "endpoint": "vpn.example.org:51820",
    "dns": [],
    "peers": 2,
    "peers_online": 1,
    "drift": [],
    "problems": [],
}

PEER = {
    "name": "phone",
    "public_key": KEY,
    "enabled": True,
    "state": "online",
    "addresses": ["10.13.13.2/32"],
    "allowed_ips": ["10.13.13.2/32"],
    "endpoint": "198.51.100.7:4711",
    "keepalive": 25,
    "latest_handshake": "2025-06-01T12:00:00Z",
    "rx_bytes": 3565158,
    "tx_bytes": 120,
    "preshared_key": True,
    "config_held": True,
}

CONFIG = f"[Interface]\nPrivateKey = {'A' * 43}=\nAddress = 10.13.13.2/32\n\n[Peer]\nPublicKey = {KEY}\n"

AGENT = {
    "pid": 4711,
    "uptime_seconds": 72.5,
    "cpu_seconds": 1.25,
    "cpu_percent": 0.31,
    "rss_bytes": 41943040,
}

RATES = {"rx_rate": 2048.0, "tx_rate": None}

TUNNEL_STATUS = {**TUNNEL, **RATES, "latest_handshake": "2025-06-01T12:00:00Z"}

PEER_STATS = {**PEER, **RATES, "rx_total": 5 * 1024**3, "tx_total": 120}

TUNNEL_STATS = {
    "name": "home",
    "interface": "wg-home",
    "state": "up",
    "rx_bytes": 5,
    "tx_bytes": 6,
    "rx_total": 7 * 1024**3,
    "tx_total": 1200,
    **RATES,
    "rx_errors": 3,
    "tx_errors": 39,
    "rx_dropped": 0,
    "tx_dropped": 17,
    "peers": [PEER_STATS],
}

RESULTS: dict[str, Any] = {
    "tunnel.list": [TUNNEL],
    "tunnel.delete": {"name": "home"},
    "tunnel.config": {"name": "home", "config": CONFIG},
    "peer.add": {"peer": PEER, "config": CONFIG, "notes": ["the endpoint is a private address"]},
    "peer.remove": {"tunnel": "home", "name": "phone"},
    "peer.list": [PEER],
    "peer.config": {"config": CONFIG, "notes": []},
    "status": {
        "service": {
            "state": "running",
            "health": "healthy",
            "engine": "kernel",
            "checks": [{"code": "engine-available", "ok": True, "message": "fine", "hint": ""}],
        },
        "tunnels": [TUNNEL_STATUS],
    },
    "stats": {"tunnels": [TUNNEL_STATS], "rate_seconds": 2.0, "agent": AGENT},
    "plan": {"actions": [], "problems": []},
    "agent.info": {"pid": 4711, "version": "0.1.0", "engine": "kernel"},
}
RESULTS |= {f"tunnel.{word}": TUNNEL for word in ("create", "change", "activate", "deactivate", "show")}
RESULTS |= {f"peer.{word}": PEER for word in ("change", "enable", "disable", "show")}


def error(kind: str, message: str, hint: str = "", exit_code: int = 1) -> dict[str, Any]:
    """An error line as the bus writes it."""
    return {"error": {"kind": kind, "message": message, "hint": hint, "exit_code": exit_code}}


class FakeAgent:
    """Remembers what it was asked, and answers from RESULTS or from what a test put into lines.

    A line is an object, or bytes as they are, or a function that is called before the next line.
    """

    def __init__(self, config_dir: Path) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.lines: dict[str, list[Any]] = {}
        self.before: Callable[[], None] = lambda: None
        self.connections = 0
        run = config_dir / "run"
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        agent = self

        class Conversation(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                agent.connections += 1
                line = self.rfile.readline()
                if line:
                    with contextlib.suppress(ConnectionError):  # a client may go away
                        for part in agent.answer(json.loads(line)):
                            self.wfile.write(part)

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            request_queue_size = 512

        self._server = Server(str(run / "agent.sock"), Conversation)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: dict[str, Any]) -> Iterator[bytes]:
        assert request.keys() == {"command", "request"}
        command = request["command"]
        self.asked.append((command, request["request"]))
        self.before()
        lines = self.lines.get(command) or [{"result": RESULTS[command]}]
        for line in lines:
            if callable(line):
                line()
            else:
                yield line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"

    def result(self, command: str, result: Any) -> None:
        """Answer this command so from now on."""
        self.lines[command] = [{"result": result}]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
