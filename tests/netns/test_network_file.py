"""The whole network as a file, changes that take themselves back, and a back-up that moves house."""

import time
from pathlib import Path

import pytest
from tests.netns.harness import SLOWNESS, Agent, Lab, Refused, lines_of, new_name, plain_peer, wait_until

PASSPHRASE = {"WIREGUARD_BACKUP_PASSPHRASE": "correct horse battery"}

FILE = """\
version: 1
tunnels:
  {name}:
    port: {port}
    addresses: [10.91.0.1/24]
    endpoint: 192.0.2.1
    peers:
      laptop: {{}}
      site:
        public_key: "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
        addresses: [10.91.0.9]
        routes: [10.92.0.0/24]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "network.yaml"
    path.write_text(FILE.format(name=new_name("n"), port=7100))
    return path


def name_in(file: Path) -> str:
    return file.read_text().splitlines()[2].strip().rstrip(":")


def edited(file: Path, *changes: tuple[str, str]) -> None:
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


def port(lab: Lab, interface: str) -> int:
    return lab.server.wg(interface).listen_port


def test_a_file_is_applied_and_the_kernel_shows_it(agent: Agent, lab: Lab, file: Path, engine: str) -> None:
    interface = f"wg-{name_in(file)}"
    dry = agent.cli("apply", "-f", str(file), "--dry-run")
    assert dry.returncode == 0 and f"create tunnel {name_in(file)}" in dry.stdout
    assert lab.server.link(interface) is None
    applied = agent.cli("apply", "-f", str(file))
    assert applied.returncode == 0, applied.stderr
    device = lab.server.wg(interface)
    assert device.listen_port == 7100
    assert len(device.peers) == 2
    assert lab.server.addresses(interface) == {"10.91.0.1/24"}
    assert "10.92.0.0/24" in lab.server.routes(interface)
    config = agent.call("peer.config", tunnel=name_in(file), name="laptop")["config"]
    with plain_peer(lab.laptop, config, engine):
        assert lab.laptop.ping("10.91.0.1")
        before = lab.server.wg(interface)
        edited(file, ("10.92.0.0/24", "10.93.0.0/24"), ("endpoint: 192.0.2.1", "endpoint: vpn.example.org"))
        assert agent.cli("apply", "-f", str(file)).returncode == 0
        after = lab.server.wg(interface)
        assert {key: p.latest_handshake for key, p in before.peers.items()} == {
            key: p.latest_handshake for key, p in after.peers.items()
        }, "sessions live on"
    assert "10.93.0.0/24" in lab.server.routes(interface)
    assert "10.92.0.0/24" not in lab.server.routes(interface)
    assert "nothing to do" in agent.cli("apply", "-f", str(file)).stderr
    exported = agent.cli("export").stdout
    file.write_text(exported)
    assert "nothing to do" in agent.cli("apply", "-f", str(file), "--prune").stderr
    assert agent.cli("undo").returncode == 0
    assert "10.92.0.0/24" in lab.server.routes(interface)


def test_a_wrong_file_is_answered_with_its_lines_and_changes_nothing(
    agent: Agent, lab: Lab, file: Path
) -> None:
    edited(file, ("port: 7100", "prot: 7100"), ("10.91.0.9", "10.91.0.999"))
    refused = agent.cli("apply", "-f", str(file))
    assert refused.returncode == 1
    assert [line.split(": ")[1] for line in lines_of(refused) if line.startswith("error")] == [
        f"{file}:4:5",
        f"{file}:11:21",
    ]
    assert "hint: did you mean 'port'?" in lines_of(refused)
    assert lab.server.link(f"wg-{name_in(file)}") is None


def test_what_nobody_confirms_is_taken_back_by_itself(agent: Agent, lab: Lab, file: Path) -> None:
    interface = f"wg-{name_in(file)}"
    assert agent.cli("apply", "-f", str(file)).returncode == 0
    edited(file, ("port: 7100", "port: 7200"))
    applied = agent.cli("apply", "-f", str(file), "--confirm", str(round(5 * SLOWNESS)))
    assert applied.returncode == 0 and "resource-wireguard confirm" in applied.stderr
    assert port(lab, interface) == 7200
    assert "taken back in" in agent.cli("status").stdout
    with pytest.raises(Refused, match="waits to be confirmed"):
        agent.call("peer.remove", tunnel=name_in(file), name="site")
    wait_until(lambda: port(lab, interface) == 7100, what="the old port")
    assert agent.settled()
    assert agent.cli("confirm").returncode == 2


def test_what_is_confirmed_stays(agent: Agent, lab: Lab, file: Path) -> None:
    interface = f"wg-{name_in(file)}"
    assert agent.cli("apply", "-f", str(file), "--confirm", "60").returncode == 0
    assert agent.cli("confirm").returncode == 0
    assert agent.call("status")["service"]["pending"] is None
    assert port(lab, interface) == 7100


@pytest.mark.parametrize("back", ["before the deadline", "after the deadline"])
def test_a_killed_agent_takes_back_what_nobody_confirmed(
    agent: Agent, lab: Lab, file: Path, back: str
) -> None:
    interface = f"wg-{name_in(file)}"
    assert agent.cli("apply", "-f", str(file)).returncode == 0
    edited(file, ("port: 7100", "port: 7200"))
    seconds = 5 * SLOWNESS if back.startswith("before") else 1
    applied = agent.cli("apply", "-f", str(file), "--confirm", str(round(seconds)))
    assert applied.returncode == 0
    agent.kill()
    assert port(lab, interface) == 7200, "the dead take nothing back"
    if back.startswith("after"):
        applied_at = (agent.config_dir / "state.db-wal").stat().st_mtime
        wait_until(lambda: time.time() > applied_at + seconds, what="the deadline")
    agent.start()
    wait_until(lambda: port(lab, interface) == 7100, what="the old port")


def test_a_back_up_moves_a_host_with_its_keys(agent: Agent, lab: Lab, file: Path, tmp_path: Path) -> None:
    name, archive = name_in(file), tmp_path / "all.backup"
    assert agent.cli("apply", "-f", str(file)).returncode == 0
    old = lab.server.wg(f"wg-{name}")
    made = agent.cli("backup", "create", str(archive), env=PASSPHRASE)
    assert made.returncode == 0, made.stderr
    assert archive.stat().st_mode & 0o777 == 0o600
    agent.call("agent.stop")
    agent.process.wait()
    assert lab.server.link(f"wg-{name}") is None
    moved = lab.agent(lab.internet).start()
    try:
        dry = moved.cli("backup", "restore", str(archive), "--dry-run", env=PASSPHRASE)
        assert dry.returncode == 0 and lab.internet.link(f"wg-{name}") is None
        restored = moved.cli("backup", "restore", str(archive), env=PASSPHRASE)
        assert restored.returncode == 0, restored.stderr
        new = lab.internet.wg(f"wg-{name}")
        assert (new.public_key, new.listen_port) == (old.public_key, old.listen_port)
        assert new.peers.keys() == old.peers.keys()
        assert lab.internet.addresses(f"wg-{name}") == {"10.91.0.1/24"}
        assert moved.settled()
        assert moved.call("tunnel.show", name=name)["state"] == "up"
        for spoiled, words in ((archive.read_bytes()[:-1], "damaged"), (b"PK\x03\x04", "no back-up")):
            (tmp_path / "spoiled").write_bytes(spoiled)
            refused = moved.cli("backup", "restore", str(tmp_path / "spoiled"), "--force", env=PASSPHRASE)
            assert refused.returncode == 1 and words in lines_of(refused)[0]
        wrong = moved.cli(
            "backup", "restore", str(archive), "--force", env={"WIREGUARD_BACKUP_PASSPHRASE": "wrong horse"}
        )
        assert wrong.returncode == 1 and "passphrase" in wrong.stderr
        assert "horse" not in moved.log + wrong.stderr
    finally:
        moved.end()


def test_in_report_mode_a_foreign_change_is_told_and_left(agent: Agent, lab: Lab, file: Path) -> None:
    interface = f"wg-{name_in(file)}"
    assert agent.cli("apply", "-f", str(file)).returncode == 0
    assert agent.cli("drift", "report").stdout == "report\n"
    lab.server.ip(f"address delete 10.91.0.1/24 dev {interface}")
    wait_until(lambda: "create address 10.91.0.1/24" in agent.cli("plan").stdout, what="the drift in 'plan'")
    agent.call("peer.remove", tunnel=name_in(file), name="site")
    assert len(lab.server.wg(interface).peers) == 1
    assert lab.server.addresses(interface) == set()
    assert agent.cli("drift", "enforce").returncode == 0
    assert lab.server.addresses(interface) == {"10.91.0.1/24"}
