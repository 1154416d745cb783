"""A door in a network namespace to a server on this host's loopback; it can be shut, or left unanswered."""

import contextlib
import socket
import threading
from types import TracebackType

from tests.netns.harness import Namespace


class Forward:
    """Carries TCP from 127.0.0.1 in a namespace to the same port outside, a thread for each way."""

    def __init__(self, namespace: Namespace, port: int) -> None:
        self._port = port
        self._door = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._door.bind(("127.0.0.1", port))
        self._door.listen()
        self.silent = False
        self._open: list[socket.socket] = []

    def __enter__(self) -> "Forward":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self.cut()

    def cut(self) -> None:
        """End the connections that there are, as a network does that goes away."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._open.clear()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._door.accept()
                self._open.append(here)
                if not self.silent:
                    self._connect(here)

    def _connect(self, here: socket.socket) -> None:
        try:
            there = socket.create_connection(("127.0.0.1", self._port), 5)
        except OSError:
            here.close()
            return
        self._open.append(there)
        for pair in ((here, there), (there, here)):
            threading.Thread(target=_carry, args=pair, daemon=True).start()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
