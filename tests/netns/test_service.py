"""What the service counts survives its engines and agents; what it leaves behind is nothing."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from operator import eq
from pathlib import Path
from typing import Any

import pytest
from tests.netns.harness import (
    Agent,
    Lab,
    Namespace,
    key_pair,
    picture,
    plain_peer,
    wait_until,
)
from tests.netns.test_survival import end_engine

PINGS, SIZE = 10, 1000


@pytest.fixture
def agent(lab: Lab) -> Iterator[Agent]:
    """An agent for one test, which may do with it what it likes."""
    agent = lab.agent().start()
    yield agent
    if agent.socket_path.exists():
        agent.end()


def stats_of(agent: Agent, tunnel: str) -> dict[str, Any]:
    (found,) = agent.call("stats", tunnel=tunnel)["tunnels"]
    return dict(found)


def test_totals_survive_the_engines_death_and_the_agents(agent: Agent, lab: Lab, engine: str) -> None:
    made = agent.make_tunnel(endpoint="192.0.2.1")
    config = agent.call("peer.add", tunnel=made["name"], name="laptop")["config"]
    address = next(a.partition("/")[0] for a in made["addresses"] if ":" not in a)
    with plain_peer(lab.laptop, config, engine):

        def carry() -> dict[str, Any]:
            assert lab.laptop.ping(address, count=PINGS, size=SIZE)
            return stats_of(agent, made["name"])

        first = carry()
        assert first["rx_total"] == first["rx_bytes"] > PINGS * SIZE < first["tx_total"]
        end_engine(lab.server, made["interface"], engine)
        wait_until(lambda: lab.server.link(made["interface"]) and agent.settled(), what="a new engine")
        wait_until(lambda: lab.laptop.ping(address), what="a new session")
        second = carry()
        assert second["rx_bytes"] < second["rx_total"]
        assert second["rx_total"] >= first["rx_total"] + PINGS * SIZE
        agent.kill()
        assert lab.laptop.ping(address, count=PINGS, size=SIZE), "while no agent counts"
        agent.start()
        third = stats_of(agent, made["name"])
        assert third["rx_total"] >= second["rx_total"] + PINGS * SIZE
        assert third["peers"][0]["rx_total"] == third["rx_total"]
        agent.call("agent.stop")
        agent.process.wait(20)
        agent.start()
        fourth = stats_of(agent, made["name"])
        assert fourth["rx_total"] >= third["rx_total"]
        assert fourth["rx_bytes"] == 0


def test_packets_that_cannot_be_carried_are_seen(agent: Agent, lab: Lab, engine: str) -> None:
    """A peer without endpoint: the kernel's WireGuard counts errors, a userspace engine's link drops."""
    made = agent.make_tunnel(addresses=["10.98.0.1/24"])
    agent.call(
        "peer.add", tunnel=made["name"], name="lost", public_key=key_pair()[1], addresses=["10.98.0.2/32"]
    )
    assert stats_of(agent, made["name"])["tx_errors"] == 0
    if engine == "kernel":
        lab.server.ping("10.98.0.2")
        assert stats_of(agent, made["name"])["tx_errors"] > 0
    else:
        fill_the_queue(lab.server, made["interface"])
        assert stats_of(agent, made["name"])["tx_dropped"] > 0


def fill_the_queue(namespace: Namespace, interface: str) -> None:
    """More packets than a TUN device holds, while its engine is stopped."""
    (pid,) = [
        pid for pid in namespace.pids() if interface in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    ]
    os.kill(pid, signal.SIGSTOP)
    try:
        namespace.exec("ping", "-q", "-f", "-c", "1500", "-W", "1", "10.98.0.2", check=False)
    finally:
        os.kill(pid, signal.SIGCONT)


# -- uninstall --


def manage(agent: Agent, *words: str) -> str:
    """'manage' inside the agent's namespace; what it said."""
    argv = [sys.executable, "-m", "resource_wireguard", "manage", *words]
    return agent.namespace.exec(*argv, env=agent.environment()).stderr


def ours(namespace: Namespace, interface: str) -> list[object]:
    """All that bears our marks, and the settings that we change."""
    seen = picture(namespace, interface)
    rules = [rule for rule in seen["rules"] if '"157"' in rule or "1570" in rule]
    return [seen["link"]["flags"], seen["routes"], rules, seen["nft"], seen["device"], seen["forwarding"]]


NOTHING = [None, set(), [], "", None, "0"]


@pytest.fixture
def busy(lab: Lab) -> Iterator[tuple[Agent, str]]:
    """A service in its own namespace with an exit tunnel, started as a user starts it; and its interface."""
    namespace = lab.namespace("busy")
    agent = Agent(namespace, lab.folder / namespace.name, lab.engine)
    manage(agent, "start", "--wait")
    made = agent.make_tunnel(exit=True)
    agent.call("peer.add", tunnel=made["name"], name="phone")
    site = {"name": "site", "public_key": key_pair()[1], "endpoint": "192.0.2.3:1"}
    agent.call("peer.add", tunnel=made["name"], routes=["10.81.0.0/16"], **site)
    client = agent.make_tunnel()
    everything = {"name": "exit", "public_key": key_pair()[1], "endpoint": "192.0.2.4:1"}
    agent.call("peer.add", tunnel=client["name"], routes=["0.0.0.0/0"], **everything)
    assert not any(map(eq, ours(namespace, made["interface"]), NOTHING)), "there is something to take away"
    yield agent, made["interface"]
    if (agent.config_dir / "run").exists():
        manage(agent, "uninstall", "--force")


def socket_of(interface: str) -> Path:
    return Path(f"/run/wireguard/{interface}.sock")


def test_uninstall_leaves_nothing_of_a_running_service(busy: tuple[Agent, str]) -> None:
    agent, interface = busy
    agent.namespace.ip("link add theirs type bridge", "link set theirs group 5")
    manage(agent, "uninstall", "--force")
    assert ours(agent.namespace, interface) == NOTHING
    assert agent.namespace.pids() == []
    assert not socket_of(interface).exists()
    assert not agent.config_dir.exists()
    assert agent.namespace.link("theirs")


def test_uninstall_leaves_nothing_of_a_killed_service(busy: tuple[Agent, str]) -> None:
    agent, interface = busy
    os.kill(agent.call("agent.info")["pid"], signal.SIGKILL)
    (agent.config_dir / "notes of mine").write_text("x")
    said = manage(agent, "uninstall", "--force")
    assert ours(agent.namespace, interface) == NOTHING
    assert agent.namespace.pids() == []
    assert [path.name for path in agent.config_dir.iterdir()] == ["notes of mine"]
    assert "not ours: notes of mine" in said
    shutil.rmtree(agent.config_dir)


def test_kept_data_brings_the_same_tunnels_back(busy: tuple[Agent, str]) -> None:
    agent, interface = busy
    before = agent.namespace.wg(interface)
    manage(agent, "uninstall", "--force", "--keep-data")
    assert ours(agent.namespace, interface) == NOTHING
    assert sorted(path.name for path in agent.config_dir.iterdir()) == ["master.key", "state.db"]
    manage(agent, "start", "--wait")
    after = agent.namespace.wg(interface)
    assert (after.private_key, set(after.peers)) == (before.private_key, set(before.peers))
