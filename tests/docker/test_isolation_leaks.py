"""Nothing leaves but through the tunnel: whatever dies, is taken down or is made anew meanwhile."""

import os
import signal
from collections.abc import Iterator

import pytest
from tests.docker.sealed import Sealed, sealed_lab
from tests.netns.harness import run, wait_until

TABLE = ("inet", "resource-wireguard")


@pytest.fixture(scope="module")
def sealed(engine: str) -> Iterator[Sealed]:
    """A lab of its own: its daemon is restarted and killed. One container sends from it all the time."""
    with sealed_lab(engine) as sealed:
        sealed.sender("wg-web", name="sender", restart_policy={"Name": "always"})
        sealed.wait_for_flow()
        yield sealed


def assert_held_in(sealed: Sealed) -> None:
    """Nothing leaks, and nothing arrives."""
    with sealed.counted() as counted:
        pass
    assert counted.leaked == []
    assert counted.arrived == 0


def assert_flows_again(sealed: Sealed) -> None:
    """The agent starts, and nothing leaks meanwhile."""
    with sealed.counted() as counted:
        sealed.agent.start()
        sealed.wait_for_flow()
    assert counted.leaked == []


def test_everything_goes_through_the_tunnel(sealed: Sealed) -> None:
    with sealed.counted() as counted:
        pass
    assert counted.leaked == []
    assert counted.arrived > 50


def test_the_tunnel_goes_down_and_up(sealed: Sealed) -> None:
    with sealed.counted() as counted:
        sealed.agent.call("tunnel.deactivate", name=sealed.tunnel)
    assert counted.leaked == []
    assert_held_in(sealed)
    with sealed.counted() as counted:
        sealed.agent.call("tunnel.activate", name=sealed.tunnel)
        sealed.wait_for_flow()
    assert counted.leaked == []


def test_the_tunnel_is_deleted_and_made_again(sealed: Sealed) -> None:
    with sealed.counted() as counted:
        sealed.agent.call("tunnel.delete", name=sealed.tunnel)
    assert counted.leaked == []
    shown = sealed.agent.call("namespace.status", name="web")
    assert shown["state"] == "isolated"
    assert "does not exist" in shown["problems"][0]["message"]
    assert_held_in(sealed)
    with sealed.counted() as counted:
        sealed.make_tunnel()
        sealed.wait_for_flow()
    assert counted.leaked == []


def test_the_agent_is_killed_then_the_engine_then_the_table_flushed(sealed: Sealed) -> None:
    """What the kernel holds is enough, and each half of it is."""
    with sealed.counted() as counted:
        sealed.agent.kill()
    assert counted.leaked == []
    assert counted.arrived > 0
    sealed.server.ip(f"link set {sealed.interface} down")
    assert_held_in(sealed)
    for pid in engines(sealed):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not sealed.server.link(sealed.interface), what="end of the interface")
    assert_held_in(sealed)
    sealed.server.nft("delete", "table", *TABLE)
    assert_held_in(sealed)
    assert_flows_again(sealed)


def test_rules_flushed_by_hand_are_repaired_and_the_table_holds_meanwhile(sealed: Sealed) -> None:
    with sealed.counted() as counted:
        for family in ("-4", "-6"):
            run("ip", family, "-n", sealed.server.name, "rule", "flush", "protocol", "157")
        wait_until(sealed.agent.settled, what="repair of the rules")
    assert counted.leaked == []
    sealed.wait_for_flow()


def test_the_network_is_disconnected_and_connected(sealed: Sealed) -> None:
    network = sealed.daemon.client.networks.get("wg-web")
    with sealed.counted() as counted:
        network.disconnect("sender")
        network.connect("sender")
        sealed.wait_for_flow()
    assert counted.leaked == []


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_docker_ends_and_starts_again(sealed: Sealed, how: str) -> None:
    with sealed.counted() as counted:
        getattr(sealed.daemon, how)()
        if how == "kill":
            sealed.daemon.start()
        sealed.wait_for_flow()
    assert counted.leaked == []
    wait_until(sealed.agent.settled, what="an agent that is content")


def test_the_service_is_stopped_and_started(sealed: Sealed) -> None:
    """What holds the containers in stays; only the gateway goes."""
    with sealed.counted() as counted:
        sealed.agent.end()
    assert counted.leaked == []
    assert_held_in(sealed)
    assert_flows_again(sealed)


def test_uninstall_opens_no_network_in_use(sealed: Sealed) -> None:
    with sealed.counted() as counted:
        left = sealed.agent.call("agent.purge")["left"]
        assert sealed.agent.process and not sealed.agent.process.wait(20)
    assert "delete Docker network wg-web" in left
    assert counted.leaked == []
    assert_held_in(sealed)
    assert_flows_again(sealed)


def test_the_host_boots_and_docker_is_there_before_us(sealed: Sealed) -> None:
    """As after a power cut: nothing of ours is in the kernel, and the container is started by Docker."""
    sealed.agent.kill()
    with sealed.counted() as counted:
        sealed.daemon.stop()
        sweep(sealed)
        sealed.daemon.start()
        running = sealed.daemon.client.containers.get("sender")
        wait_until(lambda: running.reload() or running.status == "running", what="start of the container")
    assert counted.leaked == []
    assert_held_in(sealed)
    assert_flows_again(sealed)


def test_the_count_sees_what_leaks_without_protection(sealed: Sealed) -> None:
    """The test of the tests: all senders are seen, in both families."""
    sealed.agent.kill()
    sealed.server.nft("delete", "table", *TABLE)
    for family in ("-4", "-6"):
        run("ip", family, "-n", sealed.server.name, "rule", "flush", "protocol", "157")
    with sealed.counted() as counted:
        pass
    assert {"ICMP to 203.0.113.1", "TCP to 203.0.113.1", "UDP to 203.0.113.1"} <= set(counted.leaked)
    assert {"ICMPv6 to 2001:db8:99::1", "fragment to 2001:db8:99::1"} <= set(counted.leaked)
    sealed.agent.start()
    sealed.wait_for_flow()


def engines(sealed: Sealed) -> list[int]:
    """The processes behind the tunnel's interface."""
    found = run("pgrep", "-f", f"wireguard-go.*{sealed.interface}$", check=False).stdout.split()
    return [int(pid) for pid in found]


def sweep(sealed: Sealed) -> None:
    """All that a boot leaves nothing of."""
    for pid in engines(sealed):
        os.kill(pid, signal.SIGKILL)
    sealed.server.nft("flush", "ruleset")
    for family in ("-4", "-6"):
        run("ip", family, "-n", sealed.server.name, "rule", "flush", "protocol", "157")
    for link in ("docker0", "wgn-web"):
        run("ip", "-n", sealed.server.name, "link", "delete", link, check=False)
