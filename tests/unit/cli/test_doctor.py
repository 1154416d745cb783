"""doctor: true findings about this host and about made-up ones."""

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_agent import TUNNEL, FakeAgent, error

from resource_wireguard.cli import doctor
from resource_wireguard.features.isolation import views
from resource_wireguard.features.monitor import checks

PAGE = Path(__file__).parents[3] / "docs" / "troubleshooting.md"


def findings(run: Run, **more: str) -> dict[str, dict[str, Any]]:
    shown = run("doctor", "--format", "json", **more)
    found = {check["code"]: check for check in json.loads(shown.stdout)}
    failed = any(check["result"] == "failed" for check in found.values())
    assert shown.returncode == int(failed)
    return found


def test_every_code_has_its_paragraph(run: Run) -> None:
    codes = {*findings(run), *checks.CODES, *views.CODES}
    paragraphs = set(re.findall(r"^#+ `([a-z-]+)`", PAGE.read_text(), re.MULTILINE))
    assert codes == paragraphs


def test_all_that_is_not_well_has_a_hint(run: Run) -> None:
    for check in findings(run, WIREGUARD_ENGINE="/nowhere/engine").values():
        assert check["result"] == "ok" or check["hint"], check


def test_an_engine_that_is_not_there(run: Run) -> None:
    assert findings(run, WIREGUARD_ENGINE="/nowhere/engine")["engine"]["result"] == "failed"


def test_a_stopped_service_is_a_warning(run: Run) -> None:
    assert findings(run)["agent"]["result"] == "warning"


def test_the_agent_that_answers(run: Run, agent: FakeAgent) -> None:
    assert "pid 4711" in findings(run)["agent"]["message"]


def test_a_config_dir_that_is_open_to_others(run: Run, config_dir: Path) -> None:
    config_dir.mkdir(mode=0o700)
    assert findings(run)["config-dir"]["result"] == "ok"
    config_dir.chmod(0o755)
    assert findings(run)["config-dir"]["result"] == "failed"


def test_the_port_is_free_ours_or_taken(run: Run, agent: FakeAgent) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("", 0))
        port = holder.getsockname()[1]
        assert "another program" in findings(run, WIREGUARD_PORT=str(port))["port"]["message"]
        for ours in ({"listen_port": port}, {"further": [{"listen_port": port}]}):
            agent.result("tunnel.list", [{**TUNNEL, **ours}])
            assert "tunnel 'home'" in findings(run, WIREGUARD_PORT=str(port))["port"]["message"]
        agent.lines["tunnel.list"] = [error("store", "no")]
        found = findings(run, WIREGUARD_PORT=str(port))["port"]
        assert (found["result"], "only a running service knows" in found["message"]) == ("warning", True)
    assert findings(run, WIREGUARD_PORT=str(port))["port"]["message"].endswith("is free")
    assert findings(run, WIREGUARD_PORT="lots")["port"]["result"] == "failed"


def test_a_clock_before_the_first_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.time, "time", lambda: 0.0)
    assert doctor._clock().result == "failed"


@pytest.mark.parametrize(
    ("files", "check", "result"),
    [
        ({"/proc/self/status": "CapEff:\t0000000000000000\n"}, "_net_admin", "failed"),
        ({"/proc/self/status": "CapEff:\t0000000000001000\n"}, "_net_admin", "ok"),
        ({"/proc/sys/net/ipv4/conf/all/rp_filter": "1\n"}, "_rp_filter", "warning"),
        ({"/proc/sys/net/ipv4/conf/all/rp_filter": "2\n"}, "_rp_filter", "ok"),
        ({"/proc/sys/net/ipv4/ip_forward": "1\n"}, "_forwarding", "ok"),
    ],
)
def test_what_the_kernel_says(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], check: str, result: str
) -> None:
    monkeypatch.setattr(doctor, "_read", lambda path: files.get(path, "0\n"))
    assert getattr(doctor, check)().result == result
