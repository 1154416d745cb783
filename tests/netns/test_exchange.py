"""Two hosts that both run our agent: keys change on either side, and no packet is lost."""

import contextlib
import json
import signal
import socket
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests import hunt
from tests.netns.harness import Agent, Lab, Namespace, Pinger, plain_peer, wait_until

PORT = 864
A_INSIDE, B_INSIDE = "10.97.0.1", "10.97.0.2"
OUTSIDE = ("192.0.2.1", "192.0.2.2")
MOVED_WITHIN = 30.0


@dataclass
class Site:
    """One end: its agent, its tunnel, what it calls the other end, and where the tunnel lies."""

    agent: Agent
    tunnel: str
    peer: str
    inside: str
    namespace: Namespace

    def shown(self) -> dict:
        return self.agent.call("tunnel.show", name=self.tunnel)

    def peer_key(self) -> str:
        return self.agent.call("peer.show", tunnel=self.tunnel, name=self.peer)["public_key"]

    def interfaces(self) -> set[str]:
        """All links of this tunnel, by our mark on them."""
        links = self.namespace.ip_json("link show")
        return {
            link["ifname"] for link in links if link.get("ifalias") == f"resource-wireguard:{self.tunnel}"
        }


def make_tunnel(agent: Agent, inside: str) -> dict[str, Any]:
    made: dict[str, Any] = agent.make_tunnel(addresses=[f"{inside}/24"])
    return made


def introduce(
    at_a: Agent,
    at_b: Agent,
    *,
    a_knows_where: bool = True,
    outside: tuple[str, str] = OUTSIDE,
    make: Callable[[Agent, str], dict[str, Any]] = make_tunnel,
) -> tuple[Site, Site]:
    """A and B, each the other's peer; B always knows where A is."""
    sites = []
    for agent, inside, peer in ((at_a, A_INSIDE, "b"), (at_b, B_INSIDE, "a")):
        made = make(agent, inside)
        sites.append(Site(agent, made["name"], peer, inside, agent.namespace))
    a, b = sites
    for site, other, address in ((a, b, outside[1]), (b, a, outside[0])):
        there = other.shown()
        told = {"endpoint": f"{address}:{there['listen_port']}"} if site is b or a_knows_where else {}
        site.agent.call(
            "peer.add", tunnel=site.tunnel, name=site.peer, public_key=there["public_key"],
            addresses=[f"{other.inside}/32"], preshared_key="none", **told,
        )  # fmt: skip
    return a, b


@contextlib.contextmanager
def two_sites(lab: Lab, **more: Any) -> Iterator[tuple[Site, Site]]:
    """Two sites with agents of their own, for one test."""
    a, b = introduce(lab.agent(lab.server).start(), lab.agent(lab.laptop).start(), **more)
    try:
        yield a, b
    finally:
        for site in (a, b):
            if site.agent.process.poll() is not None:
                site.agent.start()  # to take its tunnel down
            site.agent.end()


def agree(a: Site, b: Site) -> bool:
    """Whether each has the other's key, one key each, and the other nothing to do."""
    return (
        b.peer_key() == a.shown()["public_key"]
        and a.peer_key() == b.shown()["public_key"]
        and a.agent.settled()
        and b.agent.settled()
    )


def moved(a: Site) -> bool:
    """Whether the other end has taken up the key that A's rotation has made."""
    (status,) = a.agent.call("rotate.status", tunnel=a.tunnel)
    peers = (peer for rotation in status["running"] for peer in rotation["peers"])
    return any(peer["moved"] for peer in peers if peer["name"] == a.peer)


@pytest.mark.parametrize("a_knows_where", [True, False], ids=["both dial", "only B dials"])
@pytest.mark.parametrize("turning", ["a", "b"])
def test_the_keys_of_a_tunnel_change_without_losing_a_packet(
    lab: Lab, turning: str, a_knows_where: bool
) -> None:
    with two_sites(lab, a_knows_where=a_knows_where) as (a, b):
        site = a if turning == "a" else b
        before = site.shown()["public_key"]
        assert b.namespace.ping(A_INSIDE)
        with Pinger(b.namespace, A_INSIDE, per_second=200) as ping:
            site.agent.call("rotate.keys", tunnel=site.tunnel, overlap=3600)
            wait_until(lambda: site.shown()["public_key"] != before, MOVED_WITHIN, "the new key")
            wait_until(lambda: agree(a, b), MOVED_WITHIN, "both sides to agree")
        assert ping.lost == 0
        assert len(site.interfaces()) == 1


def test_many_rotations_one_after_the_other_leave_nothing_behind(lab: Lab) -> None:
    with two_sites(lab) as (a, b):
        with Pinger(b.namespace, A_INSIDE, per_second=200) as ping:
            for _ in range(4):
                before = a.shown()["public_key"]
                a.agent.call("rotate.keys", tunnel=a.tunnel, overlap=3600)
                wait_until(lambda: a.shown()["public_key"] != before, MOVED_WITHIN, "the new key")  # noqa: B023
                wait_until(lambda: agree(a, b), MOVED_WITHIN, "both sides to agree")
        assert ping.lost == 0
        assert len(a.interfaces()) == 1
        assert len(b.interfaces()) <= 2  # its own, and one on which the peer sits till its session lapses


def test_a_peers_agent_makes_the_new_key_it_is_asked_for(lab: Lab) -> None:
    """From the first time on, when neither has said a word yet."""
    with two_sites(lab) as (a, b):
        before, own = a.peer_key(), a.shown()["public_key"]
        assert b.namespace.ping(A_INSIDE)
        with Pinger(b.namespace, A_INSIDE, per_second=200) as ping:
            done = a.agent.cli("rotate", "peer", a.tunnel, a.peer)
            assert done.returncode == 0, done.stderr
            assert "note: the agent of 'b' makes the key" in done.stderr
            wait_until(lambda: a.peer_key() != before, MOVED_WITHIN, "the new key")
            wait_until(lambda: agree(a, b), MOVED_WITHIN, "both sides to agree")
        assert ping.lost == 0
        assert a.shown()["public_key"] == own
        (past,) = a.agent.call("rotate.history", tunnel=a.tunnel)
        assert (past["peer"], past["outcome"]) == ("b", "made by its agent")


def test_a_wish_outlives_lost_answers_and_a_killed_agent(lab: Lab) -> None:
    """The other agent is frozen meanwhile: what it answers then is for one that is no more."""
    with two_sites(lab) as (a, b):
        before = a.peer_key()
        assert b.namespace.ping(A_INSIDE)
        with Pinger(b.namespace, A_INSIDE, per_second=200) as ping:
            b.agent.process.send_signal(signal.SIGSTOP)
            try:
                assert a.agent.call("rotate.peer", tunnel=a.tunnel, peer=a.peer)["asking"]
                a.agent.kill()
                a.agent.start()
            finally:
                b.agent.process.send_signal(signal.SIGCONT)
            wait_until(lambda: a.peer_key() != before, MOVED_WITHIN, "the new key")
            wait_until(lambda: agree(a, b), MOVED_WITHIN, "both sides to agree")
        assert ping.lost == 0
        assert len(b.agent.call("rotate.history", tunnel=b.tunnel)) == 1
        assert a.agent.call("rotate.status", tunnel=a.tunnel)[0]["running"] == []


def test_without_an_agent_there_a_peers_key_is_refused_as_ever(lab: Lab) -> None:
    with two_sites(lab) as (a, b):
        assert b.namespace.ping(A_INSIDE)
        b.agent.terminate()
        refused = a.agent.cli("rotate", "peer", a.tunnel, a.peer)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "peer 'b' made its own keys, so its new one is not made here" in refused.stderr
        assert a.agent.call("rotate.status", tunnel=a.tunnel)[0]["running"] == []


def test_an_agent_is_not_heard_from_outside_the_tunnel(lab: Lab) -> None:
    """The gateway's other side has the peer's address, and the right words."""
    with two_sites(lab) as (a, b):
        assert b.namespace.ping(A_INSIDE)
        key, port = b.shown()["public_key"], b.shown()["listen_port"]
        words = {"say": "keys", "v": 1, "id": "0123456789abcdef", "keys": [{"key": key, "port": port}]}
        lab.internet.ip(f"address add {B_INSIDE}/32 dev lo", f"route add {A_INSIDE} via 198.51.100.1")
        try:
            assert answered(lab.internet, words) is None
            lab.internet.ip(f"address add {B_INSIDE}/32 dev eth0")
            assert answered(lab.internet, words, source="198.51.100.9") is None
        finally:
            lab.internet.ip(
                f"route delete {A_INSIDE} via 198.51.100.1", f"address delete {B_INSIDE}/32 dev lo"
            )
            lab.internet.ip(f"address delete {B_INSIDE}/32 dev eth0")
        assert not bound(a.namespace, "0.0.0.0")
        b.agent.terminate()
        assert answered(b.namespace, words) == {
            "say": "heard",
            "v": 1,
            "id": "0123456789abcdef",
            "port": None,
        }


def answered(namespace: Namespace, words: dict, source: str = B_INSIDE) -> dict | None:
    """What comes back within a second when somebody says something to A."""
    with namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.bind((source, PORT))
        sock.sendto(json.dumps(words).encode(), (A_INSIDE, PORT))
        try:
            return json.loads(sock.recv(2048))
        except TimeoutError:
            return None


def bound(namespace: Namespace, address: str) -> str:
    """UDP sockets at our port on an address."""
    listed = namespace.exec("ss", "-H", "-l", "-n", "-u", f"sport = :{PORT}").stdout
    return "\n".join(line for line in listed.splitlines() if f"{address}:{PORT}" in line)


@pytest.mark.parametrize("port", [PORT, 20000])
def test_users_of_the_other_host_and_garbage_get_no_answer(lab: Lab, port: int) -> None:
    with two_sites(lab) as (a, b):
        assert b.namespace.ping(A_INSIDE)
        before_key = b.shown()["public_key"]
        b.agent.terminate()
        before = a.shown()
        with b.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.5)
            sock.bind((B_INSIDE, port))
            words = {"say": "keys", "v": 1, "id": "0" * 16, "keys": [{"key": before_key, "port": 1}]}
            for datagram in (b"", b"{", b"x" * 4000, json.dumps([words] * 20).encode()):
                sock.sendto(datagram, (A_INSIDE, PORT))
            if port != PORT:
                sock.sendto(json.dumps(words).encode(), (A_INSIDE, PORT))
            with pytest.raises(TimeoutError):
                sock.recv(2048)
        assert a.shown() == before


def test_a_peer_without_an_agent_is_left_in_peace(lab: Lab, engine: str) -> None:
    """Its packets go on by the old key for as long as the overlap lasts."""
    with contextlib.ExitStack() as stack:
        agent = lab.agent(lab.server).start()
        stack.callback(agent.end)
        made = agent.make_tunnel(addresses=[f"{A_INSIDE}/24"], endpoint="192.0.2.1")
        phone = agent.call("peer.add", tunnel=made["name"], name="phone", addresses=[f"{B_INSIDE}/32"])
        stack.enter_context(plain_peer(lab.laptop, phone["config"], engine))
        with Pinger(lab.laptop, A_INSIDE, 100) as ping:
            agent.call("rotate.keys", tunnel=made["name"], overlap=3600)
            asked = "udp dst port 864"
            with lab.laptop.capture("any", asked) as packets:
                wait_until(lambda: ping.sent and len(ping.sent) > 300, what="three seconds of pings")
        assert ping.lost == 0
        assert 1 <= len(packets) <= 10
        (running,) = agent.call("rotate.status", tunnel=made["name"])[0]["running"]
        assert [peer["moved"] for peer in running["peers"]] == [False]


@pytest.mark.any_engine
def test_rotations_leave_no_key_in_clear(lab: Lab) -> None:
    """Neither in files, nor logs, nor what any user sees of processes; WireGuard itself knows the keys."""
    with two_sites(lab) as (a, b), hunt.Watch() as watch:
        keys = secrets_of(a) | secrets_of(b)
        for site in (a, b, a):
            before = site.shown()["public_key"]
            site.agent.call("rotate.keys", tunnel=site.tunnel, overlap=3600)
            keys |= secrets_of(a) | secrets_of(b)
            wait_until(lambda: site.shown()["public_key"] != before, MOVED_WITHIN, "the new key")  # noqa: B023
            wait_until(lambda: agree(a, b), MOVED_WITHIN, "both sides to agree")
            keys |= secrets_of(a) | secrets_of(b)
        a.agent.call("rotate.psk", tunnel=a.tunnel, peer=a.peer)
        wait_until(lambda: len(secrets_of(a) | secrets_of(b)) == 3, MOVED_WITHIN, "one preshared key")
        keys |= secrets_of(a)
        backup = lab.folder / "rotated.backup"
        words = {"WIREGUARD_BACKUP_PASSPHRASE": "back-up of all I have"}
        made = a.agent.cli("backup", "create", str(backup), env=words)
        assert made.returncode == 0, made.stderr
        said = [made.stdout + made.stderr]
        for command in ("rotate status", "rotate history", "rotate schedule", "journal", "status", "logs"):
            done = a.agent.cli(*command.split())
            said.append(done.stdout + done.stderr)
    places = {
        **hunt.files(a.agent.config_dir, b.agent.config_dir),
        **watch.places(),
        "A's log": a.agent.log.encode(),
        "B's log": b.agent.log.encode(),
        "the back-up": backup.read_bytes(),
        "what commands said": "".join(said).encode(),
    }
    assert len(keys) >= 6, "two to begin with, three that were made, and a preshared one"
    assert hunt.found(keys, places) == []


def secrets_of(site: Site) -> dict[str, bytes]:
    """The private and preshared keys on all devices of a site, as WireGuard has them."""
    found = {}
    for interface in site.interfaces():
        device = site.namespace.wg(interface)
        texts = [device.private_key, *(peer.preshared_key for peer in device.peers.values())]
        found.update({text[:8]: b64decode(text) for text in texts if text})
    return found
