"""Whatever is typed wrongly is answered in one line with a way out, and changes nothing."""

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.netns.harness import CHECKOUT, Agent, Lab, Picture, Refused, key_pair, new_name, picture, run

LOW_ORDER = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

NAMES = {
    "slash": "a/b",
    "parent folder": "../../etc",
    "space": "my phone",
    "shell": "$(touch /tmp/rwt-was-here)",
    "semicolon": "a;reboot",
    "option": "--",
    "300 characters": "x" * 300,
    "not ASCII": "küche",
    "empty": "",
    "line end": "a\nb",
    "terminal control": "a\x1b[31mb",
}

# What is typed, its exit code, and a word of the answer. HOME, PHONE and KEY stand for what is there;
# TAKEN for a port in use.
TABLE = {
    **{f"tunnel name: {why}": (["content", "add", "--", name], 1, "name") for why, name in NAMES.items()},
    **{f"peer name: {why}": (["peer", "add", "--", "HOME", name], 1, "name") for why, name in NAMES.items()},
    "key of wrong length": (["peer", "add", "HOME", "x", "--public-key", "abc="], 1, "not a WireGuard key"),
    "key of low order": (["peer", "add", "HOME", "x", "--public-key", LOW_ORDER], 1, "low order"),
    "own key": (["peer", "add", "HOME", "x", "--public-key", "OWN"], 1, "itself"),
    "key of another peer": (["peer", "add", "HOME", "x", "--public-key", "KEY"], 1, "PHONE"),
    "prefix is none": (["peer", "add", "HOME", "x", "--route", "lan"], 1, "not an IP prefix"),
    "host bits": (["peer", "add", "HOME", "x", "--route", "10.80.0.1/16"], 1, "did you mean 10.80.0.0/16?"),
    "overlap": (["peer", "add", "HOME", "x", "--route", "10.70.3.0/24"], 1, "PHONE"),
    "address in use": (["peer", "add", "HOME", "x", "--address", "ADDRESS"], 1, "PHONE"),
    "endpoint without a port": (["peer", "add", "HOME", "x", "--endpoint", "192.0.2.9"], 1, "port"),
    "endpoint that is no host": (["peer", "add", "HOME", "x", "--endpoint", "a b:1"], 1, "endpoint"),
    "network that is none": (["content", "add", "new", "--network", "10.0.0.0/40"], 1, "10.0.0.0/40"),
    "network with host bits": (["content", "add", "new", "--network", "10.44.0.1/24"], 1, "10.44.0.0/24"),
    "loopback address": (["content", "add", "new", "--address", "127.0.0.1/8"], 1, "127.0.0.1"),
    "port 0": (["content", "add", "new", "--port", "0"], 1, "port"),
    "port 65536": (["content", "add", "new", "--port", "65536"], 1, "port"),
    "port that is a word": (["content", "add", "new", "--port", "high"], 1, "port"),
    "port of another tunnel": (["content", "add", "new", "--port", "TAKEN"], 1, "HOME"),
    "mtu too small": (["content", "add", "new", "--mtu", "100"], 1, "mtu"),
    "name that is taken": (["content", "add", "HOME"], 2, "HOME"),
    "peer name that is taken": (["peer", "add", "HOME", "PHONE"], 2, "PHONE"),
    "interface name too long": (["content", "add", "new", "--interface", "x" * 16], 1, "15"),
    "unknown option": (["content", "add", "new", "--fast"], 1, "--fast"),
    "unknown command": (["content", "destroy", "HOME"], 1, "destroy"),
    "unknown group": (["tunel", "list"], 1, "tunel"),
    "missing argument": (["peer", "add", "HOME"], 1, "peer add"),
    "too many arguments": (["content", "list", "HOME", "x"], 1, "argument"),
    "unknown tunnel, nearly": (["interface", "status", "NEARLY"], 2, "did you mean 'HOME'?"),
    "unknown tunnel": (["interface", "status", "nothing-like-it"], 2, "interface list"),
    "unknown peer, nearly": (["peer", "show", "HOME", "phon"], 2, "did you mean 'phone'?"),
    "unknown peer": (["peer", "config", "HOME", "zzzzzz"], 2, "peer list"),
    "delete without a yes": (["interface", "delete", "HOME"], 1, "--force"),
    "remove without a yes": (["peer", "remove", "HOME", "phone"], 1, "--force"),
    "format that is none": (["status", "--format", "xml"], 1, "xml"),
}

ENGINE_MATTERS = {"key of low order", "own key", "overlap", "port of another tunnel", "unknown peer, nearly"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Nearly all of it is the same whatever the engine: the slow kernel lane asks for what reaches it."""
    if "typed" in metafunc.fixturenames:
        on_kernel = metafunc.config.getoption("--engine") == "kernel"
        rows = {why: row for why, row in TABLE.items() if not on_kernel or why in ENGINE_MATTERS}
        metafunc.parametrize(("typed", "code", "word"), rows.values(), ids=rows.keys())


@pytest.fixture(scope="module")
def words(server: Agent) -> dict[str, str]:
    """What stands for what in the table."""
    made = server.make_tunnel()
    phone = server.call("peer.add", tunnel=made["name"], name="phone", routes=["10.70.0.0/16"])["peer"]
    server.call("peer.add", tunnel=made["name"], name="laptop", public_key=key_pair()[1])
    return {
        "HOME": made["name"],
        "NEARLY": f"{made['name'][:-1]}x",
        "PHONE": "phone",
        "KEY": phone["public_key"],
        "OWN": made["public_key"],
        "ADDRESS": phone["addresses"][0].partition("/")[0],
        "TAKEN": str(made["listen_port"]),
        "INTERFACE": made["interface"],
    }


@pytest.fixture(scope="module")
def whole(server: Agent, words: dict[str, str]) -> Iterator[Picture]:
    """The kernel's side before the first and after the last of these tests: the same."""
    before = picture(server.namespace, words["INTERFACE"])
    yield before
    assert picture(server.namespace, words["INTERFACE"]) == before


def specs(server: Agent, words: dict[str, str]) -> object:
    """All that the agent has stored."""
    return server.call("tunnel.list"), server.call("peer.list", tunnel=words["HOME"])


def assert_clear(stderr: str) -> None:
    """One line, a hint, no traceback, nothing a terminal could take for a command."""
    first, *rest = stderr.splitlines()
    assert first.startswith("error: ")
    assert [line[:6] for line in rest] == ["hint: "], stderr
    assert stderr.replace("\n", "").isprintable()
    assert len(first) < 300


def test_it_is_refused_in_one_line_with_a_way_out(
    server: Agent, words: dict[str, str], whole: Picture, typed: list[str], code: int, word: str
) -> None:
    before = specs(server, words)
    done = server.cli(*(words.get(part, part) for part in typed))
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert_clear(done.stderr)
    for name, value in words.items():
        word = word.replace(name, value)
    assert word.lower() in done.stderr.lower()
    assert specs(server, words) == before
    assert not Path("/tmp/rwt-was-here").exists()


def test_a_request_with_an_unknown_field_is_refused_not_ignored(server: Agent, words: dict[str, str]) -> None:
    before = specs(server, words)
    with pytest.raises(Refused, match="colour") as refused:
        server.call("tunnel.create", name=new_name(), colour="blue")
    assert refused.value.kind == "invalid-input"
    with pytest.raises(Refused, match="no command"):
        server.call("tunnel.explode")
    assert specs(server, words) == before


def test_a_port_that_a_stranger_uses_is_refused(server: Agent, words: dict[str, str]) -> None:
    with server.namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
        other.bind(("::", 0))
        port = other.getsockname()[1]
        done = server.cli("interface", "create", new_name(), "--port", str(port))
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert_clear(done.stderr)


def test_without_a_service_it_says_how_to_start_it(lab: Lab) -> None:
    nobody_home = lab.agent()
    done = nobody_home.cli("content", "list")
    assert done.returncode == 1, "2 would say that there is nothing to do"
    assert "manage start" in done.stderr
    assert_clear(done.stderr)


def readable_copy(lab: Lab) -> Path:
    """The source at a place that everybody can read."""
    lab.folder.chmod(0o755)
    copy = lab.folder / "readable"
    shutil.copytree(CHECKOUT / "src", copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def test_somebody_who_is_not_root_may_neither_ask_nor_run_an_agent(server: Agent, lab: Lab) -> None:
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    environment = {**server.environment(), "PYTHONPATH": str(readable_copy(lab))}
    for words, directory in ((["content", "list"], server.config_dir), (["agent"], lab.folder / "nobodys")):
        environment["CONFIG_DIR"] = str(directory)
        done = run(*nobody, interpreter(), "-m", "resource_wireguard", *words, env=environment, check=False)
        assert done.returncode == 1, done.stderr
        assert_clear(done.stderr)
    assert not (lab.folder / "nobodys").exists()


def interpreter() -> str:
    """A Python that a stranger may run."""
    return sys.executable if os.stat(sys.executable).st_mode & 0o001 else "/usr/bin/python3"


def test_without_an_engine_a_tunnel_is_stored_and_told_to_be_down(lab: Lab) -> None:
    agent = lab.agent(lab.internet, settings={"WIREGUARD_ENGINE": "/nonexistent/engine"}).start()
    name = new_name()
    done = agent.cli("interface", "create", name)
    shown = agent.call("status")
    assert "engine" in (done.stderr + str(shown["service"]["checks"])).lower()
    assert [t["state"] for t in shown["tunnels"] if t["name"] == name] in ([], ["down"])
    assert agent.cli("status").returncode == 1
    agent.terminate()
