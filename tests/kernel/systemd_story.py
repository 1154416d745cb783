"""The life of the service as a real systemd unit; runs in the guest, told by test_systemd.py."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

UNIT = "resource-wireguard.service"
CONFIG_DIR = Path("/root/.vrooli/resources/wireguard")
DROP_IN = Path(f"/run/systemd/system/{UNIT}.d/watchdog.conf")
WITHIN = 40.0  # seconds: starting Python takes two of them here


def run(*argv: str, **more: str) -> str:
    """Run a tool to its end; what it printed."""
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **more})
    assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}{agent_log()}"
    return done.stdout


def manage(*words: str, **more: str) -> None:
    print(f"manage {' '.join(words)}", flush=True)
    run(sys.executable, "-m", "resource_wireguard", "manage", *words, **more)


def cli(*words: str) -> str:
    return run(sys.executable, "-m", "resource_wireguard", *words)


def agent_log() -> str:
    path = CONFIG_DIR / "run/agent.log"
    return path.read_text() if path.exists() else ""


def shown(name: str) -> str:
    return run("systemctl", "show", f"--property={name}", "--value", UNIT).strip()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, f"not within {WITHIN:g} s: {what}\n{agent_log()}"
        time.sleep(0.2)


def link() -> int | None:
    """The index of the tunnel's interface: another one would be another number."""
    path = Path("/sys/class/net/wg-home/ifindex")
    return int(path.read_text()) if path.exists() else None


def engines() -> list[str]:
    return [
        path.parent.name
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"wireguard-go\0-f\0wg-home" in path.read_bytes()
    ]


def status_of(pid: str, name: str) -> int:
    line = Path(f"/proc/{pid}/status").read_text().split(f"{name}:")[1]
    return int(line.split()[0], 16)


def is_installed_and_runs_with_three_capabilities() -> None:
    manage("install")
    assert run("systemctl", "is-enabled", UNIT) == "enabled\n"
    assert Path(CONFIG_DIR / "service.env").stat().st_mode & 0o777 == 0o600
    manage("start", "--wait")
    assert (shown("ActiveState"), shown("SubState")) == ("active", "running")
    for capabilities in ("CapEff", "CapBnd"):
        assert status_of(shown("MainPID"), capabilities) == 1 << 10 | 1 << 12 | 1 << 13
    assert status_of(shown("MainPID"), "NoNewPrivs") == 1
    assert status_of(shown("MainPID"), "Seccomp") == 2


def does_its_work_under_all_restrictions() -> None:
    cli("interface", "create", "home", "--exit", "--endpoint", "192.0.2.1")
    cli("peer", "add", "home", "phone")
    assert "healthy" in cli("status")
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
    assert "masquerade" in run("nft", "list", "table", "inet", "resource-wireguard")


def the_master_key_comes_from_systemd() -> None:
    """As docs/keys.md has it."""
    sealed, drop_in = Path("/etc/credstore.encrypted/wireguard.master"), DROP_IN.with_name("key.conf")
    for path in (sealed, drop_in):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = CONFIG_DIR / "a key"
    key.write_bytes(os.urandom(32))
    run("systemd-creds", "encrypt", "--with-key=host", "--name=wireguard.master", str(key), str(sealed))
    key.unlink()
    drop_in.write_text(f"[Service]\nLoadCredentialEncrypted=wireguard.master:{sealed}\n")
    run("systemctl", "daemon-reload")
    before = link()
    manage("restart")
    assert "credential wireguard.master" in cli("keys", "rekey", "--to", "credential")
    assert not (CONFIG_DIR / "master.key").exists()
    manage("restart")
    assert "healthy" in cli("status")
    assert link() == before
    cli("keys", "rekey", "--to", "file")
    drop_in.unlink()
    run("systemctl", "daemon-reload")


def tunnels_outlive_restart_and_death() -> None:
    before = link()
    run("systemctl", "restart", UNIT)
    assert link() == before
    killed = shown("MainPID")
    os.kill(int(killed), signal.SIGKILL)
    until(lambda: shown("MainPID") not in (killed, "0") and shown("ActiveState") == "active", "a new agent")
    assert link() == before
    assert "healthy" in cli("status")


def an_agent_that_hangs_is_replaced() -> None:
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text("[Service]\nWatchdogSec=6\n")
    run("systemctl", "daemon-reload")
    manage("restart")
    pid = shown("MainPID")
    time.sleep(10)
    assert shown("MainPID") == pid, "fed, it lives longer than the watchdog waits"
    os.kill(int(pid), signal.SIGSTOP)
    until(lambda: shown("MainPID") not in (pid, "0") and shown("ActiveState") == "active", "a new agent")
    assert link() is not None


def stop_takes_the_tunnels_down() -> None:
    manage("stop")
    assert link() is None
    assert shown("ActiveState") == "inactive"


def an_engine_in_user_space_outlives_the_unit() -> None:
    manage("install", WIREGUARD_ENGINE="/usr/bin/wireguard-go")
    manage("start", "--wait")
    before, engine = link(), engines()
    assert len(engine) == 1
    run("systemctl", "stop", UNIT)
    assert (link(), engines()) == (before, engine)
    run("systemctl", "start", UNIT)
    assert (link(), engines()) == (before, engine)
    assert "healthy" in cli("status")


def network_namespaces_come_with_a_wider_unit_and_outlive_it() -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "resource_wireguard", "namespace", "create", "work", "home", "--netns"],
        capture_output=True,
        text=True,
    )
    assert (refused.returncode, "--allow-netns" in refused.stderr) == (1, True), refused.stderr
    manage("install", "--allow-netns")
    manage("restart")
    assert "healthy" in cli("status")
    cli("interface", "create", "work")
    cli("namespace", "create", "work", "work", "--netns")
    inside = "wg-work" in run("ip", "-n", "wg-work", "-brief", "link")
    assert inside, "an interface that the host sees under /run/netns"
    assert cli("namespace", "exec", "work", "--", "id", "-u") == "0\n"
    index = Path("/run/netns/wg-work").stat().st_ino
    run("systemctl", "restart", UNIT)
    assert Path("/run/netns/wg-work").stat().st_ino == index
    assert "healthy" in cli("status")
    cli("namespace", "delete", "work", "--force")
    assert not Path("/run/netns/wg-work").exists()


def uninstall_leaves_nothing() -> None:
    manage("uninstall", "--force")
    assert (link(), engines()) == (None, [])
    assert not CONFIG_DIR.exists()
    assert not Path(f"/etc/systemd/system/{UNIT}").exists()
    assert not list(Path("/etc/systemd/system").glob(f"*.wants/{UNIT}"))
    assert run("nft", "list", "tables") == ""
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "0\n"
    assert shown("LoadState") == "not-found"


STORY = (
    is_installed_and_runs_with_three_capabilities,
    does_its_work_under_all_restrictions,
    the_master_key_comes_from_systemd,
    tunnels_outlive_restart_and_death,
    an_agent_that_hangs_is_replaced,
    stop_takes_the_tunnels_down,
    an_engine_in_user_space_outlives_the_unit,
    network_namespaces_come_with_a_wider_unit_and_outlive_it,
    uninstall_leaves_nothing,
)

if __name__ == "__main__":
    for chapter in STORY:
        print(f"[{time.monotonic():.0f} s] {chapter.__name__}", flush=True)
        chapter()
    print("the end", flush=True)
