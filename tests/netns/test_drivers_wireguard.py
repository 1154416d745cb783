"""Devices, peers and endpoints as the engines take them, looked at with wg(8)."""

import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from tests.netns import drivers
from tests.netns.harness import SLOWNESS, new_name, wait_until

from resource_wireguard.host.state import Address, Device, Link, Peer, PeerEndpoint, Record
from resource_wireguard.model.keys import PresharedKey, PublicKey
from resource_wireguard.model.names import interface_name
from resource_wireguard.system import uapi


@pytest.fixture
def box(engine: str) -> Iterator[drivers.Box]:
    with drivers.box(engine) as box:
        yield box


def peer(box: drivers.Box, *allowed_ips: str, key: PublicKey | None = None, keepalive: int = 0) -> Peer:
    return Peer(box.interface, key or drivers.public_key(), None, keepalive, frozenset(allowed_ips))


def test_a_device_and_its_peer_are_made_and_changed(box: drivers.Box) -> None:
    device = drivers.device(box.interface, 51820, fwmark=15_700_001)
    first = replace(
        peer(box, "10.9.0.2/32", "fd09::2/128", keepalive=25), preshared_key=PresharedKey(os.urandom(32))
    )
    endpoint = PeerEndpoint(box.interface, first.public_key, "192.0.2.7:4711")
    box.settle(box.link(), device, first, endpoint)
    shown = box.namespace.wg(box.interface)
    assert shown.private_key == device.private_key.reveal()
    assert (shown.listen_port, shown.fwmark) == (51820, 15_700_001)
    (line,) = shown.peers.values()
    assert line.public_key == str(first.public_key)
    assert line.preshared_key == first.preshared_key.reveal()
    assert line.allowed_ips == {"10.9.0.2/32", "fd09::2/128"}
    assert (line.endpoint, line.keepalive) == ("192.0.2.7:4711", 25)

    device = replace(drivers.device(box.interface, 51821), fwmark=0)
    second = replace(first, preshared_key=None, keepalive=0, allowed_ips=frozenset({"10.9.0.0/24"}))
    moved = replace(endpoint, endpoint="[2001:db8::7]:4712")
    box.settle(box.link(), device, second, moved)
    shown = box.namespace.wg(box.interface)
    assert (shown.private_key, shown.listen_port, shown.fwmark) == (device.private_key.reveal(), 51821, 0)
    (line,) = shown.peers.values()
    assert (line.preshared_key, line.keepalive, line.allowed_ips) == (None, 0, {"10.9.0.0/24"})
    assert line.endpoint == "[2001:db8::7]:4712"


def test_peers_come_and_go_and_the_others_stay(box: drivers.Box) -> None:
    device = drivers.device(box.interface)
    one, two, three = (peer(box, f"10.9.0.{n}/32") for n in (1, 2, 3))
    box.settle(box.link(), device, one, two)
    plan = box.settle(box.link(), device, two, three)
    assert sorted(action.verb for action in plan) == ["create", "delete"]
    assert set(box.namespace.wg(box.interface).peers) == {str(two.public_key), str(three.public_key)}


def test_what_others_did_with_wg_is_seen_and_mended(box: drivers.Box) -> None:
    device, one = drivers.device(box.interface), peer(box, "10.9.0.1/32")
    stranger = drivers.public_key()
    box.settle(box.link(), device, one)
    box.namespace.exec(
        *["wg", "set", box.interface, "listen-port", "1234", "peer", str(stranger)],
        *["allowed-ips", "10.9.0.1/32"],
    )
    assert len(box.plan(box.link(), device, one)) == 3
    box.settle(box.link(), device, one)
    assert set(box.namespace.wg(box.interface).peers) == {str(one.public_key)}


def test_an_allowed_ip_moves_between_peers(box: drivers.Box) -> None:
    device, a, b = drivers.device(box.interface), peer(box, "10.9.0.1/32", "10.9.1.0/24"), peer(box)
    box.settle(box.link(), device, a, b)
    a = replace(a, allowed_ips=frozenset({"10.9.0.1/32"}))
    b = replace(b, allowed_ips=frozenset({"10.9.1.0/24"}))
    box.settle(box.link(), device, a, b)
    box.settle(
        box.link(), device, replace(a, allowed_ips=b.allowed_ips), replace(b, allowed_ips=a.allowed_ips)
    )
    shown = box.namespace.wg(box.interface).peers
    assert shown[str(a.public_key)].allowed_ips == {"10.9.1.0/24"}


def test_odd_prefixes_are_read_back_as_they_were_written(box: drivers.Box) -> None:
    odd = peer(box, "0.0.0.0/0", "::/0", "10.0.0.0/9", "::102:304/128", "64:ff9b::/96", "2001:db8:0:1::/64")
    box.settle(box.link(), drivers.device(box.interface), odd)


def test_a_thousand_peers_and_one_with_thousands_of_prefixes(box: drivers.Box) -> None:
    count = 1000 // SLOWNESS
    keys = [PublicKey(os.urandom(31) + b"\1") for _ in range(count)]
    peers = [peer(box, f"10.9.{n >> 8}.{n & 255}/32", key=key) for n, key in enumerate(keys)]
    wide = peer(box, *(f"10.{64 + (n >> 8)}.{n & 255}.0/24" for n in range(2500)), key=PublicKey(b"\2" * 32))
    device = drivers.device(box.interface)
    box.settle(box.link(), device, *peers, wide)
    shown = box.namespace.wg(box.interface).peers
    assert len(shown) == count + 1
    assert len(shown[str(wide.public_key)].allowed_ips) == 2500
    (change,) = box.settle(box.link(), device, *peers[1:], replace(peers[0], keepalive=7), wide)
    assert change.verb == "change"


def test_a_taken_port_is_a_problem_and_stays_visible(box: drivers.Box) -> None:
    device = drivers.device(box.interface, 5182)
    taken = box.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("0.0.0.0", 5182))
    (problem,) = box.refused(box.link(), device)
    assert problem.message == f"WireGuard of {box.interface}: UDP port 5182 is in use by somebody else"
    assert problem.interface == box.interface
    assert box.plan(box.link(), device) != (), "the device claims a port that it does not have"
    taken.close()
    box.settle(box.link(), device)


def test_a_refused_new_port_leaves_the_old_one(box: drivers.Box) -> None:
    device = drivers.device(box.interface, 5182)
    box.settle(box.link(), device)
    taken = box.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("0.0.0.0", 5183))
    assert len(box.refused(box.link(), replace(device, listen_port=5183))) == 1
    assert box.namespace.wg(box.interface).listen_port == 5182
    assert box.plan(box.link(), device) == ()
    taken.close()


def test_one_failing_interface_is_one_problem_and_others_go_on(box: drivers.Box) -> None:
    box.namespace.ip("link add taken0 type bridge")
    broken = Link("taken0", "broken", box.engine, 1420)
    theirs: list[Record] = [broken, replace(drivers.device("taken0", 7)), Address("taken0", "10.8.0.1/24")]
    ours: list[Record] = [box.link(), drivers.device(box.interface), Address(box.interface, "10.9.0.1/24")]
    problems = box.refused(*theirs, *ours)
    assert [problem.interface for problem in problems] == ["taken0"]
    assert box.plan(*ours) == ()
    assert box.namespace.addresses("taken0") == set()


@pytest.fixture
def pair(box: drivers.Box, engine: str) -> Iterator[tuple[drivers.Box, drivers.Box]]:
    """Two hosts with a cable between them."""
    with drivers.box(engine) as other:
        cable = f"link add eth0 type veth peer name eth0 netns {other.namespace.name}"
        box.namespace.ip(cable, "address add 192.0.2.1/24 dev eth0", "link set eth0 up")
        other.namespace.ip("address add 192.0.2.2/24 dev eth0", "link set eth0 up")
        yield box, other


def connected(box: drivers.Box, number: int, device: Device, other: Device, **peer: object) -> list[Record]:
    """Everything for one end of a tunnel over the cable."""
    key = other.private_key.public()
    plain = {"preshared_key": None, "keepalive": 0, "allowed_ips": frozenset({f"10.9.0.{3 - number}/32"})}
    return [
        box.link(),
        device,
        Peer(box.interface, key, **{**plain, **peer}),
        PeerEndpoint(box.interface, key, f"192.0.2.{3 - number}:51820"),
        Address(box.interface, f"10.9.0.{number}/24"),
    ]


def test_packets_flow_and_a_change_of_a_peer_keeps_its_session(
    pair: tuple[drivers.Box, drivers.Box],
) -> None:
    a, b = pair
    mine, theirs = drivers.device(a.interface), drivers.device(b.interface)
    a.settle(*connected(a, 1, mine, theirs))
    b.settle(*connected(b, 2, theirs, mine))
    assert a.namespace.ping("10.9.0.2")
    before = a.observe().peers[a.interface, theirs.private_key.public()]
    assert before.latest_handshake is not None
    assert before.rx_bytes > 0
    assert before.endpoint == "192.0.2.2:51820"

    more = frozenset({"10.9.0.2/32", "10.9.7.0/24"})
    secret = PresharedKey(os.urandom(32))
    plan = a.settle(*connected(a, 1, mine, theirs, keepalive=25, allowed_ips=more, preshared_key=secret))
    assert len(plan) == 1
    a.settle(*connected(a, 1, mine, theirs, keepalive=25))
    assert a.namespace.ping("10.9.0.2", count=2)
    after = a.observe().peers[a.interface, theirs.private_key.public()]
    assert after.latest_handshake == before.latest_handshake
    assert after.rx_bytes > before.rx_bytes


def test_a_learned_endpoint_is_observed(pair: tuple[drivers.Box, drivers.Box]) -> None:
    a, b = pair
    mine, theirs = drivers.device(a.interface), drivers.device(b.interface)
    a.settle(*connected(a, 1, mine, theirs))
    roaming = [record for record in connected(b, 2, theirs, mine) if not isinstance(record, PeerEndpoint)]
    b.settle(*roaming)
    assert a.namespace.ping("10.9.0.2")
    key = (b.interface, mine.private_key.public())
    seen = b.observe()
    assert seen.peers[key].endpoint == seen.state.of(PeerEndpoint)[key].endpoint == "192.0.2.1:51820"
    assert b.plan(*roaming) == ()


def test_a_hung_engine_costs_a_second_and_only_its_own_part() -> None:
    with drivers.box("userspace") as box:
        second = interface_name(new_name())
        ours: list[Record] = [box.link(), drivers.device(box.interface), peer(box, "10.9.0.1/32")]
        other: list[Record] = [Link(second, "u", "userspace", 1420), drivers.device(second, 51821)]
        box.settle(*ours, *other)
        client = uapi.connect(box.interface)
        assert client is not None
        with client:
            pid = uapi.engine_pid(client)
        os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
        seen = box.observe()
        assert time.monotonic() - begin < 2 * uapi.DEADLINE
        assert [problem.interface for problem in seen.problems] == [box.interface]
        assert set(seen.state.of(Link)) == {box.interface, second}
        assert set(seen.state.of(Device)) == {second}
        plan = box.plan(*ours, *other)
        assert {action.verb for action in plan} == {"create"}
        assert [problem.interface for problem in box.apply(*plan)] == [box.interface]
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: not box.observe().problems)
        assert box.plan(*ours, *other) == ()
