"""status: true, readable, and what Vrooli reads of it."""

import json
from typing import Any

import pytest
import yaml
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_agent import RESULTS, TUNNEL_STATUS, FakeAgent, error

SICK = {
    "service": {
        "state": "running",
        "health": "unhealthy",
        "engine": None,
        "checks": [
            {
                "code": "engine-available",
                "ok": False,
                "message": "no WireGuard engine",
                "hint": "install one",
            },
            {"code": "host-in-sync", "ok": True, "message": "fine", "hint": ""},
        ],
    },
    "tunnels": [
        {**TUNNEL_STATUS, "state": "down", "engine": None, "drift": ["create interface wg-home: kernel"]}
    ],
}


@pytest.mark.parametrize("format_", ["text", "json", "yaml"])
def test_exit_codes_are_those_of_the_contract(run: Run, agent: FakeAgent, format_: str) -> None:
    assert run("status", "--format", format_).returncode == 0
    agent.result("status", SICK)
    assert run("status", "--format", format_).returncode == 1
    agent.close()
    assert run("status", "--format", format_).returncode == 2


def test_vrooli_reads_one_object_with_two_booleans(run: Run, agent: FakeAgent) -> None:
    def read() -> Any:
        shown = run("status", "--format", "json", "--fast")
        return json.loads(shown.stdout + shown.stderr)

    assert {**RESULTS["status"], "running": True, "healthy": True, "runtime": "native"} == read()
    agent.result("status", SICK)
    assert read() == {**SICK, "running": True, "healthy": False, "runtime": "native"}
    agent.close()
    stopped = read()
    assert (stopped["running"], stopped["healthy"], stopped["tunnels"]) == (False, False, [])
    assert stopped["service"]["state"] == "stopped"


def test_text_has_state_health_and_ports(run: Run, agent: FakeAgent) -> None:
    shown = run("status").stdout
    for part in ("running", "healthy", "kernel", "51820", "vpn.example.org:51820", "1 of 2"):
        assert part in shown
    assert "engine-available" not in shown


def test_what_is_wrong_is_shown_with_its_hint(run: Run, agent: FakeAgent) -> None:
    agent.result("status", SICK)
    shown = run("status").stdout
    assert "failed engine-available: no WireGuard engine\n  hint: install one\n" in shown
    assert "still to be done:\n  create interface wg-home: kernel\n" in shown
    assert "host-in-sync" not in shown


def test_verbose_has_all_checks_and_peers(run: Run, agent: FakeAgent) -> None:
    shown = run("status", "--verbose").stdout
    assert "ok engine-available: fine" in shown
    assert "198.51.100.7:4711" in shown
    assert [command for command, _ in agent.asked] == ["status", "stats"]


def test_stopped_is_said_in_text_too(run: Run) -> None:
    stopped = run("status")
    assert stopped.stdout == "service: stopped\nhealth:  unknown\n"
    assert "hint: start it with 'resource-wireguard manage start'" in stopped.stderr


def test_a_stopped_service_is_an_object_in_yaml(run: Run) -> None:
    assert yaml.safe_load(run("status", "--format", "yaml").stdout)["running"] is False


def test_an_error_is_not_taken_for_a_stop(run: Run, agent: FakeAgent) -> None:
    agent.lines["status"] = [error("host", "the kernel does not answer")]
    assert run("status").returncode == 1


def test_without_tunnels_the_way_on_is_shown(run: Run, agent: FakeAgent) -> None:
    agent.result("status", {**RESULTS["status"], "tunnels": []})
    assert "interface create home" in run("status").stderr
