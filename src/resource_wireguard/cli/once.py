"""A web server for one secret and one reader: shows a config to whoever presses the button first, and ends.

A file cannot delete itself when it was read; a process can. GET and HEAD never use the link up, because
messengers and mail scanners fetch what they carry: only the POST of the page's button does.
"""

import secrets
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from resource_wireguard.cli.pages import PAGE_HEADERS, button_page, gone_page
from resource_wireguard.errors import HostError

PATH_BYTES = 24
"""Random bytes of the path: 192 bits, which nobody guesses."""

CLIENT_DEADLINE = 10.0
"""Seconds until a client has to have said the next thing."""

BODY_MOST = 1024
"""Bytes of a POST that are read, and thrown away: the button sends none."""


class OneShot(ThreadingHTTPServer):
    """Serves one page to one reader. page is not made before it is wanted."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], page: Callable[[], bytes]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            super().__init__(address, _Conversation)
        except OSError as error:
            raise HostError(
                f"cannot listen on {address[0]} port {address[1]}: {error.strerror or error}",
                "name an address of this host, and a free port: --listen ADDRESS:PORT",
            ) from None
        self.path = f"/{secrets.token_urlsafe(PATH_BYTES)}"
        self._page: Callable[[], bytes] | None = page
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._complete = False

    @property
    def url(self) -> str:
        """Where the button is."""
        host, port = self.server_address[:2]
        return f"http://{f'[{host!s}]' if ':' in str(host) else host!s}:{port}{self.path}"

    def take(self) -> bytes | None:
        """The page, for the first who asks; None for all others."""
        with self._turn:
            page, self._page = self._page, None
        return page() if page else None

    def end(self, *, complete: bool) -> None:
        """The page is gone: to the one reader as a whole, or somewhere on the way."""
        self._complete = complete
        self._ended.set()

    def serve(self, seconds: float) -> bool | None:
        """Serve until the page was sent, at most some seconds: True if it was, None if that broke off."""
        worker = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        worker.start()
        try:
            return (self._complete or None) if self._ended.wait(seconds) else False
        finally:
            self.shutdown()
            self.server_close()

    def handle_error(self, *_: Any) -> None:
        """A client that goes away is its own affair; nothing is printed."""


class _Conversation(BaseHTTPRequestHandler):
    """One connection. The exact path or nothing; nothing is logged."""

    server: OneShot
    server_version, sys_version = "resource-wireguard", ""
    timeout = CLIENT_DEADLINE

    def do_GET(self) -> None:
        """The page with the button."""
        self._button(with_body=True)

    def do_HEAD(self) -> None:
        """What GET would say, for previews."""
        self._button(with_body=False)

    def do_POST(self) -> None:
        """The button was pressed."""
        length = self.headers.get("Content-Length") or "0"
        self.rfile.read(min(int(length), BODY_MOST) if length.isdecimal() else 0)
        page = self.server.take() if self._is_for_us() else None
        if page is None:
            self._answer(HTTPStatus.NOT_FOUND, gone_page())
            return
        complete = False
        try:
            self._answer(HTTPStatus.OK, page)
            self.wfile.flush()
            complete = True
        finally:
            self.server.end(complete=complete)

    def log_message(self, *_: Any) -> None:
        """Nothing: a line would have the path in it."""

    def _button(self, *, with_body: bool) -> None:
        found = self._is_for_us()
        status = HTTPStatus.OK if found else HTTPStatus.NOT_FOUND
        self._answer(status, button_page() if found else gone_page(), with_body)

    def _is_for_us(self) -> bool:
        return secrets.compare_digest(self.path.encode(), self.server.path.encode())

    def _answer(self, status: HTTPStatus, page: bytes, with_body: bool = True) -> None:
        self.send_response(status)
        for name, value in PAGE_HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if with_body:
            self.wfile.write(page)


def own_address() -> str:
    """The address that others on the network find this host by; HostError where there is no way out.

    Connecting a UDP socket sends nothing: the kernel only chooses the source (ip(7)).
    """
    for family, somewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((somewhere, 9))
            except OSError:
                continue
            return str(probe.getsockname()[0])
    raise HostError(
        "without a default route, this host cannot tell its own address", "name one: --listen ADDRESS:PORT"
    )


def until(seconds: float) -> str:
    """The local time in some seconds, for a person."""
    return time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))
