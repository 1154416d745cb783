"""An agent that is killed in the middle of a rotation to a far end without one.

Whatever it had done by then: a new one finds the rotation complete, running as before, or not begun; store,
kernel and history say the same; and the peer gets on with the config that the product shows.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.netns.harness import CPUS, PATIENCE, Lab, Namespace, Refused, plain_peer, wait_until
from tests.netns.mortal import MortalAgent

pytestmark = pytest.mark.any_engine

HUB, PEER, NETWORK = "10.97.0.1", "10.97.0.2/32", "10.97.0.0/24"
STEP = 1 if CPUS > 1 else 3
"""How many actions more each agent lives than the one before."""


@dataclass
class Home:
    """An agent that can be made to die, its tunnel, and the one peer's interface on the far end."""

    agent: MortalAgent
    tunnel: str
    far: Namespace
    interface: str

    def call(self, command: str, /, **request: Any) -> Any:
        return self.agent.call(command, tunnel=self.tunnel, **request)

    def shown(self) -> dict:
        return self.agent.call("tunnel.show", name=self.tunnel)

    def running(self) -> list[dict]:
        return self.call("rotate.status")[0]["running"]

    def history(self) -> list[dict]:
        return self.call("rotate.history")

    def interfaces(self) -> set[str]:
        """All links of the tunnel, by our mark on them."""
        links, mark = self.agent.namespace.ip_json("link show"), f"resource-wireguard:{self.tunnel}"
        return {link["ifname"] for link in links if link.get("ifalias") == mark}

    def take_config(self) -> None:
        """As a phone: the config that the product shows, in place of the one it had."""
        config = self.call("peer.config", name="laptop")["config"]
        ours = ("Address", "MTU", "DNS", "Table")
        lines = [line for line in config.splitlines() if not line.startswith(ours)]
        self.far.exec("wg", "setconf", self.interface, "/dev/stdin", stdin="\n".join(lines))

    def gets_on(self) -> bool:
        """Soon: the first packets are lost while the agent has yet to see that the peer has moved."""
        wait_until(self.pings, what="an answer to a ping")
        return True

    def pings(self) -> bool:
        return self.far.exec("ping", "-n", "-c", "1", "-W", "0.3", HUB, check=False).returncode == 0

    def one_life(self, lifetime: int, *steps: Callable[[], object]) -> bool:
        """Do something with an agent that has so long to live, and give it a successor; whether it died."""
        self.agent.retire()
        self.agent.live(lifetime)
        for step in steps:
            with contextlib.suppress(OSError, Refused):  # it dies of it, or is dead
                step()
        wait_until(lambda: self.agent.is_dead() or self.rests(), what=f"an end of a life of {lifetime}")
        died = self.agent.is_dead()
        if died:
            assert self.agent.death() < 0
        else:
            self.agent.retire()
        assert self.agent.live()
        wait_until(self.rests, what=f"nothing left to do, after a life of {lifetime}")
        return died

    def rests(self) -> bool:
        with contextlib.suppress(OSError):  # dead, and not yet buried
            return bool(self.agent.settled())
        return False

    def ended(self) -> bool:
        with contextlib.suppress(OSError):
            return not self.running() and self.rests()
        return False

    def takes_part(self) -> None:
        """The peer takes its new config, and the agent brings the rotation to its end, or dies of that."""
        self.take_config()
        self.pings()
        wait_until(lambda: self.agent.is_dead() or self.ended(), what="an end, or a death")

    def completes(self) -> None:
        """The peer takes the config that is shown, and the rotation comes to its end."""
        self.assert_whole()
        self.take_config()
        assert self.gets_on()
        wait_until(self.ended, what="the end of the rotation")
        self.assert_whole()
        assert self.gets_on()

    def assert_whole(self) -> None:
        """Store, kernel and history say the same."""
        shown, running, history = (
            self.shown(),
            self.running(),
            self.history(),
        )
        assert [r["id"] for r in history if not r["ended_at"]] == [r["id"] for r in running]
        keys = {peer["public_key"] for peer in self.call("peer.list")}
        keys |= {r["new_public_key"] for r in running if r["peer"]}
        expected = {shown["interface"]: (shown["public_key"], shown["listen_port"])}
        expected |= {
            r["interface"]: (r["new_public_key"], r["listen_port"]) for r in running if not r["peer"]
        }
        assert self.interfaces() == expected.keys()
        for interface, told in expected.items():
            device = self.agent.namespace.wg(interface)
            assert (device.public_key, device.listen_port) == told
            assert device.peers.keys() == keys
            assert [p.allowed_ips for p in device.peers.values()].count(frozenset({PEER})) == 1
        assert NETWORK in self.agent.namespace.routes(shown["interface"])


@pytest.fixture(scope="module")
def home(lab: Lab, engine: str) -> Iterator[Home]:
    agent = MortalAgent(lab.server, lab.folder / "mortal", lab.engine)
    agent.open()
    agent.live()
    tunnel = agent.make_tunnel(addresses=[f"{HUB}/24"], endpoint="192.0.2.1")["name"]
    added = agent.call("peer.add", tunnel=tunnel, name="laptop", addresses=[PEER])
    with plain_peer(lab.laptop, added["config"], engine) as interface:
        home = Home(agent, tunnel, lab.laptop, interface)
        assert home.gets_on()
        yield home
    agent.stop()
    agent.process.communicate(timeout=PATIENCE)


@pytest.fixture(autouse=True)
def lives_on(home: Home) -> Iterator[None]:
    """However a test ends, the next one begins with an agent that lives, and a peer that gets on."""
    yield
    print(home.agent.log[-6000:])
    if home.agent.is_dead():
        home.agent.death()
    else:
        home.agent.retire()
    home.agent.live()
    for rotation in home.running():
        home.call("rotate.rollback", **({"peer": rotation["peer"]} if rotation["peer"] else {}))
    home.take_config()


@pytest.fixture
def idle(home: Home) -> Iterator[None]:
    """Another peer, which never moves: so a rotation runs until it is rolled back."""
    home.call("peer.add", name="idle", addresses=["10.97.0.3/32"])
    yield
    home.call("peer.remove", name="idle")


def moved(home: Home) -> bool:
    (running,) = home.running()
    return any(peer["moved"] for peer in running["peers"])


def outcome(home: Home, before: list[dict]) -> str:
    """What became of the rotation that a dead agent had begun."""
    (*new,) = [r for r in home.history() if r["id"] not in {r["id"] for r in before}]
    assert len(new) <= 1
    if not new:
        return "not begun"
    return new[0]["outcome"] or "running"


def test_killed_while_a_generation_comes(home: Home, idle: None) -> None:
    found = []
    for position in itertools.count(1):
        before = home.history()
        died = home.one_life(position, lambda: home.call("rotate.keys", overlap=3600))
        found.append(outcome(home, before))
        home.assert_whole()
        home.take_config()
        assert home.gets_on()
        if home.running():
            home.call("rotate.rollback")
            home.take_config()
            assert home.gets_on()
        home.assert_whole()
        if not died:
            break
    assert found == ["running"] * len(found), "the store is the first to know"
    assert position >= 4, "link, device, peer and address"


def test_killed_while_the_old_generation_goes(home: Home) -> None:
    """The agent that sees the peer move, and all that follows."""
    for position in itertools.count(1, STEP):
        before = home.shown()["public_key"]
        home.call("rotate.keys", overlap=3600)
        died = home.one_life(position, home.takes_part)
        home.completes()
        assert home.shown()["public_key"] != before
        assert home.history()[0]["outcome"] == "complete"
        if not died:
            break
    assert position >= 3, "a route, another one, and the old link"


def test_killed_while_a_key_is_replaced_at_once(home: Home) -> None:
    for position in itertools.count(1):
        before, history = home.shown()["public_key"], home.history()
        died = home.one_life(position, lambda: home.call("rotate.keys", now=True))
        home.assert_whole()
        changed = home.shown()["public_key"] != before
        assert outcome(home, history) == ("at once" if changed else "not begun")
        home.take_config()
        assert home.gets_on()
        if not died:
            break
    assert position >= 2


def test_killed_while_a_peers_key_changes(home: Home) -> None:
    for position in itertools.count(1, STEP):
        before = home.call("peer.show", name="laptop")["public_key"]
        died = home.one_life(
            position,
            lambda: home.call("rotate.peer", peer="laptop", grace=0.2),
            home.takes_part,
        )
        home.completes()
        assert home.call("peer.show", name="laptop")["public_key"] != before
        assert home.history()[0]["outcome"] == "complete"
        if not died:
            break
    assert position >= 3


def test_killed_while_a_preshared_key_changes(home: Home) -> None:
    for position in itertools.count(1):
        history = home.history()
        died = home.one_life(position, lambda: home.call("rotate.psk", peer="laptop"))
        home.assert_whole()
        assert outcome(home, history) in ("in use here", "not begun")
        home.take_config()
        assert home.gets_on()
        if not died:
            break
    assert position >= 2


@pytest.mark.parametrize("gone_over", [False, True])
def test_killed_while_a_rotation_is_rolled_back(home: Home, idle: None, gone_over: bool) -> None:
    before = home.shown()["public_key"]
    for position in itertools.count(1):
        home.call("rotate.keys", overlap=3600)
        if gone_over:
            home.take_config()
            assert home.gets_on()
            wait_until(lambda: moved(home), what="the peer's move")
        died = home.one_life(position, lambda: home.call("rotate.rollback"))
        home.assert_whole()
        assert home.shown()["public_key"] == before
        assert home.history()[0]["outcome"] == "rolled back"
        home.take_config()
        assert home.gets_on()
        if not died:
            break
    assert position >= 2
