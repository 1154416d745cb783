"""Agents, engines and disks die in the middle of things, and no packet, object or spec is lost by it."""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.netns.harness import (
    CPUS,
    PATIENCE,
    SLOWNESS,
    Agent,
    Lab,
    Namespace,
    Picture,
    Pinger,
    Refused,
    key_pair,
    panorama,
    picture,
    plain_peer,
    run,
    wait_until,
)
from tests.netns.mortal import MortalAgent

BACK_WITHIN = 2.0 * SLOWNESS  # seconds


def v4(addresses: list[str]) -> str:
    return next(a.partition("/")[0] for a in addresses if ":" not in a)


def plain_site(private: str, peer_key: str) -> str:
    """A plain WireGuard at 10.97.0.2 that waits for whoever holds peer_key."""
    return (
        f"[Interface]\nPrivateKey = {private}\nListenPort = 4500\nAddress = 10.97.0.2/24\n\n"
        f"[Peer]\nPublicKey = {peer_key}\nAllowedIPs = 10.97.0.0/24\n"
    )


def test_no_packet_is_lost_when_the_agent_is_killed_and_started_again(
    agent: Agent, lab: Lab, engine: str
) -> None:
    made = agent.make_tunnel(endpoint="192.0.2.1")
    config = agent.call("peer.add", tunnel=made["name"], name="laptop")["config"]
    with plain_peer(lab.laptop, config, engine):
        with Pinger(lab.laptop, v4(made["addresses"]), per_second=100) as ping:
            before = lab.server.wg(made["interface"])
            agent.kill()
            agent.start()
            assert agent.settled()
            agent.kill()
            agent.start()
        after = lab.server.wg(made["interface"])
    assert len(ping.sent) > 20
    assert ping.lost == 0
    assert [p.latest_handshake for p in before.peers.values()] == [
        p.latest_handshake for p in after.peers.values()
    ]


def test_sigterm_ends_the_agent_and_leaves_the_tunnels(agent: Agent, lab: Lab) -> None:
    made = agent.make_tunnel()
    agent.terminate()
    assert agent.process.returncode == 0
    assert lab.server.wg(made["interface"]).public_key == made["public_key"]
    assert not agent.socket_path.exists()


def test_stop_takes_the_tunnels_down_and_the_next_start_brings_them_back(agent: Agent, lab: Lab) -> None:
    made = agent.make_tunnel(exit=True)
    assert agent.call("agent.stop") == {"stopped": True, "left": []}
    agent.process.wait(PATIENCE)
    assert lab.server.link(made["interface"]) is None
    assert "resource-wireguard" not in lab.server.nft("list", "ruleset")
    agent.start()
    assert lab.server.wg(made["interface"]).public_key == made["public_key"]


def end_engine(namespace: Namespace, interface: str, engine: str) -> None:
    """SIGKILL the process behind a device; the kernel's own has none: there the link is deleted."""
    if engine == "kernel":
        namespace.ip(f"link delete {interface}")
        return
    (pid,) = [
        pid for pid in namespace.pids() if interface in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    ]
    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def reached(agent: Agent, lab: Lab, engine: str, **peer: Any) -> Iterator[dict]:
    """A tunnel of the agent's, and a plain peer of it at 10.97.0.2."""
    private, public = key_pair()
    made = agent.make_tunnel(addresses=["10.97.0.1/24"])
    with plain_peer(lab.laptop, plain_site(private, made["public_key"]), engine):
        agent.call(
            "peer.add", tunnel=made["name"], name="site", public_key=public, addresses=["10.97.0.2/32"],
            endpoint="192.0.2.2:4500", preshared_key="none", **peer,
        )  # fmt: skip
        yield made


def test_a_killed_engine_is_back_with_all_its_state_while_packets_flow(
    agent: Agent, lab: Lab, engine: str
) -> None:
    with (
        reached(agent, lab, engine, routes=["10.96.0.0/16"]) as made,
        Pinger(lab.server, "10.97.0.2", per_second=50) as ping,
    ):
        before = picture(lab.server, made["interface"])
        end_engine(lab.server, made["interface"], engine)
        killed = time.monotonic()
        wait_until(lambda: ping.answers_since(killed), BACK_WITHIN, "answers after the engine's death")
        wait_until(lambda: is_as(before, picture(lab.server, made["interface"])), what="all as it was")


def is_as(before: Picture, now: Picture) -> bool:
    """Whether all is as it was; handshakes are not expected to be."""
    return without_handshakes(before) == without_handshakes(now)


def without_handshakes(seen: Picture) -> Picture:
    device = seen["device"]
    if device is None:
        return seen
    peers = {key: dataclasses.replace(peer, latest_handshake=0) for key, peer in device.peers.items()}
    return {**seen, "device": dataclasses.replace(device, peers=peers)}


def test_a_killed_engine_finds_a_peer_again_whose_endpoint_it_had_only_learned(
    agent: Agent, lab: Lab, engine: str
) -> None:
    """A phone calls in; the server knows where it is from its packets alone, and must not forget it."""
    made = agent.make_tunnel(endpoint="192.0.2.1")
    config = agent.call("peer.add", tunnel=made["name"], name="phone")["config"]
    with plain_peer(lab.laptop, config, engine) as interface:
        assert lab.laptop.ping(v4(made["addresses"]))
        with Pinger(lab.server, v4(list(lab.laptop.addresses(interface))), per_second=50) as ping:
            agent.call("status")
            end_engine(lab.server, made["interface"], engine)
            killed = time.monotonic()
            wait_until(lambda: ping.answers_since(killed), BACK_WITHIN, "answers after the engine's death")


def test_a_device_that_is_deleted_again_and_again_comes_back_each_time(
    agent: Agent, lab: Lab, engine: str
) -> None:
    """That is no engine that keeps dying, which would be started ever later."""
    with reached(agent, lab, engine) as made:
        for _ in range(6):
            wait_until(lambda: lab.server.ping("10.97.0.2"), BACK_WITHIN, "an answer by a new device")
            lab.server.ip(f"link delete {made['interface']}")
        wait_until(lambda: lab.server.ping("10.97.0.2"), BACK_WITHIN, "an answer by the last one")


@pytest.mark.any_engine  # the kernel's own has no process that could die
def test_an_engine_that_keeps_dying_is_started_when_its_pause_is_over(
    agent: Agent, lab: Lab, engine: str
) -> None:
    interface = agent.make_tunnel()["interface"]

    def number() -> int:
        return (lab.server.link(interface) or {"ifindex": 0})["ifindex"]

    for pause in (0, 0, 1, 2, 4):
        before = number()
        end_engine(lab.server, interface, engine)
        within = max(BACK_WITHIN, pause + 2)
        wait_until(lambda: number() > before, within, f"a start after {pause} s")  # noqa: B023


# -- killed after each single action --


FOREIGN = [
    "link add theirs type bridge",
    "link set theirs up",
    "address add 203.0.113.1/24 dev theirs",
    "route add 10.55.0.0/16 dev theirs",
    "rule add priority 15750 from 203.0.113.0/24 lookup 77",
]
FOREIGN_TABLE = "add table inet theirs; add chain inet theirs c; add rule inet theirs c counter accept"


class Stage:
    """A namespace with foreign objects, and an agent in it that owns two tunnels with one of everything."""

    def __init__(self, lab: Lab, engine: str) -> None:
        self.namespace = lab.namespace("mortal")
        self.namespace.ip(*FOREIGN)
        self.namespace.nft(FOREIGN_TABLE)
        self.empty = panorama(self.namespace, [])
        self.agent = MortalAgent(self.namespace, lab.folder / "mortal", engine)
        self.agent.open()
        self.agent.live()
        self.interfaces = [self._exit(), self._client()]
        self.whole = panorama(self.namespace, self.interfaces)

    def _exit(self) -> str:
        made = self.agent.make_tunnel(exit=True)
        for name in ("phone", "tablet"):
            self.agent.call("peer.add", tunnel=made["name"], name=name)
        self._peer(made, "site", endpoint="192.0.2.2:1", routes=["10.80.0.0/16", "fd80::/64"])
        return made["interface"]

    def _client(self) -> str:
        made = self.agent.make_tunnel()
        self._peer(made, "exit", endpoint="192.0.2.3:1", routes=["0.0.0.0/0", "::/0"])
        return made["interface"]

    def _peer(self, made: dict, name: str, **request: object) -> None:
        self.agent.call("peer.add", tunnel=made["name"], name=name, public_key=key_pair()[1], **request)

    def check_whole(self, moment: str) -> None:
        """Nothing is left to do, and the kernel shows what it did when nobody was killed."""
        assert self.agent.settled(), f"{moment}: {self.agent.call('plan')}"
        assert panorama(self.namespace, self.interfaces) == self.whole, moment

    def check_empty(self, moment: str) -> None:
        """The kernel shows what it did before the first agent: what is foreign, and no more."""
        assert panorama(self.namespace, self.interfaces) == self.empty, moment


@pytest.fixture(scope="module")
def stage(lab: Lab, engine: str) -> Iterator[Stage]:
    stage = Stage(lab, engine)
    yield stage
    stage.agent.stop()
    stage.agent.process.communicate(timeout=PATIENCE)


@pytest.mark.timeout(600)
def test_killed_after_any_action_of_making_the_next_start_converges(stage: Stage) -> None:
    agent = stage.agent
    agent.stop()
    stage.check_empty("at the beginning")
    for position in itertools.count(1):
        if agent.live(position):
            break
        assert agent.death() == -signal.SIGKILL
        assert agent.live()
        stage.check_whole(f"killed after action {position} of making")
        agent.stop()
        stage.check_empty(f"killed after action {position} of making, converged, stopped")
    assert position > 20, "the plan is a long one"
    stage.check_whole("at the end")
    agent.retire()  # it has a few actions left, and would die of the next test's
    agent.live()


@pytest.mark.timeout(600)
def test_killed_after_any_action_of_removing_the_next_start_converges(stage: Stage) -> None:
    agent = stage.agent
    for position in itertools.count(1):
        agent.retire()
        assert agent.live(position)
        with contextlib.suppress(ConnectionError):
            agent.call("agent.stop")
        if agent.death() == 0:
            break
        assert agent.live()
        stage.check_whole(f"killed after action {position} of removing")
    assert position > 4
    stage.check_empty("at the end")
    agent.live()


@pytest.mark.timeout(600)
def test_killed_at_any_moment_of_a_start_the_next_start_converges(stage: Stage) -> None:
    """Also in the middle of an action: with a link not yet marked, or an engine without its link."""
    agent = stage.agent
    agent.stop()
    begun = time.monotonic()
    agent.live()
    whole_start = time.monotonic() - begun
    agent.stop()
    moments = 24 if CPUS > 1 else 6
    for number in range(moments):
        moment = whole_start * (number + 1) / moments
        agent.live(moment)
        assert agent.death() == -signal.SIGALRM
        assert agent.live()
        stage.check_whole(f"killed {moment * 1000:.0f} ms after its start")
        agent.stop()
        stage.check_empty(f"killed {moment * 1000:.0f} ms after its start, converged, stopped")
    agent.live()


# -- one at a time, and many --


def test_a_second_agent_on_one_config_dir_refuses(agent: Agent, lab: Lab) -> None:
    second = Agent(lab.server, agent.config_dir, agent.engine)
    done = second.cli("agent")
    assert done.returncode == 2
    assert f"pid {agent.process.pid}" in done.stderr
    assert "hint:" in done.stderr
    assert agent.call("agent.info")["pid"] == agent.process.pid


def test_two_hundred_callers_at_once_are_all_answered(agent: Agent, lab: Lab) -> None:
    made = agent.make_tunnel()
    by_process = 60 if CPUS > 1 else 5  # the rest goes over the socket, as the command line does

    def add(number: int) -> str:
        if number >= by_process:
            return agent.call("peer.add", tunnel=made["name"], name=f"p{number}")["peer"]["public_key"]
        done = agent.cli("peer", "add", made["name"], f"p{number}")
        assert done.returncode == 0, done.stderr
        return agent.call("peer.show", tunnel=made["name"], name=f"p{number}")["public_key"]

    with concurrent.futures.ThreadPoolExecutor(200) as callers:
        keys = list(callers.map(add, range(200)))
    peers = agent.call("peer.list", tunnel=made["name"])
    seen = lab.server.wg(made["interface"]).peers
    assert {peer["public_key"] for peer in peers} == set(seen) == set(keys)
    addresses = [address for peer in peers for address in peer["addresses"]]
    assert len(addresses) == len(set(addresses)) == 400
    assert sum(len(peer.allowed_ips) for peer in seen.values()) == 400


# -- the disk --


@pytest.fixture
def small_disk(lab: Lab) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = lab.folder / "disk"
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder))
    yield folder
    run("umount", "--lazy", str(folder))


def fill(folder: Path) -> Path:
    """Leave not a byte free."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


def test_a_full_disk_is_said_clearly_and_the_old_state_stays(lab: Lab, engine: str, small_disk: Path) -> None:
    agent = Agent(lab.server, small_disk / "config", engine).start()
    made = agent.make_tunnel()
    agent.call("peer.add", tunnel=made["name"], name="phone")
    before, seen = agent.call("peer.list", tunnel=made["name"]), picture(lab.server, made["interface"])
    filler = fill(small_disk)
    refused = 0
    for number in range(50):  # the database's last page and log may have some room left
        with contextlib.suppress(Refused):
            agent.call("peer.add", tunnel=made["name"], name=f"more{number}")
            agent.call("peer.remove", tunnel=made["name"], name=f"more{number}")
            continue
        refused += 1
    assert refused
    with pytest.raises(Refused) as error:
        agent.call(
            "peer.add", tunnel=made["name"], name="tablet", routes=[f"10.{n}.0.0/16" for n in range(100, 250)]
        )
    assert error.value.kind == "store"
    assert "\n" not in error.value.message and error.value.hint
    assert agent.call("peer.list", tunnel=made["name"]) == before
    assert picture(lab.server, made["interface"]) == seen
    filler.unlink()
    agent.call("peer.add", tunnel=made["name"], name="tablet")
    agent.kill()
    agent.start()
    assert [peer["name"] for peer in agent.call("peer.list", tunnel=made["name"])] == ["phone", "tablet"]
    agent.end()


@pytest.mark.parametrize("damage", ["garbage at the start", "cut short", "a page overwritten"])
def test_a_corrupt_database_is_refused_and_kept_as_it_is(lab: Lab, damage: str) -> None:
    agent = lab.agent().start()
    made = agent.make_tunnel(activate=False)
    for number in range(30):
        agent.call("peer.add", tunnel=made["name"], name=f"p{number}")
    agent.terminate()
    database = next(agent.config_dir.glob("*.db"))
    content = database.read_bytes()
    spoilt = {
        "garbage at the start": b"not a database at all" + content[21:],
        "cut short": content[: len(content) // 2],
        "a page overwritten": content[:8192] + os.urandom(len(content) - 12288) + content[-4096:],
    }[damage]
    database.write_bytes(spoilt)
    done = agent.cli("agent")
    assert done.returncode == 1
    assert str(database) in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr
    assert database.read_bytes() == spoilt
