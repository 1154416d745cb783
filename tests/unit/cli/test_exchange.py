"""Files in and out: what is read and sent, what is refused unread, and what is written how."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_agent import CONFIG, TUNNEL, FakeAgent, error
from tests.unit.formats.configs import CASES, SMALL

from resource_wireguard.cli.files import CONFIG_MOST
from resource_wireguard.model.formats.wgquick import SIZE_MAX

IMPORTED = {"tunnel": TUNNEL, "notes": ["left out: PostUp (line 3)"]}
UNITS = {"wg-home.netdev": "[NetDev]\n", "wg-home.network": "[Match]\n"}


@pytest.fixture
def importing(agent: FakeAgent) -> FakeAgent:
    agent.result("tunnel.import", IMPORTED)
    return agent


def printed(**more: Any) -> dict[str, Any]:
    return {"name": "home", "config": CONFIG, "files": {"wg-home.conf": CONFIG}, "notes": [], **more}


@pytest.mark.parametrize("file", sorted(CASES.iterdir()), ids=lambda path: path.stem)
def test_a_file_is_sent_as_it_is_under_its_name(run: Run, importing: FakeAgent, file: Path) -> None:
    done = run("content", "add", "--file", str(file), "--ignore-hooks")
    assert done.returncode == 0, done.stderr
    text = file.read_bytes().decode().removeprefix("\ufeff")
    assert importing.asked == [("tunnel.import", {"name": file.stem, "text": text, "ignore_hooks": True})]
    assert "note: left out: PostUp (line 3)" in done.stderr


@pytest.mark.parametrize(
    "words", ["office --file FILE", "--name office --file FILE", "office --type wg-quick --file FILE"]
)
def test_another_name_may_be_given(run: Run, importing: FakeAgent, tmp_path: Path, words: str) -> None:
    file = tmp_path / "wg0.conf"
    file.write_text(SMALL)
    assert run("content", "add", *words.replace("FILE", str(file)).split()).returncode == 0
    assert importing.asked[0][1]["name"] == "office"


def test_stdin_needs_a_name_and_the_interface_may_be_told(run: Run, importing: FakeAgent) -> None:
    assert run("content", "add", "--file", "-", stdin=SMALL).returncode == 1
    done = run("content", "add", "home", "--file", "-", "--interface", "wg7", stdin=SMALL)
    assert done.returncode == 0
    request = {"name": "home", "text": SMALL, "interface": "wg7"}
    assert importing.asked == [("tunnel.import", request)]


def test_settings_of_the_environment_are_not_typed(run: Run, importing: FakeAgent, tmp_path: Path) -> None:
    file = tmp_path / "wg0.conf"
    file.write_text(SMALL)
    assert run("content", "add", "--file", str(file), WIREGUARD_MTU="1300").returncode == 0
    refused = run("content", "add", "--file", str(file), "--mtu", "1300")
    assert (refused.returncode, "--mtu and --file exclude" in refused.stderr) == (1, True)


BAD = {
    "10 MB of zeros": (bytes(10_000_000), "more than 4194304 bytes"),
    "latin-1": (SMALL.encode() + b"# caf\xe9\n", "line 8: this is not UTF-8"),
    "utf-16": (SMALL.encode("utf-16"), "line 1: this is not UTF-8"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_text_is_not_sent(
    run: Run, importing: FakeAgent, tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "wg0.conf"
    file.write_bytes(content)
    refused = run("content", "add", "--file", str(file))
    first, *hints = refused.stderr.splitlines()
    assert (refused.returncode, importing.asked) == (1, [])
    assert first.startswith("error: ")
    assert message in first
    assert str(file) in first
    assert all(line.startswith("hint: ") for line in hints)


@pytest.mark.parametrize("path", ["/nowhere/wg0.conf", "/"])
def test_what_cannot_be_read_is_named(run: Run, importing: FakeAgent, path: str) -> None:
    refused = run("content", "add", "x", "--file", path)
    assert (refused.returncode, importing.asked) == (1, [])
    assert f"cannot read {path}" in refused.stderr


def test_the_agents_refusal_names_the_file(run: Run, agent: FakeAgent, tmp_path: Path) -> None:
    file = tmp_path / "wg0.conf"
    file.write_text(SMALL)
    agent.lines["tunnel.import"] = [error("invalid-input", "line 3: MTU is not a size", "use 576")]
    refused = run("content", "add", "--file", str(file))
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [f"error: {file}: line 3: MTU is not a size", "hint: use 576"]


def test_both_sides_read_as_much() -> None:
    assert CONFIG_MOST == SIZE_MAX


# Out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["json", "networkd", "networkmanager"])
def test_a_format_is_asked_for_by_its_name(run: Run, agent: FakeAgent, format_: str) -> None:
    for words in (("content", "get", "home"), ("peer", "config", "home", "phone")):
        assert run(*words, "--format", format_).stdout == CONFIG
    assert [request["format"] for _, request in agent.asked] == [format_, format_]


def test_networkds_files_go_into_a_folder(run: Run, agent: FakeAgent, tmp_path: Path) -> None:
    agent.result("tunnel.config", printed(files=UNITS, notes=["networkd wants them 0640"]))
    folder = tmp_path / "units"
    done = run("content", "get", "home", "--format", "networkd", "--output", str(folder))
    assert (done.returncode, done.stdout, "0640" in done.stderr) == (0, "", True)
    assert {file.name: file.read_text() for file in folder.iterdir()} == UNITS
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    in_the_way = tmp_path / "file"
    in_the_way.write_text("mine")
    refused = run("content", "get", "home", "--format", "networkd", "--output", str(in_the_way))
    assert (refused.returncode, in_the_way.read_text()) == (1, "mine")


@pytest.mark.parametrize(("kind", "begin"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_picture_is_a_private_file(
    run: Run, agent: FakeAgent, environment: dict[str, str], tmp_path: Path, kind: str, begin: bytes
) -> None:
    file = tmp_path / f"phone.{kind}"
    done = run("peer", "config", "home", "phone", "--format", kind, "--output", str(file))
    assert done.returncode == 0, done.stderr
    assert file.read_bytes().startswith(begin)
    assert file.stat().st_mode & 0o777 == 0o600
    assert agent.asked == [("peer.config", {"tunnel": "home", "name": "phone"})]


def test_a_qr_code_is_drawn_in_both_ways(run: Run, agent: FakeAgent) -> None:
    drawn = run("peer", "config", "home", "phone", "--format", "qr").stdout
    assert drawn == run("peer", "config", "home", "phone", "--qr").stdout
    assert "\u2588" in drawn or "\u2580" in drawn


def test_comments_are_not_drawn(run: Run, agent: FakeAgent) -> None:
    bare = run("peer", "config", "home", "phone", "--qr").stdout
    agent.result("peer.config", {"config": f"# tunnel home, peer phone\n{CONFIG}", "notes": []})
    assert run("peer", "config", "home", "phone", "--qr").stdout == bare


@pytest.mark.parametrize("format_", ["qr", "png", "svg"])
def test_a_picture_without_keys_is_refused(run: Run, agent: FakeAgent, format_: str) -> None:
    refused = run("content", "get", "home", "--format", format_)
    assert (refused.returncode, "--show-secrets" in refused.stderr, agent.asked) == (1, True, [])
    shown: subprocess.CompletedProcess[str] = run(
        "content", "get", "home", "--show-secrets", "--format", "qr"
    )
    assert shown.returncode == 0


def test_adopt_asks_by_interface(run: Run, agent: FakeAgent) -> None:
    agent.result("tunnel.adopt", {"tunnel": TUNNEL, "notes": ["wg-quick must not start it"]})
    assert run("interface", "adopt", "wg0").returncode == 0
    done = run("interface", "adopt", "wg0", "--name", "home", "--format", "json")
    assert '"name": "home"' in done.stdout
    assert "wg-quick must not" in done.stderr
    assert [request for _, request in agent.asked] == [
        {"interface": "wg0"},
        {"interface": "wg0", "name": "home"},
    ]
