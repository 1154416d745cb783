"""Namespaces on a real Docker: what containers reach, who moves them, and what stays untouched."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from docker.models.containers import Container
from tests.docker.sealed import WORLD4, WORLD6, Sealed, sealed_lab
from tests.netns.harness import Refused, sysctl, wait_until

IDLE = ["sleep", "1000"]


@pytest.fixture(scope="module")
def sealed(engine: str) -> Iterator[Sealed]:
    with sealed_lab(engine) as sealed:
        yield sealed


def started(sealed: Sealed, name: str, network: str = "bridge", **more: Any) -> Container:
    """A container that does nothing."""
    options = {"stop_signal": "SIGKILL", "dns": [WORLD4], **more}
    return sealed.daemon.client.containers.run(
        sealed.image, IDLE, detach=True, name=name, network=network, **options
    )


def networks(container: Container) -> set[str]:
    container.reload()
    return set(container.attrs["NetworkSettings"]["Networks"])


def reaches(container: Container, *argv: str) -> bool:
    """Whether a program in the container ends well within two seconds."""
    return container.exec_run(["timeout", "2", *argv]).exit_code == 0


def pinged(container: Container, *addresses: str) -> set[str]:
    """Those of some addresses that answer within a second; all are asked at once."""
    script = "for a in $*; do (ping -c 1 -W 1 $a >/dev/null 2>&1 && echo $a) & done; wait"
    return set(container.exec_run(["sh", "-c", script, "sh", *addresses]).output.decode().split())


def pings(container: Container, address: str) -> bool:
    return bool(pinged(container, address))


@pytest.fixture
def inside(sealed: Sealed) -> Iterator[Container]:
    container = started(sealed, "inside", "wg-web")
    yield container
    container.remove(force=True)


# what is reached ------------------------------------------------------------------------------------


def test_the_world_is_reached_and_the_host_is_not(sealed: Sealed, inside: Container) -> None:
    web = sealed.agent.call("namespace.status", name="web")
    gateway = web["prefixes"][0].replace(".0/24", ".254")
    bridge, lan = gateway.replace(".254", ".1"), "192.0.2.2"
    host = (gateway, bridge, "10.66.0.2", "fd66::2", "198.51.100.1", "2001:db8:1::1", "172.17.0.1")
    assert pinged(inside, WORLD4, WORLD6, lan, *host) == {WORLD4, WORLD6}


def test_large_packets_fit_and_segments_are_clamped(sealed: Sealed, inside: Container) -> None:
    assert reaches(inside, "ping", "-c", "1", "-s", "30000", WORLD4)

    def clamped() -> bool:
        with sealed.internet.capture(sealed.far_end, "tcp[tcpflags] & tcp-syn != 0") as lines:
            reaches(inside, "nc", WORLD4, "7777")
        return any("mss 1380" in line for line in lines)

    wait_until(clamped, what="a SYN with segments that fit the tunnel")


def test_nobody_calls_in(sealed: Sealed, inside: Container) -> None:
    """Not through the tunnel, not from the network the host is in; the host itself may."""
    address, _ = addresses_of(inside, "wg-web")
    assert sealed.server.ping(address)
    sealed.internet.ip(f"route add {address}/32 via 198.51.100.1")
    assert not sealed.internet.ping(address)


def test_containers_speak_to_each_other_only_where_they_may(sealed: Sealed, inside: Container) -> None:
    other = started(sealed, "other", "wg-web")
    sealed.agent.call("namespace.create", name="open", tunnel=sealed.tunnel, intercontainer=True)
    first, second = started(sealed, "first", "wg-open"), started(sealed, "second", "wg-open")
    try:
        near, far = addresses_of(other, "wg-web"), addresses_of(first, "wg-open")
        allowed = addresses_of(second, "wg-open")
        assert pinged(inside, *near, *far) == set()
        assert pinged(first, *near, *allowed) == set(allowed)
    finally:
        for container in (other, first, second):
            container.remove(force=True)
        sealed.agent.call("namespace.delete", name="open")


def addresses_of(container: Container, network: str) -> list[str]:
    container.reload()
    held = container.attrs["NetworkSettings"]["Networks"][network]
    return [held["IPAddress"], held["GlobalIPv6Address"]]


# who moves containers -------------------------------------------------------------------------------


def test_a_container_is_moved_in_stays_in_and_is_given_back(sealed: Sealed) -> None:
    container = started(sealed, "moved")
    try:
        shown = sealed.agent.cli("namespace", "connect", "moved", "web")
        assert shown.returncode == 0, shown.stderr
        assert "container 'moved' has left: bridge" in shown.stderr
        assert networks(container) == {"wg-web"}
        assert pings(container, WORLD4)
        container.restart()
        assert networks(container) == {"wg-web"}
        assert pings(container, WORLD4)
        container.remove(force=True)
        container = started(sealed, "moved")
        wait_until(lambda: networks(container) == {"wg-web"}, what="the new container in the namespace")
        sealed.daemon.client.networks.get("bridge").connect(container)
        wait_until(lambda: networks(container) == {"wg-web"}, what="the container out of the bridge")
        assert sealed.agent.cli("namespace", "disconnect", "moved", "web").returncode == 0
        assert networks(container) == {"bridge"}
    finally:
        container.remove(force=True)


def test_another_way_out_is_told_of_and_left_alone(sealed: Sealed, inside: Container) -> None:
    sealed.daemon.client.networks.get("bridge").connect(inside)
    shown = sealed.agent.cli("namespace", "status", "web", "--format", "json")
    web = json.loads(shown.stdout)
    assert web["state"] == "leaking"
    assert web["containers"][0]["other_networks"] == ["bridge"]
    assert sealed.agent.cli("status").returncode == 1
    assert networks(inside) == {"wg-web", "bridge"}


def test_delete_names_what_is_attached(sealed: Sealed, inside: Container) -> None:
    shown = sealed.agent.cli("namespace", "delete", "web", "--force")
    assert shown.returncode == 1
    assert "namespace 'web' has containers attached: inside" in shown.stderr


def test_a_network_removed_by_hand_comes_back(sealed: Sealed) -> None:
    sealed.daemon.client.networks.get("wg-web").remove()
    wait_until(lambda: sealed.daemon.client.networks.list(names=["wg-web"]), what="the network again")
    wait_until(sealed.agent.settled, what="an agent that is content")


# bad input -------------------------------------------------------------------------------------------


def test_a_foreign_network_is_never_touched(sealed: Sealed) -> None:
    foreign = sealed.daemon.client.networks.create("wg-mine", labels={"wireguard.network": "true"})
    before = sealed.daemon.client.api.inspect_network("wg-mine")
    with pytest.raises(Refused, match="Docker has a network 'wg-mine' that is not ours"):
        sealed.agent.call("namespace.create", name="mine", tunnel=sealed.tunnel)
    assert sealed.agent.settled()
    assert sealed.daemon.client.api.inspect_network("wg-mine") == before
    foreign.remove()


def test_a_bridge_that_only_looks_like_ours_is_let_be(sealed: Sealed) -> None:
    sealed.server.ip("link add wgn-other type bridge", "address add 10.99.0.1/32 dev wgn-other")
    wait_until(sealed.agent.settled, what="an agent that has seen it")
    assert sealed.server.addresses("wgn-other") == {"10.99.0.1/32"}
    assert "wgn-other" not in sealed.server.nft("list", "ruleset")
    sealed.server.ip("link delete wgn-other")


@pytest.mark.parametrize("mode", ["host", "none"])
def test_containers_without_networks_are_refused(sealed: Sealed, mode: str) -> None:
    container = started(sealed, f"with-{mode}", mode, dns=None)
    shown = sealed.agent.cli("namespace", "connect", f"with-{mode}", "web")
    container.remove(force=True)
    assert shown.returncode == 1
    error, hint = shown.stderr.strip().splitlines()
    assert error.startswith(f"error: container 'with-{mode}' was started with --network {mode}")
    assert hint.startswith("hint: make it anew: docker run --network wg-web")


def test_an_unknown_container_and_an_inactive_tunnel(sealed: Sealed) -> None:
    shown = sealed.agent.cli("namespace", "connect", "nobody", "web")
    assert shown.returncode == 2
    assert shown.stderr.startswith("error: no container named 'nobody'\nhint: ")
    sealed.agent.call("tunnel.create", name="idle", activate=False)
    made = sealed.agent.call("namespace.create", name="idle", tunnel="idle")
    assert made["state"] == "isolated"
    sealed.agent.call("namespace.delete", name="idle")
    sealed.agent.call("tunnel.delete", name="idle")


# beside others' firewalls ------------------------------------------------------------------------------

UFW = """
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-forward - [0:0]
-A FORWARD -j ufw-before-forward
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""

FIREWALLD = """
table inet firewalld {
    chain mangle_PREROUTING { type filter hook prerouting priority -140; policy accept;
        icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
        meta nfproto ipv6 fib saddr . mark . iif oif missing drop
    }
    chain filter_FORWARD { type filter hook forward priority 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "wgn-web" accept
        reject with icmpx admin-prohibited
    }
}
"""


def test_ufw_and_strict_reverse_paths(sealed: Sealed, inside: Container) -> None:
    """Docker itself lets IPv4 of its networks pass ufw's policy; nobody's rules change."""
    sealed.server.exec("iptables-nft-restore", "--noflush", stdin=UFW)
    sealed.server.exec("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
    sealed.server.exec("sysctl", "-qw", f"net.ipv4.conf.{sealed.interface.replace('.', '/')}.rp_filter=1")
    before = foreign_rules(sealed)
    try:
        assert sysctl(sealed.server, f"net/ipv4/conf/{sealed.interface}/rp_filter") == "1"
        assert pings(inside, WORLD4)
        sealed.agent.call("tunnel.deactivate", name=sealed.tunnel)
        sealed.agent.call("tunnel.activate", name=sealed.tunnel)
        assert pings(inside, WORLD4)
        assert foreign_rules(sealed) == before
    finally:
        sealed.server.exec("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")


def test_firewalld(sealed: Sealed, inside: Container) -> None:
    sealed.server.exec("nft", "-f", "-", stdin=FIREWALLD)
    before = foreign_rules(sealed)
    try:
        assert pings(inside, WORLD4)
        assert pings(inside, WORLD6)
        assert foreign_rules(sealed) == before
    finally:
        sealed.server.nft("delete", "table", "inet", "firewalld")


def foreign_rules(sealed: Sealed) -> str:
    """All tables but ours, without counters."""
    ruleset = sealed.server.nft("-s", "list", "ruleset")
    return "".join(
        f"table {part}" for part in ruleset.split("table ") if not part.startswith("inet resource-wireguard")
    )
