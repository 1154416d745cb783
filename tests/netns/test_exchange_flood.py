"""Root on the other host may send whatever it likes to our agent: it costs a bounded amount of everything."""

import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator

from tests.netns.harness import SLOWNESS, Lab, Namespace, Pinger, key_pair, wait_until
from tests.netns.test_exchange import A_INSIDE, B_INSIDE, MOVED_WITHIN, PORT, Site, agree, two_sites
from tests.netns.test_exchange_both import quiet

SECONDS = 6.0
PER_SECOND = 200
ANSWERED_WITHIN = 1.0 * SLOWNESS
KEYS_MOST = 10 + 1.0 * SECONDS + 2
"""That many at once, and one a second."""


def hostile(official: str) -> Iterator[dict]:
    """Valid messages in an order that costs most: new keys, withdrawn, replaced, announced, and wishes."""
    while True:
        new = [{"key": key_pair()[1], "port": port} for port in (1, 53, 500, 8080, 51820, 65535)]
        known = {"key": official, "port": 51820}
        for entry in new:
            yield {"say": "keys", "keys": [known, entry]}
        for keys in ([known], new[:1], new[-1:], [new[0], known]):
            yield {"say": "keys", "keys": keys}
        yield {"say": "rotate", "overlap": 60.0}


class Flood:
    """Sends from the peer's own address and our port, and reads no answer."""

    def __init__(self, namespace: Namespace, official: str) -> None:
        self._socket = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((B_INSIDE, PORT))
        self._messages = hostile(official)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.sent = 0

    def __enter__(self) -> "Flood":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._socket.close()

    def _send(self) -> None:
        while not self._stopped.wait(1 / PER_SECOND):
            message = {"v": 1, "id": os.urandom(8).hex(), **next(self._messages)}
            self._socket.sendto(json.dumps(message).encode(), (A_INSIDE, PORT))
            self.sent += 1


def rows(site: Site, sql: str) -> int:
    path = site.agent.config_dir / "state.db"
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(connection.execute(sql).fetchone()[0])
    finally:
        connection.close()


def test_a_flood_of_valid_messages_leaves_an_agent_at_its_work(lab: Lab) -> None:
    with two_sites(lab) as (a, b):
        assert b.namespace.ping(A_INSIDE)
        official, own = b.shown()["public_key"], a.shown()["public_key"]
        b.agent.terminate()
        journal, log = rows(a, "SELECT count(*) FROM journal"), len(a.agent.log)
        devices, slowest = 0, 0.0
        with Pinger(b.namespace, A_INSIDE, 100) as ping, Flood(b.namespace, official) as flood:
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                began = time.monotonic()
                a.agent.call("status")
                slowest = max(slowest, time.monotonic() - began)
                devices = max(devices, len(a.interfaces()))
                assert rows(a, "SELECT count(*) FROM rotation_guests") <= 2
                time.sleep(0.1)
        assert flood.sent > 100
        assert slowest < ANSWERED_WITHIN
        assert devices <= 4, "its own, a new one that was wished for, and two sides"
        assert ping.lost == 0
        brought = rows(a, "SELECT count(*) FROM journal WHERE text LIKE '% brings key %'")
        assert 1 <= brought <= KEYS_MOST
        assert rows(a, "SELECT count(*) FROM journal") - journal < 20 * KEYS_MOST
        assert a.agent.log.count("\n", log) < 20 * KEYS_MOST
        b.agent.start()
        wait_until(lambda: quiet(a, b), 2 * MOVED_WITHIN, "an end of what was wished for")
        b.agent.call("rotate.keys", tunnel=b.tunnel, overlap=3600)
        wait_until(lambda: b.shown()["public_key"] != official and quiet(a, b), MOVED_WITHIN, "B's new key")
        a.agent.call("rotate.keys", tunnel=a.tunnel, overlap=3600)
        wait_until(lambda: a.shown()["public_key"] != own and agree(a, b), MOVED_WITHIN, "A's new key")
