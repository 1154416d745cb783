"""Keys at rest: locked, damaged, away and back again, while packets flow; and nowhere in clear."""

import contextlib
import re
import sqlite3
from base64 import b64decode
from pathlib import Path

import pytest
from tests import hunt
from tests.netns.harness import Agent, Lab, Pinger, Refused, key_pair, plain_peer, wait_until

from resource_wireguard.store.migrations import migrate
from resource_wireguard.store.secrets import FileSecrets
from resource_wireguard.store.sqlite import SqliteStore

PASSPHRASE = "correct horse battery staple"
LOCKED = "the keys are locked: they need the passphrase"


def restart(agent: Agent) -> None:
    agent.kill()
    agent.start()


def v4(addresses: list[str]) -> str:
    return next(a.partition("/")[0] for a in addresses if ":" not in a)


def lock(agent: Agent) -> None:
    """From now on each start of the agent awaits the passphrase."""
    done = agent.cli("keys", "rekey", "--to", "passphrase", stdin=f"{PASSPHRASE}\n")
    assert done.returncode == 0, done.stderr


def test_a_locked_agent_keeps_its_tunnels_and_goes_on_when_it_is_unlocked(
    agent: Agent, lab: Lab, engine: str
) -> None:
    made = agent.make_tunnel(endpoint="192.0.2.1")
    name, interface = made["name"], made["interface"]
    config = agent.call("peer.add", tunnel=name, name="laptop")["config"]
    lock(agent)
    with plain_peer(lab.laptop, config, engine):
        with Pinger(lab.laptop, v4(made["addresses"]), per_second=100) as ping:
            restart(agent)
            shown = agent.cli("status")
            assert shown.returncode == 1
            assert f"keys are not available: {LOCKED}" in shown.stdout
            assert re.search(rf"^{name} +up ", shown.stdout, re.MULTILINE)
            assert agent.call("plan")["actions"] == []

            refused = agent.cli("peer", "add", name, "tablet")
            assert refused.returncode == 1
            assert refused.stderr == f"error: {LOCKED}\nhint: run 'resource-wireguard keys unlock'\n"
            for what in (["peer", "config", name, "laptop"], ["credentials", "--show-secrets"]):
                assert LOCKED in agent.cli(*what).stderr

            _, public = key_pair()
            agent.call("peer.add", tunnel=name, name="site", public_key=public, preshared_key="none")
            assert public in lab.server.wg(interface).peers, "what needs no key works"
            lab.server.ip(f"link set {interface} mtu 1300")
            wait_until(lambda: lab.server.link(interface)["mtu"] != 1300, what="drift is repaired")

            assert agent.cli("keys", "unlock", stdin="wrong wrong\n").returncode == 1
            wait_until(lambda: unlocked(agent), what="the wait after a wrong passphrase")
            agent.call("peer.add", tunnel=name, name="tablet")
        assert len(lab.server.wg(interface).peers) == 3
        assert agent.call("status")["service"]["health"] == "healthy"
    assert len(ping.sent) > 100
    assert ping.lost == 0


def unlocked(agent: Agent) -> bool:
    return agent.cli("keys", "unlock", stdin=f"{PASSPHRASE}\n").returncode == 0


def test_a_tunnel_that_has_to_be_made_waits_for_its_key(agent: Agent, lab: Lab) -> None:
    made = agent.make_tunnel()
    lock(agent)
    agent.call("agent.stop")
    agent.process.wait(10)
    agent.start()
    (tunnel,) = agent.call("status")["tunnels"]
    assert (tunnel["state"], tunnel["problems"][0]["message"]) == ("down", LOCKED)
    assert lab.server.link(made["interface"]) is None
    assert unlocked(agent)
    assert lab.server.wg(made["interface"]).public_key == made["public_key"]
    assert agent.cli("keys", "unlock", stdin="x\n").returncode == 2


@pytest.mark.any_engine
def test_a_deleted_tunnel_goes_also_while_keys_are_locked(agent: Agent, lab: Lab) -> None:
    made = agent.make_tunnel()
    lock(agent)
    restart(agent)
    agent.call("tunnel.delete", name=made["name"])
    assert lab.server.link(made["interface"]) is None


@pytest.mark.any_engine
def test_a_key_file_that_comes_back_is_found_without_a_word(agent: Agent, lab: Lab) -> None:
    made = agent.make_tunnel()
    key = agent.config_dir / "master.key"
    away = key.rename(key.with_name("away"))
    restart(agent)
    assert "master.key is missing" in agent.cli("keys", "status").stdout
    assert lab.server.wg(made["interface"]).public_key == made["public_key"]
    away.rename(key)
    wait_until(
        lambda: agent.call("status")["service"]["health"] == "healthy", what="the agent goes on by itself"
    )
    assert agent.log.count("keys are not available") == 1


@pytest.mark.any_engine
@pytest.mark.parametrize("damage", ["substr(sealed, 1, 30)", "x'00'", "randomblob(length(sealed))"])
def test_one_damaged_secret_is_named_and_no_tunnel_falls(
    agent: Agent, lab: Lab, engine: str, damage: str
) -> None:
    hurt, whole = agent.make_tunnel(endpoint="192.0.2.1"), agent.make_tunnel()
    config = agent.call("peer.add", tunnel=hurt["name"], name="laptop")["config"]
    phone = Pinger(lab.laptop, v4(hurt["addresses"]), per_second=50)
    with plain_peer(lab.laptop, config, engine), phone as ping:
        agent.kill()
        with contextlib.closing(sqlite3.connect(agent.config_dir / "state.db")) as database, database:
            database.execute(f"UPDATE secrets SET sealed = {damage} WHERE name = 'tunnel/1/private'")
        agent.start()
        refused = agent.cli("interface", "config", hurt["name"], "--show-secrets")
        assert re.fullmatch(
            r"error: the secret 'tunnel/1/private' in \S+ was altered: its seal is broken\n"
            r"hint: restore a back-up\n",
            refused.stderr,
        ), refused
        assert agent.call("plan")["actions"] == []
        agent.call("peer.add", tunnel=whole["name"], name="phone")
        assert len(lab.server.wg(whole["interface"]).peers) == 1
    assert ping.lost == 0


@pytest.mark.any_engine
def test_a_life_with_known_keys_leaves_none_in_clear(agent: Agent, lab: Lab, engine: str) -> None:
    private, shared = key_pair()[0], key_pair()[0]
    config = f"[Interface]\nPrivateKey = {private}\nAddress = 10.98.0.1/24\nListenPort = 51999\n"
    backup, words = lab.folder / "known.backup", lab.folder / "words"
    words.write_text("back-up of all I have\n")
    said = []

    def say(*argv: str, **more: object) -> str:
        done = agent.cli(*argv, **more)
        said.append(done.stdout + done.stderr)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with hunt.Watch() as watch:
        agent.call("tunnel.import", name="known", text=config)
        say(
            "peer",
            "add",
            "known",
            "site",
            "--public-key",
            key_pair()[1],
            "--preshared-key-file",
            "-",
            stdin=shared,
        )
        phone = agent.call("peer.add", tunnel="known", name="phone")["config"]
        masters = {"first master": (agent.config_dir / "master.key").read_bytes()}
        say("keys", "rekey")
        masters["second master"] = (agent.config_dir / "master.key").read_bytes()
        data_keys = data_keys_of(agent)
        say("backup", "create", str(backup), "--passphrase-file", str(words))
        say("keys", "rekey", "--to", "passphrase", stdin=f"{PASSPHRASE}\n")
        restart(agent)
        agent.cli("keys", "unlock", stdin="not the right one\n")
        wait_until(lambda: unlocked(agent), what="the wait after a wrong passphrase")
        for command in ("status", "journal", "plan", "logs", "credentials", "doctor"):
            said.append(str(agent.cli(command)))
        agent.call("peer.remove", tunnel="known", name="site")
        own = {
            p.name: p.read_bytes() for p in (agent_folder(agent) / "cmdline", agent_folder(agent) / "environ")
        }
    keys = {
        "the tunnel's key": b64decode(private),
        "the preshared key": b64decode(shared),
        "the phone's key": b64decode(re.findall(r"PrivateKey = (\S+)", phone)[0]),
        "the phone's preshared key": b64decode(re.findall(r"PresharedKey = (\S+)", phone)[0]),
        "the passphrase": PASSPHRASE.encode(),
        "the wrong passphrase": b"not the right one",
        **masters,
        **data_keys,
    }
    places = {
        **hunt.files(agent.config_dir),
        **watch.places(),
        **own,
        "the agent's log": agent.log.encode(),
        "the back-up": backup.read_bytes(),
        "what commands said": "".join(said).encode(),
    }
    assert len(keys) == 8 + len(data_keys)
    assert watch.looks > 50
    assert hunt.found(keys, places) == []
    assert hunt.found(keys, {"the phone's config": phone.encode()}) == [
        "the phone's key in the phone's config",
        "the phone's preshared key in the phone's config",
    ], "the hunt finds what is there"


def agent_folder(agent: Agent) -> Path:
    return Path(f"/proc/{agent.call('agent.info')['pid']}")


def data_keys_of(agent: Agent) -> dict[str, bytes]:
    """The data keys in use, as the agent itself gets at them."""
    store = SqliteStore(agent.config_dir / "state.db")
    migrate(store, [])
    secrets = FileSecrets(store, agent.config_dir / "master.key")
    return {f"data key {number}": bytes(key) for number, key in secrets._keyring._keys.items()}


@pytest.mark.any_engine
def test_the_agent_can_leave_no_core_and_can_be_looked_at(agent: Agent) -> None:
    folder = agent_folder(agent)
    limits = (folder / "limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits)
    assert agent.call("stats")["agent"]["rss_bytes"] > 0
    with pytest.raises(Refused, match="not understood"):
        agent.call("keys.rekey", to="vault-of-nobody")
