"""peer config --once: who presses the button first gets the config, and nobody else gets anything."""

import http.client
import socket
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_agent import CONFIG, PEER, FakeAgent

KEY = CONFIG.split("PrivateKey = ")[1].split("\n")[0]
WITHIN = 30


class Link:
    """The command while it serves."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout
        self.process = process
        self.url = next(line.strip() for line in process.stdout if line.startswith("http://"))
        self.path = urlsplit(self.url).path

    def ask(self, method: str, path: str | None = None) -> tuple[int, dict[str, str], str]:
        where = urlsplit(self.url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=WITHIN)
        connection.request(method, path if path is not None else self.path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, dict(answer.headers), text

    def end(self) -> tuple[int, str]:
        """Exit code, and all that it said."""
        out, err = self.process.communicate(timeout=WITHIN)
        return self.process.returncode, out + err


Start = Callable[..., Link]


@pytest.fixture
def once(agent: FakeAgent, environment: dict[str, str]) -> Iterator[Start]:
    agent.result("peer.show", PEER)
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> Link:
        process = subprocess.Popen(
            [sys.executable, "-m", "resource_wireguard", "peer", "config", "home", "phone", "--once", *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return Link(process)

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def link(once: Start) -> Link:
    return once("--listen", "127.0.0.1")


def test_one_press_shows_it_and_ends_it(link: Link) -> None:
    status, headers, page = link.ask("POST")
    assert (status, KEY in page) == (200, True)
    file = page.split("base64,")[1].split('"')[0]
    assert b64decode(file).decode() == CONFIG
    assert "image/svg+xml" in page
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "<script" not in page
    code, said = link.end()
    assert code == 0
    assert KEY not in said
    with pytest.raises(ConnectionRefusedError):
        link.ask("POST")


def test_previews_do_not_use_it_up(link: Link) -> None:
    for method in ("HEAD", "GET", "GET"):
        status, headers, page = link.ask(method)
        assert status == 200
        assert ("<button>" in page) is (method == "GET")
        assert KEY not in page
        assert headers["Cache-Control"] == "no-store"
    assert link.process.poll() is None
    assert KEY in link.ask("POST")[2]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS"])
def test_no_other_path_and_no_other_word_shows_anything(link: Link, method: str) -> None:
    for path in ("/", f"{link.path}x", link.path[:-1], f"{link.path}/", f"{link.path}?a=1", "/favicon.ico"):
        status, _, page = link.ask(method, path)
        assert status in (404, 501)
        assert KEY not in page
        assert link.path not in page
    assert link.process.poll() is None


def test_of_many_at_once_one_gets_it(link: Link) -> None:
    where = urlsplit(link.url)
    sockets = [socket.create_connection((where.hostname, where.port), WITHIN) for _ in range(20)]
    for each in sockets:
        each.sendall(f"POST {link.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answers = []
    for each in sockets:
        with each:
            try:
                answers.append(each.makefile("rb").read())
            except ConnectionError:
                answers.append(b"")
    assert sum(KEY.encode() in answer for answer in answers) == 1
    assert link.end()[0] == 0


def test_a_silent_client_keeps_nobody_waiting(link: Link) -> None:
    where = urlsplit(link.url)
    with socket.create_connection((where.hostname, where.port), WITHIN) as silent:
        silent.sendall(b"POST ")
        assert KEY in link.ask("POST")[2]
    assert link.end()[0] == 0


def test_time_ends_it_unread(once: Start) -> None:
    link = once("--listen", "127.0.0.1:0", "--expires", "1s")
    code, said = link.end()
    assert (code, "nobody fetched it" in said) == (1, True)
    with pytest.raises(ConnectionRefusedError):
        link.ask("GET")


def test_two_links_have_two_paths(once: Start) -> None:
    first, second = once("--listen", "127.0.0.1"), once("--listen", "127.0.0.1")
    assert first.path != second.path
    assert min(len(first.path), len(second.path)) >= 32


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--listen phone.example", "is not an address and port"),
        ("--listen 127.0.0.1:99999", "is not an address and port"),
        ("--listen 203.0.113.9:0", "cannot listen on 203.0.113.9"),
        ("--expires 2d", "is not a time from 1s to 24h"),
        ("--expires 25h", "is not a time from 1s to 24h"),
        ("--output phone.conf", "goes without --output"),
    ],
)
def test_refused(run: Run, agent: FakeAgent, words: str, message: str) -> None:
    refused = run("peer", "config", "home", "phone", "--once", *words.split())
    assert refused.returncode == 1
    assert message in refused.stderr.splitlines()[0]
    assert KEY not in refused.stdout + refused.stderr


def test_a_key_that_is_not_here_is_not_handed_out(run: Run, agent: FakeAgent) -> None:
    agent.result("peer.show", {**PEER, "config_held": False})
    refused = run("peer", "config", "home", "phone", "--once", "--listen", "127.0.0.1")
    assert (refused.returncode, "not held here" in refused.stderr) == (1, True)
