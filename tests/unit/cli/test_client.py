"""The socket client: deadlines and where it looks."""

import time
from pathlib import Path

import pytest
from tests.unit.cli.fake_agent import FakeAgent

from resource_wireguard.cli import client
from resource_wireguard.errors import HostError


def test_a_deadline_holds_for_an_agent_that_drips(
    agent: FakeAgent, config_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress every now and then must not keep a script waiting for ever."""
    monkeypatch.setenv("CONFIG_DIR", str(config_dir))
    agent.lines["status"] = [{"progress": "still at it"}, lambda: time.sleep(0.1)] * 30
    begun = time.monotonic()
    with pytest.raises(HostError, match=r"no answer to 'status' within 0\.3 s"):
        client.call("status", within=0.3)
    assert time.monotonic() - begun < 2


def test_progress_is_passed_on(agent: FakeAgent, config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIG_DIR", str(config_dir))
    agent.lines["plan"] = [{"progress": "one"}, {"progress": "two"}, {"result": 3}]
    heard: list[str] = []
    assert client.call("plan", progress=heard.append) == 3
    assert heard == ["one", "two"]


def test_where_the_agent_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.delenv("CONFIG_DIR", raising=False)
    assert client.config_dir() == "/somewhere/.vrooli/resources/wireguard"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONFIG_DIR", "here")
    assert client.config_dir() == str(tmp_path / "here")
