"""What somebody else changes on our objects is put right: at once where the kernel tells of it."""

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
from tests.netns.harness import SLOWNESS, Agent, Lab, Namespace, key_pair, picture, run, sysctl, wait_until

WITH_EVENT, WITHOUT = 1.0 * SLOWNESS, 30.0 + 2 * SLOWNESS  # seconds


@pytest.fixture(scope="module")
def home(server: Agent) -> dict:
    """A tunnel with one of everything."""
    made = server.make_tunnel(exit=True)
    request = {"routes": ["10.80.0.0/16", "fd80::/64"], "endpoint": "192.0.2.2:9"}
    key = key_pair()[1]
    server.call("peer.add", tunnel=made["name"], name="site", public_key=key, keepalive=25, **request)
    return {**made, "peer": key}


@pytest.fixture(scope="module")
def client(server: Agent) -> dict:
    """A tunnel that takes the default route, and has rules for that."""
    made = server.make_tunnel()
    request = {"routes": ["0.0.0.0/0", "::/0"], "endpoint": "192.0.2.2:8"}
    server.call("peer.add", tunnel=made["name"], name="exit", public_key=key_pair()[1], **request)
    return made


def ip(command: str) -> Callable[[Namespace, dict], None]:
    def tamper(namespace: Namespace, tunnel: dict) -> None:
        namespace.ip(
            command.format(**tunnel, address=tunnel["addresses"][0], address6=tunnel["addresses"][1])
        )

    return tamper


def nft(command: str) -> Callable[[Namespace, dict], None]:
    return lambda namespace, tunnel: namespace.nft(command) and None


def first_rule_of_ours(namespace: Namespace, _: dict) -> None:
    ours = next(rule for rule in namespace.ip_json("rule") if rule.get("protocol") == "157")
    namespace.ip(f"rule delete priority {ours['priority']}")


ANNOUNCED = {
    "mtu": ip("link set {interface} mtu 1300"),
    "link down": ip("link set {interface} down"),
    "v4 address removed": ip("address delete {address} dev {interface}"),
    "v6 address removed": ip("address delete {address6} dev {interface}"),
    "address added": ip("address add 203.0.113.9/32 dev {interface}"),
    "v4 route removed": ip("route delete 10.80.0.0/16 dev {interface}"),
    "v6 route removed": ip("route delete fd80::/64 dev {interface}"),
    "route of ours that nobody wants": ip("route add 10.123.0.0/16 dev {interface} proto 157"),
    "rule of ours that nobody wants": ip("rule add priority 15799 fwmark 5 lookup 15 proto 157"),
    "nft table removed": nft("delete table inet resource-wireguard"),
    "nft table emptied": nft("flush table inet resource-wireguard"),
    "link removed": ip("link delete {interface}"),
}


@pytest.mark.parametrize("tamper", ANNOUNCED.values(), ids=ANNOUNCED.keys())
def test_drift_that_the_kernel_tells_of_is_repaired_within_a_second(
    server: Agent, lab: Lab, home: dict, tamper: Callable[[Namespace, dict], None]
) -> None:
    before = picture(lab.server, home["interface"])
    tamper(lab.server, home)
    changed = time.monotonic()
    wait_until(lambda: picture(lab.server, home["interface"]) == before, what="all as it was")
    took = time.monotonic() - changed
    assert took < WITH_EVENT, f"repaired, but after {took:.2f} s"
    assert server.settled()


def test_a_rule_that_is_removed_comes_back(server: Agent, lab: Lab, client: dict) -> None:
    before = picture(lab.server, client["interface"])
    first_rule_of_ours(lab.server, client)
    wait_until(lambda: picture(lab.server, client["interface"]) == before, WITH_EVENT, "all rules")


@contextlib.contextmanager
def something_else_happens(namespace: Namespace) -> Iterator[None]:
    """Any event on the host starts a whole pass, which sees also what made none."""
    yield
    namespace.ip("address add 203.0.113.77/32 dev eth1", "address delete 203.0.113.77/32 dev eth1")


STRANGER = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="

SILENT = {
    "keepalive": "wg set {interface} peer {peer} persistent-keepalive 5",
    "allowed IPs": "wg set {interface} peer {peer} allowed-ips 10.80.0.0/24",
    "peer removed": "wg set {interface} peer {peer} remove",
    "peer added": f"wg set {{interface}} peer {STRANGER} allowed-ips 10.99.9.9/32",
    "listen port": "wg set {interface} listen-port 7777",
    "fwmark": "wg set {interface} fwmark 7",
    "forwarding": "sysctl -qw net.ipv4.ip_forward=0",
}


@pytest.mark.parametrize("command", SILENT.values(), ids=SILENT.keys())
def test_drift_that_the_kernel_keeps_to_itself_is_seen_with_the_next_event(
    server: Agent, lab: Lab, home: dict, command: str
) -> None:
    before = picture(lab.server, home["interface"])
    with something_else_happens(lab.server):
        lab.server.exec(*command.format(**home).split())
    wait_until(lambda: picture(lab.server, home["interface"]) == before, WITH_EVENT, "all as it was")


def test_drift_that_the_kernel_keeps_to_itself_is_repaired_within_thirty_seconds(
    server: Agent, lab: Lab, home: dict
) -> None:
    before = picture(lab.server, home["interface"])
    for command in (SILENT["peer removed"], SILENT["listen port"]):
        lab.server.exec(*command.format(**home).split())
    wait_until(lambda: picture(lab.server, home["interface"]) == before, WITHOUT, "all as it was")


def test_plan_tells_drift_in_words_and_status_repeats_them(server: Agent, lab: Lab, home: dict) -> None:
    lab.server.exec(*SILENT["keepalive"].format(**home).split())
    words = f"change peer {home['peer'][:8]}… on {home['interface']}: keepalive 5 → 25"
    assert server.call("plan")["actions"] == [words]
    with something_else_happens(lab.server):
        pass
    wait_until(server.settled, WITH_EVENT, "an empty plan")


def test_what_is_foreign_is_left_alone_by_every_repair(server: Agent, lab: Lab, home: dict) -> None:
    lab.server.ip(
        "link add theirs type bridge",
        "link set theirs up",
        "route add 10.55.0.0/16 dev theirs",
        f"route add 10.56.0.0/16 dev {home['interface']} proto static",
        "rule add priority 15790 from 203.0.113.0/24 lookup 77",
    )
    lab.server.nft("add table inet theirs; add chain inet theirs c; add rule inet theirs c accept")
    before = picture(lab.server, "theirs"), lab.server.nft("list", "table", "inet", "theirs")
    lab.server.ip(f"link set {home['interface']} mtu 1301")
    wait_until(lambda: lab.server.link(home["interface"])["mtu"] == home["mtu"], WITH_EVENT, "the old mtu")
    assert (picture(lab.server, "theirs"), lab.server.nft("list", "table", "inet", "theirs")) == before
    assert "10.56.0.0/16" in lab.server.routes(home["interface"])
    lab.server.ip("link delete theirs", "rule delete priority 15790", "route delete 10.56.0.0/16")
    lab.server.nft("delete table inet theirs")


def test_a_foreign_route_in_the_way_stops_only_itself(server: Agent, lab: Lab) -> None:
    lab.server.ip("route add 10.60.0.0/16 via 198.51.100.9")
    made = server.make_tunnel()
    for name, prefix in (("blocked", "10.60.0.0/16"), ("free", "10.61.0.0/16")):
        server.call("peer.add", tunnel=made["name"], name=name, routes=[prefix])
    shown = server.call("tunnel.show", name=made["name"])
    assert shown["state"] == "degraded"
    assert "10.60.0.0/16" in str(shown["problems"]) + str(shown["drift"])
    assert "10.61.0.0/16" in lab.server.routes(made["interface"])
    assert "198.51.100.9" in run("ip", "-n", lab.server.name, "route", "show", "10.60.0.0/16").stdout
    lab.server.ip("route delete 10.60.0.0/16")
    wait_until(
        lambda: "10.60.0.0/16" in lab.server.routes(made["interface"]), WITH_EVENT, "the route, now free"
    )
    server.call("tunnel.delete", name=made["name"])


def test_forwarding_is_switched_on_for_an_exit(lab: Lab, home: dict) -> None:
    assert sysctl(lab.server, "net/ipv4/ip_forward") == "1"
    assert sysctl(lab.server, "net/ipv6/conf/all/forwarding") == "1"
