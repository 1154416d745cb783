"""Packets go where they should, and are seen there by others: through a plain WireGuard on the other end."""

import re
from collections.abc import Iterator

import pytest
from tests.netns.harness import Agent, Lab, Namespace, key_pair, plain_peer, wait_until


@pytest.fixture
def home(server: Agent) -> Iterator[dict]:
    made = server.make_tunnel(endpoint="192.0.2.1")
    yield made
    server.call("tunnel.delete", name=made["name"])


def own(addresses: list[str], version: int) -> str:
    """The tunnel's address of one family."""
    return next(a.partition("/")[0] for a in addresses if (":" in a) == (version == 6))


def test_a_printed_config_brings_wg_quick_up_unchanged(
    server: Agent, lab: Lab, home: dict, engine: str
) -> None:
    config = server.call("peer.add", tunnel=home["name"], name="laptop")["config"]
    with plain_peer(lab.laptop, config, engine, quick=True):
        assert lab.laptop.ping(own(home["addresses"], 4))
        assert lab.laptop.ping(own(home["addresses"], 6))
        (peer,) = server.call("peer.list", tunnel=home["name"])
        assert peer["state"] == "online"
        assert peer["endpoint"].startswith("192.0.2.2:")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", peer["latest_handshake"])
        assert peer["rx_bytes"] > 0 < peer["tx_bytes"]


def test_what_crosses_the_wire_is_only_wireguard(server: Agent, lab: Lab, home: dict, engine: str) -> None:
    config = server.call("peer.add", tunnel=home["name"], name="laptop")["config"]
    with plain_peer(lab.laptop, config, engine), lab.server.capture("eth0", "not arp and not icmp6") as lines:
        assert lab.laptop.ping(own(home["addresses"], 4), count=3)
    port = str(home["listen_port"])
    assert lines
    assert all(port in line and "UDP" in line for line in lines if "IP" in line), lines


def test_a_packet_of_the_tunnels_mtu_passes_and_a_larger_one_does_not(
    server: Agent, lab: Lab, home: dict, engine: str
) -> None:
    config = server.call("peer.add", tunnel=home["name"], name="laptop")["config"]
    with plain_peer(lab.laptop, config, engine):
        address, headers = own(home["addresses"], 4), 28
        assert lab.laptop.ping(address, size=home["mtu"] - headers)
        assert not lab.laptop.ping(address, size=home["mtu"] - headers + 1)


def test_a_roaming_peer_is_followed_and_not_called_drift(
    server: Agent, lab: Lab, home: dict, engine: str
) -> None:
    config = server.call("peer.add", tunnel=home["name"], name="laptop")["config"]
    lab.laptop.ip("address add 192.0.2.77/24 dev eth0")
    with plain_peer(lab.laptop, config, engine):
        assert lab.laptop.ping(own(home["addresses"], 4))
        lab.laptop.ip(
            "address delete 192.0.2.2/24 dev eth0",
            "address add 192.0.2.77/24 dev eth0"
            if not lab.laptop.addresses("eth0") & {"192.0.2.77/24"}
            else "",
        )
        assert lab.laptop.ping(own(home["addresses"], 4), count=3)
        (peer,) = server.call("peer.list", tunnel=home["name"])
        assert peer["endpoint"].startswith("192.0.2.77:")
        assert server.settled()
        (seen,) = lab.server.wg(home["interface"]).peers.values()
        assert seen.endpoint.startswith("192.0.2.77:")
    lab.laptop.ip("address replace 192.0.2.2/24 dev eth0", "route replace default via 192.0.2.1")


@pytest.mark.parametrize(
    ("version", "target", "masqueraded_as"),
    [(4, "198.51.100.9", "198.51.100.1"), (6, "2001:db8:2::9", "2001:db8:2::1")],
    ids=["v4", "v6"],
)
def test_an_exit_forwards_and_masquerades_as_seen_at_a_third_host(
    server: Agent, lab: Lab, engine: str, version: int, target: str, masqueraded_as: str
) -> None:
    made = server.make_tunnel(exit=True, endpoint="192.0.2.1")
    added = server.call("peer.add", tunnel=made["name"], name="laptop", allowed_ips=["0.0.0.0/0", "::/0"])
    config = routed_by_hand(added["config"])
    with (
        plain_peer(lab.laptop, config, engine) as interface,
        lab.internet.capture("eth0", "icmp or icmp6") as lines,
    ):
        lab.laptop.ip(f"-{version} route replace {target} dev {interface}")
        assert lab.laptop.ping(target)
    requests = [line for line in lines if "echo request" in line]
    assert requests
    assert all(f" {masqueraded_as} > {target}" in line for line in requests)
    server.call("tunnel.delete", name=made["name"])
    assert "masquerade" not in lab.server.nft("list", "ruleset")


def routed_by_hand(config: str) -> str:
    """wg-quick's Table = off: the test says itself what goes into the tunnel."""
    return config.replace("[Interface]", "[Interface]\nTable = off", 1)


def test_a_tunnel_that_is_no_exit_is_no_way_to_the_internet(
    server: Agent, lab: Lab, home: dict, engine: str
) -> None:
    lab.server.exec("sysctl", "-qw", "net.ipv4.ip_forward=1")
    added = server.call("peer.add", tunnel=home["name"], name="laptop", allowed_ips=["0.0.0.0/0"])
    with plain_peer(lab.laptop, routed_by_hand(added["config"]), engine) as interface:
        lab.laptop.ip(f"route replace 198.51.100.9 dev {interface}")
        assert lab.laptop.ping(own(home["addresses"], 4))
        assert not lab.laptop.ping("198.51.100.9")


def test_exit_can_be_switched_on_and_off_while_the_tunnel_runs(server: Agent, lab: Lab, home: dict) -> None:
    server.call("tunnel.change", name=home["name"], exit=True)
    assert "masquerade" in lab.server.nft("list", "ruleset")
    assert lab.server.exec("sysctl", "-n", "net.ipv4.ip_forward").stdout.strip() == "1"
    server.call("tunnel.change", name=home["name"], exit=False)
    assert "masquerade" not in lab.server.nft("list", "ruleset")


def plain_exit(namespace: Namespace, private: str, peer_key: str) -> str:
    return (
        f"[Interface]\nPrivateKey = {private}\nListenPort = 4999\nAddress = 10.99.0.1/24\n\n"
        f"[Peer]\nPublicKey = {peer_key}\nAllowedIPs = 10.99.0.0/24, 0.0.0.0/1, 128.0.0.0/1\n"
    ).replace("[Interface]", "[Interface]\nTable = off")


def test_a_default_route_into_the_tunnel_does_not_loop(lab: Lab, engine: str) -> None:
    """Our host as the client of a plain exit: all goes in, but the tunnel's own packets stay outside."""
    agent = lab.agent(lab.laptop).start()
    private, public = key_pair()
    made = agent.make_tunnel(addresses=["10.99.0.2/24"])
    agent.call(
        "peer.add", tunnel=made["name"], name="exit", public_key=public, endpoint="192.0.2.1:4999",
        routes=["0.0.0.0/0", "::/0"], addresses=[], preshared_key="none",
    )  # fmt: skip
    with plain_peer(lab.server, plain_exit(lab.server, private, made["public_key"]), engine) as other:
        lab.server.ip("address add 203.0.113.5/32 dev lo")
        with (
            lab.server.capture(other, "icmp") as inside,
            lab.server.capture("eth0", "udp port 4999") as outside,
        ):
            assert lab.laptop.ping("203.0.113.5")
            assert lab.laptop.ping("10.99.0.1")
        assert any("203.0.113.5" in line for line in inside), "it went through the tunnel"
        assert any("192.0.2.2." in line for line in outside), "and the tunnel's own packets did not"
        assert "fwmark" in lab.laptop.exec("ip", "rule").stdout
        assert lab.laptop.wg(made["interface"]).fwmark != 0
        assert lab.laptop.ping("192.0.2.1"), "what is on the local link stays there"
    agent.call("agent.stop")
    assert "fwmark" not in lab.laptop.exec("ip", "rule").stdout
    assert lab.laptop.ping("192.0.2.1")


def test_a_dns_name_is_resolved_again_when_its_peer_does_not_answer(lab: Lab, engine: str) -> None:
    """The name first leads nowhere; when it is moved, the peer is found without anybody's help."""
    with lab.hosts_file(lab.laptop, "192.0.2.66 vpn.test\n") as hosts:
        agent = lab.agent(lab.laptop).start()
        private, public = key_pair()
        made = agent.make_tunnel(addresses=["10.99.0.2/24"])
        agent.call(
            "peer.add", tunnel=made["name"], name="exit", public_key=public, endpoint="vpn.test:4999",
            keepalive=1, addresses=["10.99.0.1/32"], preshared_key="none",
        )  # fmt: skip
        wait_until(
            lambda: lab.laptop.wg(made["interface"]).peers[public].endpoint == "192.0.2.66:4999",
            what="the first address",
        )
        with plain_peer(lab.server, plain_exit(lab.server, private, made["public_key"]), engine):
            hosts.write_text("192.0.2.1 vpn.test\n")
            wait_until(
                lambda: lab.laptop.wg(made["interface"]).peers[public].latest_handshake,
                within=60,
                what="a handshake with where the name has moved to",
            )
        agent.call("agent.stop")


def test_two_managed_hosts_talk(server: Agent, lab: Lab, home: dict) -> None:
    other = lab.agent(lab.laptop).start()
    there = other.make_tunnel(addresses=["10.98.0.2/24"])
    added = server.call(
        "peer.add",
        tunnel=home["name"],
        name="there",
        public_key=there["public_key"],
        addresses=["10.98.0.2/32"],
    )
    here = own(home["addresses"], 4)
    other.call(
        "peer.add", tunnel=there["name"], name="here", public_key=home["public_key"],
        endpoint=f"192.0.2.1:{home['listen_port']}", addresses=[f"{here}/32"], preshared_key="none",
    )  # fmt: skip
    assert added["peer"]["addresses"]
    assert lab.laptop.ping(here)
    other.call("agent.stop")
