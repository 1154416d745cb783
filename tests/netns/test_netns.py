"""Namespaces of kind 'netns': programs in them reach the world through their tunnel, or not at all.

The laptop is the far end of the tunnel. It also has the addresses of a site that is only to be had through
the tunnel, and answers DNS there.
"""

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.netns.harness import (
    PATIENCE,
    SLOWNESS,
    Agent,
    Lab,
    Namespace,
    Pinger,
    Refused,
    key_pair,
    new_name,
    plain_peer,
    run,
    wait_until,
)

SITE, SITE6 = "203.0.113.7", "2001:db8:7::7"
FAR, FAR6 = "10.97.0.2", "fd97::2"
OUTSIDE = ("198.51.100.9", "2001:db8:2::9", "192.0.2.2", "2001:db8:1::2", SITE, SITE6)
"""Where a program would be heard if it got out past the tunnel."""

NOBODY = 65534

WITHIN = 1.0 * SLOWNESS
"""Seconds in which what the kernel tells of is repaired."""


@dataclass
class Home:
    """An agent whose tunnel leads to the laptop, and a namespace that has it."""

    agent: Agent
    tunnel: str
    interface: str
    name: str

    @property
    def netns(self) -> Namespace:
        return Namespace(f"wg-{self.name}")

    def exec(self, *command: str, **more: object) -> subprocess.CompletedProcess[str]:
        return self.agent.cli("namespace", "exec", self.name, "--", *command, **more)

    def status(self) -> dict[str, object]:
        found: dict[str, object] = self.agent.call("namespace.status", name=self.name)
        return found

    def inside(self) -> tuple[bool, set[str], set[str]]:
        """What is of links, addresses and routes in there."""
        lo = self.netns.link("lo") or {"flags": ()}
        routes = self.netns.routes(self.interface, table="main")
        return "UP" in lo["flags"], self.netns.addresses(self.interface), routes

    def reaches_site(self) -> bool:
        with Pinger(self.netns, SITE, per_second=50):  # waits for the first answer
            return True


@pytest.fixture(scope="module")
def agent(lab: Lab) -> Iterator[Agent]:
    agent = lab.agent(own_mounts=False).start()
    yield agent
    if agent.process and agent.process.poll() is not None:
        agent.start()
    agent.end()
    assert not [name for name in os.listdir("/run/netns") if name.startswith("wg-") and _marked(name)]


def _marked(name: str) -> bool:
    return str(os.getpid()) in name


@pytest.fixture(scope="module")
def far_end(lab: Lab, agent: Agent, engine: str) -> Iterator[dict[str, str]]:
    """A tunnel to the laptop, through which everything is routed."""
    private, public = key_pair()
    made = agent.make_tunnel(addresses=["10.97.0.1/24", "fd97::1/64"], activate=False)
    lab.laptop.ip(f"address add {SITE}/32 dev lo", f"address add {SITE6}/128 dev lo")
    config = (
        f"[Interface]\nPrivateKey = {private}\nListenPort = 4500\nAddress = {FAR}/24, {FAR6}/64\n\n"
        f"[Peer]\nPublicKey = {made['public_key']}\nAllowedIPs = 10.97.0.0/24, fd97::/64\n"
    )
    with plain_peer(lab.laptop, config, engine):
        agent.call(
            "peer.add", tunnel=made["name"], name="site", public_key=public, endpoint="192.0.2.2:4500",
            addresses=[f"{FAR}/32", f"{FAR6}/128"], routes=["0.0.0.0/0", "::/0"], preshared_key="none",
            keepalive=1,
        )  # fmt: skip
        yield made


@pytest.fixture
def home(agent: Agent, far_end: dict[str, str]) -> Iterator[Home]:
    """The namespace is made while its tunnel is down, as the host is not to use it in between."""
    home = Home(agent, far_end["name"], far_end["interface"], new_name("ns"))
    agent.call("namespace.create", name=home.name, tunnel=home.tunnel, kind="netns", dns=[FAR])
    agent.call("tunnel.activate", name=home.tunnel)
    yield home
    if agent.process and agent.process.poll() is not None:
        agent.start()
    agent.call("tunnel.deactivate", name=home.tunnel)
    wait_until(lambda: not home.netns.pids(), what="end of the programs")
    with contextlib.suppress(Refused):
        agent.call("namespace.delete", name=home.name)


# -- what a program there has --


def test_programs_inside_reach_the_world_through_the_tunnel_and_the_host_does_not(
    home: Home, lab: Lab
) -> None:
    for address in (SITE, SITE6):
        with Pinger(home.netns, address, per_second=50) as ping:
            pass
        assert ping.lost == 0
    assert lab.server.link(home.interface) is None
    shown = home.netns.link(home.interface)
    assert shown
    assert shown["ifalias"] == f"resource-wireguard:{home.tunnel}"
    assert home.netns.routes(home.interface, table="main") >= {"default"}
    assert "resource-wireguard" not in lab.server.nft("list", "ruleset")
    assert not [rule for rule in lab.server.ip_json("rule show") if rule.get("protocol") == "157"]
    assert home.agent.settled()
    status = home.status()
    assert (status["state"], status["network"]) == ("up", f"wg-{home.name}")
    assert status["netns"] == {
        "interface": home.interface, "dns": [FAR], "processes": [],
        "reaches": sorted(["0.0.0.0/0", "::/0", f"{FAR}/32", f"{FAR6}/128"]),
    }  # fmt: skip
    (tunnel,) = [one for one in home.agent.call("tunnel.list") if one["name"] == home.tunnel]
    assert (tunnel["state"], tunnel["netns"]) == ("up", f"wg-{home.name}")


def test_exec_runs_a_program_as_the_calling_user_with_nothing_left_of_root(home: Home) -> None:
    script = (
        "id -u; id -G; pwd; echo $HOME $USER; grep -E 'Cap(Inh|Prm|Eff|Amb)|SigIgn' /proc/self/status; exit 7"
    )
    done = home.exec("sh", "-c", script, env={"SUDO_UID": str(NOBODY), "SUDO_GID": "0"}, cwd="/")
    assert done.returncode == 7, done.stderr
    uid, groups, folder, user, *status = done.stdout.splitlines()
    assert (uid, groups, folder) == (str(NOBODY), str(NOBODY), "/")
    assert user == "/nonexistent nobody"
    assert len(status) == 5
    ignored, *capabilities = (int(line.split()[1], 16) for line in status)
    assert not any(capabilities)
    assert not ignored >> (signal.SIGPIPE - 1) & 1


def test_a_program_is_the_process_that_was_started_and_gets_its_signals(home: Home) -> None:
    argv = [*home.agent.program(), "namespace", "exec", home.name, "--", "sleep", "60"]
    with subprocess.Popen(argv, env=home.agent.environment()) as program:
        wait_until(lambda: program.pid in home.netns.pids(), what="the program inside")
        wait_until(lambda: home.status()["netns"]["processes"], what="status naming it")  # type: ignore[index]
        assert home.status()["netns"]["processes"] == [{"pid": program.pid, "command": "sleep"}]  # type: ignore[index]
        with pytest.raises(Refused) as refused:
            home.agent.call("namespace.delete", name=home.name)
        assert refused.value.message == f"processes run in namespace '{home.name}': {program.pid} (sleep)"
        program.send_signal(signal.SIGTERM)
        assert program.wait(PATIENCE) == -signal.SIGTERM


def test_names_are_asked_through_the_tunnel_and_no_resolver_of_the_host_is_in_reach(
    home: Home, lab: Lab
) -> None:
    folder = Path("/run/nscd")
    made = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        with dns_server(lab.laptop, FAR, "192.0.2.77") as asked:
            (folder / "marker").touch()
            look = "cat /etc/resolv.conf; ls -A /run/nscd; grep ^hosts /etc/nsswitch.conf"
            shown = home.exec("sh", "-c", f"{look}; getent ahostsv4 name.test").stdout
    finally:
        (folder / "marker").unlink()
        if made:
            folder.rmdir()
    assert f"nameserver {FAR}\n" in shown
    assert "marker" not in shown
    assert "192.0.2.77" in shown
    assert asked
    assert "hosts: files dns\n" in shown or "hosts" not in shown
    assert FAR not in Path("/etc/resolv.conf").read_text()


STUB_RESOLVER = f"""
mount -t tmpfs none /mnt && mkdir /mnt/netns /mnt/upper /mnt/work
mount --rbind /run/netns /mnt/netns && mount -t tmpfs none /run
mkdir -p /run/netns /run/systemd/resolve /run/dbus
mount --rbind /mnt/netns /run/netns
mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work none /etc
echo nameserver 127.0.0.53 >/run/systemd/resolve/stub-resolv.conf
ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
echo 'hosts: mymachines resolve [!UNAVAIL=return] files myhostname dns' >/etc/nsswitch.conf
touch /run/systemd/resolve/io.systemd.Resolve /run/dbus/system_bus_socket
exec {sys.executable} -c "
import os, sys
from resource_wireguard.system.entering import enter
enter(sys.argv[1], 'nameserver 10.9.9.9\\n')
os.execlp('sh', 'sh', '-c', 'cat /etc/resolv.conf /etc/nsswitch.conf; ls -A /run/systemd/resolve /run/dbus')
" $0
"""
"""A host whose names systemd-resolved looks up, in mounts of its own; then a program in a namespace."""


@pytest.mark.any_engine
def test_a_host_with_systemd_resolved_hides_it_and_gets_its_file_back(home: Home) -> None:
    done = run(
        "unshare", "--mount", "bash", "-ec", STUB_RESOLVER, f"wg-{home.name}", env=home.agent.environment()
    )
    assert done.stdout.split() == [
        *("nameserver", "10.9.9.9"), *("hosts:", "files", "dns"),
        *("/run/dbus:", "/run/systemd/resolve:", "stub-resolv.conf"),
    ]  # fmt: skip


def test_sysfs_and_cgroups_inside_are_those_of_the_namespace(home: Home) -> None:
    shown = home.exec("sh", "-c", "ls /sys/class/net; mount | grep -c ' /sys '").stdout.split()
    assert set(shown[:-1]) == {"lo", home.interface}


@contextlib.contextmanager
def dns_server(namespace: Namespace, address: str, answer: str) -> Iterator[list[bytes]]:
    """Answers all questions for A records alike, and keeps them."""
    server = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))
    asked: list[bytes] = []
    stop_read, stop_write = os.pipe()

    def serve() -> None:
        while stop_read not in select.select([server, stop_read], [], [])[0]:
            query, sender = server.recvfrom(512)
            asked.append(query)
            question = query[12:]
            end = question.index(b"\0") + 5
            record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(answer)
            is_a = question[end - 4 : end - 2] == b"\0\1"
            head = query[:2] + b"\x81\x80\0\1" + struct.pack("!HHH", is_a, 0, 0)
            server.sendto(head + question[:end] + (record if is_a else b""), sender)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        os.write(stop_write, b".")
        thread.join()
        for descriptor in (stop_read, stop_write):
            os.close(descriptor)
        server.close()


# -- nothing else gets out --


@dataclass
class Chatter:
    """Sends UDP, DNS, TCP and ICMP, v4 and v6, from a namespace to all addresses outside, all the time."""

    namespace: Namespace
    sent: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Chatter":
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _talk(self) -> None:
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        udp = {v: self.namespace.socket(f, socket.SOCK_DGRAM) for v, f in families.items()}
        icmp = {
            v: self.namespace.socket(families[v], socket.SOCK_RAW, protocol)
            for v, protocol in ((4, socket.IPPROTO_ICMP), (6, socket.IPPROTO_ICMPV6))
        }
        echo = {4: b"\x08\0\xf7\xff" + bytes(4), 6: b"\x80\0\0\0" + bytes(4)}
        while not self._stopped.wait(0.02):
            for address in OUTSIDE:
                version = 6 if ":" in address else 4
                for send in (
                    lambda v=version, a=address: udp[v].sendto(b"x" * 2000, (a, 9)),  # two fragments
                    lambda v=version, a=address: udp[v].sendto(b"x", (a, 53)),
                    lambda v=version, a=address: icmp[v].sendto(echo[v], (a, 0)),
                    lambda v=version, a=address: self._connect(families[v], a),
                ):
                    with contextlib.suppress(OSError):
                        send()
                        self.sent += 1
        for one in (*udp.values(), *icmp.values()):
            one.close()

    def _connect(self, family: int, address: str) -> None:
        with self.namespace.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            connection.connect((address, 80))


LEAKED = "(ip or ip6) and not (udp port 4500) and not (icmp6 and ip6[40] >= 133 and ip6[40] <= 136)"
"""All that is neither WireGuard's nor a neighbour's call."""


@contextlib.contextmanager
def leaks(lab: Lab) -> Iterator[list[str]]:
    """Packets on both uplinks of the server that nobody but a leak can have sent."""
    found: list[str] = []
    with lab.server.capture("eth0", LEAKED) as first, lab.server.capture("eth1", LEAKED) as second:
        yield found
    found += [line for line in (*first, *second) if "MLD" not in line and "multicast" not in line]


def test_the_counter_of_leaks_counts(lab: Lab, home: Home) -> None:
    with leaks(lab) as found, Chatter(lab.server) as chatter:
        wait_until(lambda: chatter.sent > 50, what="packets from the host itself")
    assert len(found) > 20


def end_engine(home: Home, lab: Lab, engine: str) -> None:
    """SIGKILL the process behind the device; the kernel's own has none: there the link is deleted."""
    if engine == "kernel":
        home.netns.ip(f"link delete {home.interface}")
        return
    (pid,) = [
        pid
        for pid in lab.server.pids()
        if home.interface in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    ]
    os.kill(pid, signal.SIGKILL)


def test_no_packet_leaves_another_way_whatever_dies(home: Home, lab: Lab, engine: str) -> None:
    agent = home.agent

    def reached() -> bool:  # a pinger would hear the answers to all that chatter, too
        return home.netns.ping(SITE)

    with leaks(lab) as found, Chatter(home.netns) as chatter:
        wait_until(reached, what="the site through the tunnel")
        agent.call("tunnel.deactivate", name=home.tunnel)
        wait_until(lambda: not home.netns.link(home.interface), what="the closed namespace")
        agent.call("tunnel.activate", name=home.tunnel)
        wait_until(reached, what="the site through the tunnel")
        agent.kill()
        end_engine(home, lab, engine)
        wait_until(lambda: not home.netns.link(home.interface), what="the end of the device")
        agent.start()
        wait_until(reached, what="the site through the tunnel")
        end_engine(home, lab, engine)  # under the eyes of an agent, which hears of it
        wait_until(reached, what="the site through the tunnel")
        assert agent.settled()
        before = chatter.sent
        wait_until(lambda: chatter.sent > before, what="more packets")
    assert found == []


def test_an_agent_that_is_killed_and_started_again_loses_no_packet(home: Home) -> None:
    with Pinger(home.netns, SITE, per_second=100) as ping:
        home.agent.kill()
        home.agent.start()
        assert home.agent.settled()
    assert len(ping.sent) > 20
    assert ping.lost == 0


# -- repair --


def test_a_name_that_is_taken_away_is_given_back_with_all_that_is_inside(home: Home) -> None:
    inode = os.stat(f"/run/netns/wg-{home.name}").st_ino
    with Pinger(home.netns, SITE, per_second=100) as ping:
        run("ip", "netns", "delete", f"wg-{home.name}")
        wait_until(lambda: Path(f"/run/netns/wg-{home.name}").exists(), what="the name")
        wait_until(home.agent.settled)
    assert ping.lost == 0
    assert os.stat(f"/run/netns/wg-{home.name}").st_ino == inode


def test_what_is_changed_inside_is_repaired_within_a_second(home: Home) -> None:
    """Again and again: what was done for the fixture may wake the agent, but not for ever."""
    before = home.inside()
    for _ in range(8):
        wait_until(home.agent.settled, what="an agent at rest")
        home.netns.ip(
            "link set lo down", f"address delete 10.97.0.1/24 dev {home.interface}", "route flush table main"
        )
        wait_until(lambda: home.inside() == before, WITHIN, "all as it was, though nobody outside was told")
    home.reaches_site()


def test_programs_get_their_tunnel_back_after_the_service_was_stopped_and_started(home: Home) -> None:
    argv = [*home.agent.program(), "namespace", "exec", home.name, "--", "sleep", "60"]
    with subprocess.Popen(argv, env=home.agent.environment()) as program:
        wait_until(lambda: program.pid in home.netns.pids(), what="the program inside")
        inode = os.stat(f"/proc/{program.pid}/ns/net").st_ino
        assert home.agent.call("agent.stop")["stopped"]
        assert home.agent.process
        home.agent.process.wait(PATIENCE)
        assert not Path(f"/run/netns/wg-{home.name}").exists()
        home.agent.start()
        assert os.stat(f"/run/netns/wg-{home.name}").st_ino == inode
        home.reaches_site()
        program.kill()


# -- the life of a namespace --


def test_one_without_a_tunnel_has_its_loopback_and_nothing_else(agent: Agent, lab: Lab) -> None:
    name = new_name("ns")
    made = agent.call("namespace.create", name=name, kind="netns")
    assert (made["state"], made["netns"]["interface"]) == ("isolated", None)
    with leaks(lab) as found, Chatter(Namespace(f"wg-{name}")):
        time.sleep(0.3)  # as long as it likes: nothing is to be awaited
    assert found == []
    agent.call("namespace.delete", name=name)
    assert not Path(f"/run/netns/wg-{name}").exists()


def test_two_agents_on_one_machine_leave_each_others_namespaces_alone(home: Home, lab: Lab) -> None:
    other = lab.agent(lab.internet, own_mounts=False).start()
    try:
        assert other.settled()
        with pytest.raises(Refused) as refused:
            other.call("namespace.create", name=home.name, kind="netns")
        assert "exists and is not ours" in refused.value.message
    finally:
        other.end()
    assert home.reaches_site()


def test_a_foreign_network_namespace_is_never_touched(agent: Agent) -> None:
    name = new_name("ns")
    run("ip", "netns", "add", f"wg-{name}")
    try:
        inode = os.stat(f"/run/netns/wg-{name}").st_ino
        with pytest.raises(Refused) as refused:
            agent.call("namespace.create", name=name, kind="netns")
        assert refused.value.message == f"network namespace wg-{name} exists and is not ours"
        assert refused.value.hint == f"choose another name, or remove it: ip netns delete wg-{name}"
        assert name not in [one["name"] for one in agent.call("namespace.list")]
        assert os.stat(f"/run/netns/wg-{name}").st_ino == inode
        assert agent.settled()
    finally:
        run("ip", "netns", "delete", f"wg-{name}")


@pytest.mark.any_engine
def test_bad_input_is_refused_with_one_line_and_a_hint(home: Home) -> None:
    def refusal(*words: str, **more: object) -> tuple[int, list[str]]:
        done = home.agent.cli("namespace", *words, **more)
        assert done.stdout == ""
        return done.returncode, done.stderr.strip().splitlines()

    code, lines = refusal("exec", "nosuch", "--", "true")
    assert (code, lines[0]) == (2, "error: no namespace named 'nosuch'")
    code, lines = refusal("exec", home.name, "--", "/no/such/program")
    assert (code, lines) == (1, ["error: /no/such/program cannot be started: No such file or directory"])
    code, lines = refusal("exec", home.name, "--", "true", env={"SUDO_UID": "4000000"})
    assert (code, lines[0]) == (2, "error: SUDO_UID 4000000 is no user of this host")
    code, lines = refusal("create", new_name("ns"), "--netns", "--dns", "resolver")
    assert (code, lines[0]) == (1, "error: DNS server 'resolver' is not an address")
    code, lines = refusal("create", new_name("ns"), home.tunnel, "--netns")
    assert code == 1
    assert "both want tunnel" in lines[0]
    code, lines = refusal("delete", home.name, "--force")
    assert code == 1
    assert "would carry all traffic of this host" in lines[0]
    assert lines[1] == f"hint: take it down first: resource-wireguard content deactivate {home.tunnel}"


@pytest.mark.any_engine
def test_an_agent_with_mounts_of_its_own_makes_none(lab: Lab) -> None:
    agent = lab.agent(lab.laptop).start()
    try:
        done = agent.cli("namespace", "create", new_name("ns"), "--netns")
        assert done.returncode == 1
        assert done.stderr.startswith("error: the agent has mounts of its own")
        assert agent.call("namespace.list") == []
    finally:
        agent.end()


@pytest.mark.any_engine
def test_an_agent_that_may_not_make_namespaces_says_so_at_once(lab: Lab) -> None:
    agent = lab.agent(lab.laptop, own_mounts=False, unprivileged=True).start()
    try:
        done = agent.cli("namespace", "create", new_name("ns"), "--netns")
        assert done.returncode == 1
        assert done.stderr.splitlines()[0] == "error: the agent may not make network namespaces here"
        assert "manage install --allow-netns" in done.stderr
        assert agent.call("namespace.list") == []
        assert agent.settled()
    finally:
        agent.end()
