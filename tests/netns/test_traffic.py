"""Packets go where they should, and are seen there by others: through a plain WireGuard on the other end."""

import re
from collections.abc import Iterator

import pytest
from tests.netns.harness import Agent, Lab, key_pair, plain_peer, wait_until


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
    with plain_peer(lab.laptop, config, engine), lab.server.capture("eth0", "ip") as lines:
        assert lab.laptop.ping(own(home["addresses"], 4), count=3)
    port = str(home["listen_port"])
    assert lines
    assert all(port in line and "UDP" in line for line in lines), lines


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
    """Its address stays and its port moves, as behind a NAT that forgot it."""
    config = server.call("peer.add", tunnel=home["name"], name="laptop")["config"]
    with plain_peer(lab.laptop, config, engine) as interface:
        assert lab.laptop.ping(own(home["addresses"], 4))
        lab.laptop.exec("wg", "set", interface, "listen-port", "40001")
        assert lab.laptop.ping(own(home["addresses"], 4), count=3)
        (peer,) = server.call("peer.list", tunnel=home["name"])
        assert peer["endpoint"] == "192.0.2.2:40001"
        assert server.settled()
        (seen,) = lab.server.wg(home["interface"]).peers.values()
        assert seen.endpoint == "192.0.2.2:40001"


@pytest.fixture
def other(lab: Lab) -> Iterator[Agent]:
    """An agent on the laptop, for a test to start; what it made is gone afterwards."""
    agent = lab.agent(lab.laptop)
    yield agent
    agent.end()


@pytest.fixture
def exit_home(server: Agent) -> Iterator[dict]:
    made = server.make_tunnel(exit=True, endpoint="192.0.2.1")
    yield made
    server.call("tunnel.delete", name=made["name"])


def test_an_exit_forwards_and_masquerades_as_seen_at_a_third_host(
    server: Agent, lab: Lab, exit_home: dict, engine: str
) -> None:
    """The laptop's wg-quick takes all its traffic into the tunnel, as the printed config says."""
    config = server.call("peer.add", tunnel=exit_home["name"], name="laptop")["config"]
    assert "0.0.0.0/0" in config
    assert "::/0" in config
    assert not lab.laptop.ping("198.51.100.9"), "there is no other way"
    with (
        plain_peer(lab.laptop, config, engine, quick=True),
        lab.internet.capture("eth0", ECHO_REQUESTS) as lines,
    ):
        assert lab.laptop.ping("198.51.100.9")
        assert lab.laptop.ping("2001:db8:2::9")
    assert any(" 198.51.100.1 > 198.51.100.9" in line for line in lines), lines
    assert any(" 2001:db8:2::1 > 2001:db8:2::9" in line for line in lines), lines
    assert not any("10.13." in line or " fd" in line for line in lines), "no inner address is seen outside"


ECHO_REQUESTS = "icmp[icmptype] == icmp-echo or icmp6[icmp6type] == icmp6-echo"


def test_a_tunnel_that_is_no_exit_is_no_way_to_the_internet(
    server: Agent, lab: Lab, home: dict, engine: str
) -> None:
    lab.server.exec("sysctl", "-qw", "net.ipv4.ip_forward=1")
    inside, outside = own(home["addresses"], 4), "198.51.100.9"
    added = server.call(
        "peer.add", tunnel=home["name"], name="laptop", allowed_ips=[f"{inside}/32", f"{outside}/32"]
    )
    with (
        plain_peer(lab.laptop, added["config"], engine),
        lab.internet.capture("eth0", ECHO_REQUESTS) as lines,
    ):
        assert lab.laptop.ping(inside)
        assert not lab.laptop.ping(outside)
    assert not any(" 198.51.100.1 > " in line for line in lines), "it is not masqueraded"


def test_exit_can_be_switched_on_and_off_while_the_tunnel_runs(server: Agent, lab: Lab, home: dict) -> None:
    server.call("tunnel.change", name=home["name"], exit=True)
    assert "masquerade" in lab.server.nft("list", "ruleset")
    assert lab.server.exec("sysctl", "-n", "net.ipv4.ip_forward").stdout.strip() == "1"
    server.call("tunnel.change", name=home["name"], exit=False)
    assert "masquerade" not in lab.server.nft("list", "ruleset")


def plain_exit(private: str, peer_key: str) -> str:
    """A plain WireGuard at 10.99.0.1 that waits for one peer."""
    return (
        f"[Interface]\nPrivateKey = {private}\nListenPort = 4999\nAddress = 10.99.0.1/24, fd99::1/64\n\n"
        f"[Peer]\nPublicKey = {peer_key}\nAllowedIPs = 10.99.0.0/24, fd99::/64\n"
    )


def test_a_default_route_into_the_tunnel_does_not_loop(lab: Lab, other: Agent, engine: str) -> None:
    """Our host as the client of a plain exit: all goes in, but the tunnel's own packets, whose way
    is by the default gateway as well, stay outside."""
    private, public = key_pair()
    made = other.start().make_tunnel(addresses=["10.99.0.2/24", "fd99::2/64"])
    lab.server.ip("address add 203.0.113.5/32 dev lo", "address add 2001:db8:5::5/128 dev lo")
    theirs = plain_exit(private, made["public_key"])
    with (
        plain_peer(lab.server, theirs, engine) as interface,
        lab.server.capture(interface, ECHO_REQUESTS) as inside,
    ):
        other.call(
            "peer.add", tunnel=made["name"], name="exit", public_key=public, endpoint="198.51.100.1:4999",
            routes=["0.0.0.0/0", "::/0"], addresses=[], preshared_key="none",
        )  # fmt: skip
        with lab.server.capture("eth0", "ip or ip6") as outside:
            assert lab.laptop.ping("203.0.113.5")
            assert lab.laptop.ping("2001:db8:5::5")
        assert lab.laptop.ping("192.0.2.1"), "what is on the local link stays there"
        mark = lab.laptop.wg(made["interface"]).fwmark
        assert mark and f"not from all fwmark {mark:#x} " in lab.laptop.exec("ip", "rule").stdout
    assert any("203.0.113.5" in line for line in inside)
    assert any("2001:db8:5::5" in line for line in inside)
    assert any("192.0.2.2.51820 > 198.51.100.1.4999" in line for line in outside)
    assert not any("203.0.113.5" in line or "2001:db8:5::5" in line for line in outside)
    other.end()
    assert "fwmark" not in lab.laptop.exec("ip", "rule").stdout + lab.laptop.exec("ip", "-6", "rule").stdout
    assert lab.laptop.ping("192.0.2.1")


def test_a_dns_name_is_resolved_again_when_its_peer_does_not_answer(
    lab: Lab, other: Agent, engine: str
) -> None:
    """The name first leads nowhere; when it is moved, the peer is found without anybody's help."""
    with lab.hosts_file(lab.laptop, "192.0.2.66 vpn.test\n") as hosts:
        private, public = key_pair()
        made = other.start().make_tunnel(addresses=["10.99.0.2/24"])
        other.call(
            "peer.add", tunnel=made["name"], name="exit", public_key=public, endpoint="vpn.test:4999",
            keepalive=1, addresses=["10.99.0.1/32"], preshared_key="none",
        )  # fmt: skip
        wait_until(
            lambda: lab.laptop.wg(made["interface"]).peers[public].endpoint == "192.0.2.66:4999",
            what="the first address",
        )
        with plain_peer(lab.server, plain_exit(private, made["public_key"]), engine):
            hosts.write_text("192.0.2.1 vpn.test\n")
            wait_until(
                lambda: lab.laptop.wg(made["interface"]).peers[public].latest_handshake,
                within=60,
                what="a handshake with where the name has moved to",
            )


def test_two_managed_hosts_talk(server: Agent, lab: Lab, home: dict, other: Agent) -> None:
    there = other.start().make_tunnel(addresses=["10.98.0.2/24"])
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
