"""interface adopt: what wg-quick(8) made goes on under our care, as the other end and other tools see."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from tests.netns.harness import Agent, Lab, Pinger, key_pair, picture, plain_peer, wait_until

PER_SECOND = {"userspace": 100, "kernel": 20}
"""Pings: the kernel lane's machine is some ten times slower."""


@dataclass
class Found:
    """A tunnel that was there before us: its interface on the server, and the other end's address."""

    interface: str
    address: str
    everything: bool


@pytest.fixture(params=["sites", "default route"])
def found(request: pytest.FixtureRequest, lab: Lab, server: Agent, engine: str) -> Iterator[Found]:
    """Both ends by wg-quick: two sites, or a server that sends all it has through the laptop."""
    (ours, our_key), (theirs, their_key) = key_pair(), key_pair()
    everything = request.param == "default route"
    routes = "0.0.0.0/0" if everything else "10.91.0.2/32, 192.168.91.0/24, fd91::/64"
    conf = (
        f"[Interface]\nPrivateKey = {ours}\nAddress = 10.91.0.1/24\nListenPort = 40091\nMTU = 1400\n"
        f"[Peer]\nPublicKey = {their_key}\nAllowedIPs = {routes}\nEndpoint = 192.0.2.2:40092\n"
    )
    laptop = (
        f"[Interface]\nPrivateKey = {theirs}\nAddress = 10.91.0.2/24\nListenPort = 40092\nMTU = 1400\n"
        f"[Peer]\nPublicKey = {our_key}\nAllowedIPs = 10.91.0.0/24\nEndpoint = 192.0.2.1:40091\n"
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(plain_peer(lab.laptop, laptop, engine, quick=True))
        interface = stack.enter_context(plain_peer(lab.server, conf, engine, quick=True))
        yield Found(interface, "10.91.0.2", everything)
        if server.call("tunnel.list"):
            server.call("tunnel.delete", name="home")


def handshakes(lab: Lab, interface: str) -> dict[str, int]:
    return {key: peer.latest_handshake for key, peer in lab.server.wg(interface).peers.items()}


def test_no_packet_is_lost_and_no_peer_shakes_hands_again(
    lab: Lab, server: Agent, found: Found, engine: str, record_property: Callable[[str, object], None]
) -> None:
    with Pinger(lab.server, found.address, PER_SECOND[engine]) as pinger:
        before = picture(lab.server, found.interface)
        session = handshakes(lab, found.interface)
        assert all(session.values())
        adopted = server.cli("interface", "adopt", found.interface, "--name", "home", "--format", "json")
        assert adopted.returncode == 0, adopted.stderr
        seen = time.monotonic()
        wait_until(lambda: pinger.answers_since(seen + 1), what="an answer a second after it")
        assert handshakes(lab, found.interface) == session
    told = f"{len(pinger.sent)} pings at {PER_SECOND[engine]} a second, {pinger.lost} lost"
    record_property("remark", f"adopting {'a default route' if found.everything else 'sites'}: {told}")
    assert (pinger.lost, len(pinger.sent) > PER_SECOND[engine]) == (0, True)
    tunnel = json.loads(adopted.stdout)
    assert (tunnel["state"], tunnel["drift"], tunnel["engine"]) == ("up", [], engine)
    assert server.settled()
    assert server.call("status")["tunnels"][0]["state"] == "up"
    after = picture(lab.server, found.interface)
    assert after["link"] == {**before["link"], "ifalias": "resource-wireguard:home"}
    assert (after["addresses"], after["device"]) == (before["addresses"], before["device"])
    if found.everything:
        assert after["routes"] > before["routes"]
        assert after["rules"] > before["rules"], "wg-quick's stay, ours are added"
    else:
        assert (after["routes"], after["rules"]) == (before["routes"], before["rules"])
    ours = lab.server.ip_json(f"route show table all dev {found.interface} proto 157")
    assert ours, "its routes are marked"
    server.call("tunnel.delete", name="home")
    assert lab.server.link(found.interface) is None


def test_what_is_not_wireguard_is_refused(lab: Lab, server: Agent) -> None:
    for interface, code in (("eth0", 1), ("lo", 1), ("nothere", 2)):
        refused = server.cli("interface", "adopt", interface)
        assert refused.returncode == code, refused.stderr
        assert interface in refused.stderr.splitlines()[0]
    assert server.call("tunnel.list") == []
    assert "ifalias" not in lab.server.link("eth0")
