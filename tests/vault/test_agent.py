"""A real agent with its keys in a Vault, and a real tunnel that does not care how the Vault is."""

import json
import os
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import hunt
from tests.lanes import netns_obstacle
from tests.netns.harness import Agent, Lab, Pinger, Refused, plain_peer, wait_until
from tests.vault.forward import Forward
from tests.vault.server import Bao
from tests.vault.worlds import policy

pytestmark = pytest.mark.skipif(bool(netns_obstacle("userspace")), reason=str(netns_obstacle("userspace")))

PATH = "wireguard/gateway"
PER_SECOND = 100


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = Lab("userspace")
    yield lab
    lab.close()


@pytest.fixture
def agent(lab: Lab) -> Iterator[Agent]:
    with lab.own_agent() as agent:
        yield agent


@pytest.fixture(scope="module")
def door(lab: Lab, shared_bao: Bao) -> Iterator[Forward]:
    """The Vault, as the agent's namespace reaches it."""
    with Forward(lab.server, shared_bao.port) as door:
        yield door


@pytest.fixture
def token_file(bao: Bao, tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(bao.token(policy(f"{PATH}{os.getpid()}/+")))
    return file


@pytest.fixture
def place(bao: Bao, token_file: Path, request: pytest.FixtureRequest) -> list[str]:
    """The words of a migration to a path of this test's own."""
    path = f"{PATH}{os.getpid()}/{request.node.name}"
    options = {"address": bao.address, "ca": bao.ca, "path": path, "token-file": token_file}
    return ["--to", "vault", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


def migrate(agent: Agent, *words: str) -> dict[str, object]:
    done = agent.cli("keys", "migrate", *words, "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def status(agent: Agent) -> dict[str, object]:
    return json.loads(agent.cli("keys", "status", "--format", "json").stdout)


def test_there_and_back_without_a_lost_packet(
    agent: Agent, lab: Lab, door: Forward, place: list[str], bao: Bao
) -> None:
    made = agent.make_tunnel(endpoint="192.0.2.1")
    config = agent.call("peer.add", tunnel=made["name"], name="laptop")["config"]
    address = made["addresses"][0].partition("/")[0]
    with (
        plain_peer(lab.laptop, config, "userspace"),
        Pinger(lab.laptop, address, PER_SECOND) as ping,
    ):
        assert migrate(agent, *place)["moved"] == 3
        assert migrate(agent, "--to", "vault")["moved"] == 0
        shown = status(agent)["vault"]
        assert (shown["inside"], shown["outside"], shown["problem"]) == (3, 0, None)
        agent.kill()
        agent.start()
        assert agent.settled()
        assert config == agent.call("peer.config", tunnel=made["name"], name="laptop")["config"]
        assert migrate(agent, "--to", "file")["moved"] >= 3
        assert status(agent)["vault"] is None
    assert ping.lost == 0


def test_sealed_or_out_of_reach_running_tunnels_go_on(
    agent: Agent, lab: Lab, door: Forward, place: list[str], bao: Bao
) -> None:
    made = agent.make_tunnel(endpoint="192.0.2.1")
    name = made["name"]
    agent.call("peer.add", tunnel=name, name="phone")
    config = agent.call("peer.add", tunnel=name, name="laptop")["config"]
    address = made["addresses"][0].partition("/")[0]
    migrate(agent, *place)
    with (
        plain_peer(lab.laptop, config, "userspace"),
        Pinger(lab.laptop, address, PER_SECOND) as ping,
    ):
        bao.seal()
        assert agent.settled()
        with pytest.raises(Refused, match="is sealed") as refused:
            agent.call("peer.add", tunnel=name, name="tablet")  # its new keys would have to go there
        assert (refused.value.kind, refused.value.exit_code) == ("keys-unavailable", 1)
        assert agent.settled()
        agent.call("peer.disable", tunnel=name, name="phone")  # what needs no new key goes on
        agent.call("peer.enable", tunnel=name, name="phone")
        assert agent.settled()

        agent.kill()
        agent.start()
        with pytest.raises(Refused, match="is sealed"):
            agent.call("peer.config", tunnel=name, name="laptop")
        assert "is sealed" in status(agent)["problem"]["message"]
        assert lab.server.wg(made["interface"]).public_key == made["public_key"]

        bao.unseal()
        wait_until(lambda: status(agent)["available"], what="the agent's own recovery")
        wait_until(agent.settled)
        assert agent.call("peer.config", tunnel=name, name="laptop")["config"] == config
        agent.call("peer.add", tunnel=name, name="tablet")
        wait_until(lambda: len(ping.sent) > 2 * PER_SECOND)
    assert ping.lost == 0


def test_one_that_does_not_answer_holds_nobody_up_for_long(
    agent: Agent, lab: Lab, door: Forward, place: list[str]
) -> None:
    made = agent.make_tunnel()
    migrate(agent, *place)
    door.silent = True
    door.cut()
    agent.kill()
    agent.start()
    assert "does not answer" in status(agent)["problem"]["message"]
    assert lab.server.wg(made["interface"]).public_key == made["public_key"]
    door.silent = False
    door.cut()
    wait_until(lambda: status(agent)["available"], what="the agent's own recovery")


def test_what_is_wrong_with_the_way_in_is_one_line(
    agent: Agent, door: Forward, place: list[str], bao: Bao, token_file: Path
) -> None:
    agent.make_tunnel()
    migrate(agent, *place)
    bao.revoke(token_file.read_text())
    failed = agent.cli("interface", "create", "late")
    assert failed.returncode == 1
    assert failed.stdout == ""
    message, hint = failed.stderr.strip().splitlines()
    assert "does not take the token: it was revoked or has expired" in message
    assert hint.startswith(f"hint: write a new one to {token_file}")
    assert "late" not in agent.cli("interface", "list").stdout


def test_keys_and_token_are_nowhere_in_clear(
    lab: Lab, door: Forward, place: list[str], token_file: Path, bao: Bao
) -> None:
    agent = lab.agent(settings={"WIREGUARD_LOG_LEVEL": "debug"}).start()
    made = agent.make_tunnel(endpoint="192.0.2.1")
    config = agent.call("peer.add", tunnel=made["name"], name="laptop")["config"]
    named = dict(line.split(" = ") for line in config.splitlines() if " = " in line)
    keys = {name: b64decode(named[name]) for name in ("PrivateKey", "PresharedKey")}
    keys["token"] = token_file.read_bytes().strip()
    with hunt.Watch() as watch:
        migrate(agent, *place)
        bao.revoke(keys["token"].decode())
        assert agent.cli("interface", "create", "late").returncode == 1
        status(agent)
    assert "/v1/secret/data" in agent.log  # it did log what it asked
    places = {**hunt.files(agent.config_dir), "log": agent.log.encode(), **watch.places()}
    assert not hunt.found(keys, places)
    agent.end()
