"""Stands in for cli/compose.py in a started agent: has lock and socket as the real one, and no tunnels.

FAKE says what is wrong with it: 'dies', 'crashes', 'deaf' (ends by SIGKILL only), 'slow' (takes a second),
'left' (cannot take everything down).
"""

import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path


def run_agent(config_dir: Path, environment: Mapping[str, str]) -> None:
    from resource_wireguard.errors import AlreadyRunning  # not before this process has begun in earnest

    trouble = environment.get("FAKE", "")
    _stumble(trouble)
    run = config_dir / "run"
    lock = os.open(run / "agent.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AlreadyRunning("an agent owns this already", "") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    ending = signal.SIG_IGN if trouble == "deaf" else lambda *_: sys.exit(0)
    signal.signal(signal.SIGTERM, ending)
    if trouble == "slow":
        time.sleep(1)
    (run / "agent.sock").unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(run / "agent.sock"))
        server.listen()
        while _serve(server, config_dir, trouble):
            pass
    (run / "agent.sock").unlink()


def purge(config_dir: Path, environment: Mapping[str, str]) -> list[str]:
    with (config_dir / "asked").open("a") as asked:
        asked.write("agent.purge\n")
    return ["delete interface wg-home"] if environment.get("FAKE") == "left" else []


def _stumble(trouble: str) -> None:
    from resource_wireguard.errors import PermissionDenied

    if trouble == "dies":
        print("2025-06-01 INFO getting up", file=sys.stderr)
        raise PermissionDenied("the agent may not configure networks here", "run it as root")
    if trouble == "crashes":
        os.abort()


def _serve(server: socket.socket, config_dir: Path, trouble: str) -> bool:
    """Answer one request; False when it was the last."""
    with server.accept()[0] as connection:
        command = json.loads(connection.makefile().readline())["command"]
        with (config_dir / "asked").open("a") as asked:
            asked.write(f"{command}\n")
        ends = command in ("agent.stop", "agent.purge") and trouble != "deaf"
        results = {
            "agent.info": {"pid": os.getpid(), "version": "0", "engine": None},
            "agent.stop": {
                "stopped": True,
                "left": ["delete interface wg-home"] if trouble == "left" else [],
            },
            "agent.purge": {"removed": [], "left": []},
            "status": {"service": {"health": "healthy"}},
        }
        connection.sendall(json.dumps({"result": results[command]}).encode() + b"\n")
    return not ends
