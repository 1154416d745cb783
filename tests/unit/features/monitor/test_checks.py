"""The health of the service: each check says yes and no when it should."""

import os
from typing import Any

import msgspec
import pytest
from tests.unit.features.conftest import Call

from resource_wireguard.engine.feature import Check
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.engine.views import tunnel_view
from resource_wireguard.features.monitor.checks import CODES, checks_of
from resource_wireguard.host.diff import diff
from resource_wireguard.host.facts import Facts, Observation, PeerFacts, Problem
from resource_wireguard.host.state import Address, Link, Record, Sysctl, state_of
from resource_wireguard.model.keys import PrivateKey, PublicKey
from resource_wireguard.model.specs import PeerSpec, TunnelSpec
from resource_wireguard.system.fake import FakeHost

PHONE = PublicKey(b"\x07" * 32)
HOME = TunnelSpec(
    name="home",
    number=1,
    interface="wg-home",
    private_key=PrivateKey(b"\x02" * 32),
    public_key=PublicKey(b"\x03" * 32),
    listen_port=51820,
    addresses=("10.13.13.1/24",),
    active=True,
    peers=(PeerSpec(name="phone", public_key=PHONE),),
)
LINK = Link("wg-home", "home", "kernel", 1420)
ADDRESS = Address("wg-home", "10.13.13.1/24")


def report_of(
    actual: tuple[Record, ...] = (LINK, ADDRESS),
    desired: tuple[Record, ...] = (LINK, ADDRESS),
    problems: tuple[Problem, ...] = (),
    **seen: object,
) -> Report:
    peers = {("wg-home", PHONE): PeerFacts("192.0.2.1:5", 90.0, 5, 7)}
    observation = msgspec.structs.replace(Observation(state_of(actual), peers, "kernel"), **seen)
    plan = diff(state_of(desired), observation.state, complete=observation.complete)
    return Report(Facts(100.0, observation), state_of(desired), drift=plan, problems=problems)


def checks(report: Report, tunnel: TunnelSpec = HOME) -> dict[str, Check]:
    found = checks_of(report, [tunnel_view(tunnel, report)])
    assert {check.code for check in found} <= set(CODES)
    assert all(check.hint for check in found if not check.ok)
    return {check.code: check for check in found}


def test_all_is_well() -> None:
    found = checks(report_of())
    assert set(found) == set(CODES)
    assert all(check.ok for check in found.values())


@pytest.mark.parametrize(
    ("report", "code", "message"),
    [
        (report_of(engine=None), "engine-available", "no WireGuard engine"),
        (report_of(complete=False), "observation-complete", "did not answer"),
        (report_of(actual=()), "tunnel-up", "'home' is down"),
        (report_of(actual=(LINK,)), "tunnel-in-sync", "create address 10.13.13.1/24"),
        (report_of(problems=(Problem("port is taken", "", "wg-home"),)), "tunnel-in-sync", "port is taken"),
        (
            report_of(desired=(LINK, ADDRESS, Sysctl("net.ipv4.ip_forward", "1"))),
            "host-in-sync",
            "net.ipv4.ip_forward",
        ),
        (
            report_of(actual=(LINK, ADDRESS, Link("wg-old", "old", "kernel", 1420))),
            "host-in-sync",
            "delete interface wg-old",
        ),
        (report_of(problems=(Problem("nft failed", "install it"),)), "host-in-sync", "nft failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_thing_is_wrong(report: Report, code: str, message: str) -> None:
    found = checks(report)
    assert [check.code for check in found.values() if not check.ok] == [code]
    assert message in found[code].message


def test_a_long_plan_is_cut_short() -> None:
    many = tuple(Address("wg-home", f"10.{n}.0.1/24") for n in range(9))
    assert checks(report_of(actual=(LINK,), desired=(LINK, *many)))["tunnel-in-sync"].message.endswith(
        "and 6 more"
    )


def test_an_inactive_tunnel_has_nothing_to_answer_for() -> None:
    found = checks(report_of((), ()), msgspec.structs.replace(HOME, active=False))
    assert {code for code in found if code.startswith("tunnel")} == set()


@pytest.mark.parametrize(("gone", "health"), [(False, "healthy"), (True, "unhealthy")])
def test_status(call: Call, host: FakeHost, home: Any, gone: bool, health: str) -> None:
    if gone:
        host.tamper(gone=host.observe().state.of(Link)["wg-home"])
    status = call("status")
    assert (status["service"]["state"], status["service"]["health"]) == ("running", health)
    assert [tunnel["name"] for tunnel in status["tunnels"]] == ["home"]


def test_the_agents_own_figures_are_its_own(call: Call) -> None:
    agent = call("stats")["agent"]
    assert agent["pid"] == os.getpid()
    assert 0 < agent["uptime_seconds"] < 86_400
    assert agent["cpu_seconds"] > 0
    assert 5_000_000 < agent["rss_bytes"] < 2_000_000_000
