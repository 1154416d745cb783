"""A small network of namespaces with a real agent in it, for tests that look at the kernel.

        laptop                        server                          internet
    ┌───────────────┐        ┌──────────────────────────┐        ┌──────────────────┐
    │ eth0          ├────────┤ eth0                eth1 ├────────┤ eth0             │
    │ 192.0.2.2     │  veth  │ 192.0.2.1   198.51.100.1 │  veth  │ 198.51.100.9     │
    │ 2001:db8:1::2 │        │ …:1::1     2001:db8:2::1 │        │ 2001:db8:2::9    │
    └───────────────┘        └──────────────────────────┘        └──────────────────┘
      plain wg-quick            the agent, as root, with            knows no way back to
      and the like              its own CONFIG_DIR                  laptop or to any tunnel

The server is laptop's gateway. A packet that comes back from internet has therefore been masqueraded.
Namespaces carry the pid of the test process in their names, and so do tunnels: the UAPI sockets of userspace
engines lie in one folder for all namespaces. Everything that was started is ended by its own pid.
"""

import contextlib
import ctypes
import itertools
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0  # seconds: for what must happen, but has no promised time
CPUS = os.cpu_count() or 1
SLOWNESS = 4 if CPUS == 1 else 2 if os.getloadavg()[0] > CPUS else 1
"""Promised times are for a machine with time to spare. User Mode Linux has one slow CPU, and needs 50 to
100 ms to start a process; on a machine that others keep busy everything waits its turn."""

_numbers = itertools.count(1)
_names_given: set[str] = set()
T = TypeVar("T")


# -- running things --


def run(
    *argv: str, stdin: str | None = None, check: bool = True, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end; where it fails, pytest shows the command and all it said."""
    done = subprocess.run(
        argv,
        input=stdin,
        stdin=None if stdin else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        **more,
    )
    if check and done.returncode:
        raise AssertionError(f"$ {' '.join(argv)}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def wait_until(condition: Callable[[], T], within: float = PATIENCE, what: str = "") -> T:
    """Poll until the condition holds and return what it returned; AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        if held := condition():
            return held
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what or condition.__name__}")
        time.sleep(0.01)


def new_name(word: str = "t") -> str:
    """A tunnel name that nobody else on this machine has; its interface is 'wg-' and the name."""
    name = f"{word}{_short(os.getpid())}n{_short(next(_numbers))}"
    assert len(name) <= 12, f"{name}: the kernel takes 15 characters, and a second device adds one"
    _names_given.add(name)
    return name


def _short(number: int) -> str:
    """With 36 digits."""
    rest, digit = divmod(number, 36)
    return (_short(rest) if rest else "") + "0123456789abcdefghijklmnopqrstuvwxyz"[digit]


def key_pair() -> tuple[str, str]:
    """A private and a public key, made without starting a process."""
    from base64 import b64encode

    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    private = X25519PrivateKey.generate()
    return (
        b64encode(private.private_bytes_raw()).decode(),
        b64encode(private.public_key().public_bytes_raw()).decode(),
    )


# -- namespaces --


@dataclass(frozen=True)
class Namespace:
    """One host of the drawing; its methods are the independent tools that tests look with."""

    name: str

    def exec(self, *argv: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a tool inside."""
        return run("ip", "netns", "exec", self.name, *argv, **more)

    def ip(self, *commands: str) -> None:
        """Run ip(8) commands in one process: ip('link set eth0 up', 'addr add …')."""
        run("ip", "-n", self.name, "-batch", "-", stdin="\n".join(commands))

    def ip_json(self, command: str) -> list[dict[str, Any]]:
        """What ip(8) shows, decoded; an empty list for what does not exist."""
        done = run("ip", "-n", self.name, "-details", "-json", *command.split(), check=False)
        return [entry for entry in json.loads(done.stdout or "[]") if entry]

    def link(self, name: str) -> dict[str, Any] | None:
        """One link as ip(8) shows it."""
        found = self.ip_json(f"address show dev {name}")
        return found[0] if found else None

    def addresses(self, link: str) -> set[str]:
        """'10.0.0.1/24' and so on, without link-local ones."""
        shown = self.link(link) or {"addr_info": []}
        return {f"{a['local']}/{a['prefixlen']}" for a in shown["addr_info"] if a["scope"] != "link"}

    def routes(self, link: str, *, table: str = "all") -> set[str]:
        """Prefixes routed to a link, by whomever; without local and multicast ones."""
        shown = [
            route
            for family in ("-4", "-6")
            for route in self.ip_json(f"{family} route show table {table} dev {link}")
            if route.get("type") == "unicast"
        ]
        return {route["dst"] for route in shown}

    def wg(self, interface: str) -> "Device":
        """A device as wg(8) dumps it."""
        return Device.parse(self.exec("wg", "show", interface, "dump").stdout)

    def nft(self, *words: str, check: bool = True) -> str:
        """What nft(8) prints."""
        return self.exec("nft", *words, check=check).stdout

    def pids(self) -> list[int]:
        """The processes inside."""
        return [int(word) for word in run("ip", "netns", "pids", self.name, check=False).stdout.split()]

    def ping(self, address: str, *, count: int = 1, size: int = 56) -> bool:
        """Whether ping(8) gets an answer within a few seconds, fragments forbidden."""
        argv = ("ping", "-n", "-c", str(count), "-i", "0.2", "-W", "3", "-M", "do", "-s", str(size), address)
        return self.exec(*argv, check=False).returncode == 0

    @contextlib.contextmanager
    def capture(self, link: str, expression: str) -> Iterator[list[str]]:
        """The lines tcpdump(8) prints while the block runs."""
        lines: list[str] = []
        argv = [
            "ip",
            "netns",
            "exec",
            self.name,
            "tcpdump",
            "--immediate-mode",
            "-l",
            "-n",
            "-i",
            link,
            *expression.split(),
        ]
        dump = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert dump.stdout and dump.stderr
        while "listening on" not in (line := dump.stderr.readline()):
            assert line, "tcpdump did not start"
        try:
            yield lines
        finally:
            dump.send_signal(signal.SIGINT)
            lines.extend(filter(None, dump.communicate(timeout=PATIENCE)[0].splitlines()))

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that belongs to this namespace, whoever uses it later (network_namespaces(7))."""
        return in_namespace(self.name, lambda: socket.socket(family, kind, protocol))


def in_namespace(name: str, work: Callable[[], T]) -> T:
    """Do some work in a thread that has entered a namespace: what setns(2) changes is the thread's alone."""
    outcome: list[T] = []

    def enter_and_work() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{name}") as namespace:
            assert libc.setns(namespace.fileno(), 0x40000000) == 0, os.strerror(ctypes.get_errno())
        outcome.append(work())

    thread = threading.Thread(target=enter_and_work)
    thread.start()
    thread.join()
    return outcome[0]


@dataclass(frozen=True)
class PlainPeer:
    """One line of wg(8)'s dump."""

    public_key: str
    preshared_key: str | None
    endpoint: str | None
    allowed_ips: frozenset[str]
    latest_handshake: int
    keepalive: int


@dataclass(frozen=True)
class Device:
    """A device as wg(8) dumps it."""

    private_key: str
    public_key: str
    listen_port: int
    fwmark: int
    peers: Mapping[str, PlainPeer]

    @classmethod
    def parse(cls, dump: str) -> "Device":
        """From 'wg show IF dump': tab-separated, '(none)' and 'off' for what is not there."""
        first, *rest = (line.split("\t") for line in dump.splitlines())
        peers = [
            PlainPeer(
                public_key,
                None if secret == "(none)" else secret,
                None if endpoint == "(none)" else endpoint,
                frozenset(() if allowed == "(none)" else allowed.split(",")),
                int(handshake),
                0 if keepalive == "off" else int(keepalive),
            )
            for public_key, secret, endpoint, allowed, handshake, _, _, keepalive in rest
        ]
        mark = 0 if first[3] == "off" else int(first[3], 16)
        return cls(first[0], first[1], int(first[2]), mark, {peer.public_key: peer for peer in peers})


Picture = dict[str, Any]


def picture(namespace: Namespace, interface: str) -> Picture:
    """All that lies on an interface, and our rules and tables, as four tools show it; for comparing."""
    shown = _ip_batch(namespace, "-4", f"address show dev {interface}", "route show table all", "rule show")
    shown += _ip_batch(namespace, "-6", "route show table all", "rule show")
    links, routes, rules, routes6, rules6 = shown if len(shown) == 5 else ([], *shown)
    device = namespace.exec("wg", "show", interface, "dump", check=False).stdout
    link = links[0] if links else {}
    return {
        "link": {name: link.get(name) for name in ("mtu", "flags", "ifalias", "link_type")},
        "addresses": {
            f"{a['local']}/{a['prefixlen']}" for a in link.get("addr_info", ()) if a["scope"] != "link"
        },
        "routes": {
            (route["dst"], str(route.get("table")), route.get("type"), route.get("metric"))
            for route in routes + routes6
            if route.get("dev") == interface or route.get("protocol") == "157"
            if not route["dst"].startswith(("fe80", "ff00"))
        },
        "rules": {json.dumps(rule, sort_keys=True) for rule in rules + rules6},
        "nft": namespace.nft("list", "table", "inet", "resource-wireguard", check=False),
        "device": Device.parse(device) if device else None,
        "forwarding": sysctl(namespace, "net/ipv4/ip_forward"),
    }


def panorama(namespace: Namespace, interfaces: Sequence[str]) -> Picture:
    """All that is in a namespace, foreign objects too, and some devices; with no more than four processes."""
    links, routes, rules = _ip_batch(namespace, "-4", "address show", "route show table all", "rule show")
    links6, routes6, rules6 = _ip_batch(namespace, "-6", "address show", "route show table all", "rule show")
    dump = namespace.exec("wg", "show", "all", "dump", check=False).stdout.splitlines()
    return {
        "links": {(link["ifname"], link["mtu"], *link["flags"], link.get("ifalias")) for link in links},
        "addresses": {
            (link["ifname"], address["local"], address["prefixlen"])
            for link in links + links6
            for address in link.get("addr_info", ())
            if address["scope"] != "link"
        },
        "routes": {
            (
                route["dst"],
                route.get("dev"),
                str(route.get("table")),
                route.get("type"),
                route.get("protocol"),
            )
            for route in routes + routes6
            if not route["dst"].startswith(("fe80", "ff00"))
        },
        "rules": {json.dumps(rule, sort_keys=True) for rule in rules + rules6},
        "nft": namespace.nft("list", "ruleset"),
        "devices": {
            name: Device.parse(
                "\n".join(line.partition("\t")[2] for line in dump if line.startswith(f"{name}\t"))
            )
            for name in interfaces
            if any(line.startswith(f"{name}\t") for line in dump)
        },
    }


def _ip_batch(namespace: Namespace, family: str, *commands: str) -> list[list[dict[str, Any]]]:
    argv = ("ip", "-n", namespace.name, family, "-details", "-json", "-force", "-batch", "-")
    text, found = run(*argv, stdin="\n".join(commands), check=False).stdout.strip(), []
    while text:
        entries, end = json.JSONDecoder().raw_decode(text)
        found.append([entry for entry in entries if entry])
        text = text[end:].strip()
    return found


def sysctl(namespace: Namespace, path: str) -> str:
    """A value under /proc/sys, which shows each thread that of its own namespace."""
    return in_namespace(namespace.name, lambda: Path("/proc/sys", path).read_text().strip())


# -- pinging without processes --


class Pinger:
    """Sends echo requests at a steady rate from a thread and keeps the books; ping(8) for slow machines."""

    def __init__(self, namespace: Namespace, address: str, per_second: int) -> None:
        v6 = ":" in address
        family = socket.AF_INET6 if v6 else socket.AF_INET
        protocol = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
        self._socket = namespace.socket(family, socket.SOCK_RAW, protocol)
        self._socket.settimeout(0.5)
        self._request, self._reply, self._skip = (128, 129, 0) if v6 else (8, 0, 20)
        self._address, self._pause = address, 1 / per_second
        self._identity = next(_numbers) & 0xFFFF
        self._stopped = threading.Event()
        self.sent: dict[int, float] = {}
        self.answered: dict[int, float] = {}
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive)]

    @property
    def lost(self) -> int:
        """Requests without an answer."""
        return len(self.sent) - len(self.answered)

    def answers_since(self, moment: float) -> bool:
        """Whether a request sent after a moment (time.monotonic) was answered."""
        return any(self.sent[number] > moment for number in list(self.answered))

    def longest_silence(self) -> float:
        """Seconds between two answers that follow each other."""
        times = sorted(self.answered.values())
        return max((b - a for a, b in itertools.pairwise(times)), default=float("inf"))

    def __enter__(self) -> "Pinger":
        for thread in self._threads:
            thread.start()
        try:
            wait_until(lambda: self.answered or not self._pause, what=f"first answer from {self._address}")
        except AssertionError:
            self.__exit__()  # threads that nobody ends would keep the tests from ending
            raise
        return self

    def stop(self) -> None:
        """Send no more; the answers on their way are waited for at the end."""
        self._stopped.set()

    def __exit__(self, *_: object) -> None:
        self.stop()
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def _send(self) -> None:
        due = time.monotonic()
        for number in itertools.count(1):
            if self._stopped.wait(max(0.0, due - time.monotonic())):
                return
            self.sent[number] = time.monotonic()
            with contextlib.suppress(OSError):  # no route for now: a lost ping like any other
                self._socket.sendto(self._packet(number), (self._address, 0))
            due += self._pause

    def _receive(self) -> None:
        quiet = 0
        while quiet < 2:  # after the last request: up to a second for the last answers
            try:
                packet = self._socket.recv(2048)[self._skip :]
            except TimeoutError:
                quiet += self._stopped.is_set()
                continue
            kind, _, _, identity, sequence = struct.unpack("!BBHHH", packet[:8])
            if kind == self._reply and identity == self._identity:
                self.answered[sequence] = time.monotonic()
            if self._stopped.is_set() and len(self.answered) == len(self.sent):
                return

    def _packet(self, number: int) -> bytes:
        head = struct.pack("!BBHHH", self._request, 0, 0, self._identity, number)
        body = head + bytes(56)
        total = sum(struct.unpack(f"!{len(body) // 2}H", body))
        total = (total & 0xFFFF) + (total >> 16)
        checksum = ~(total + (total >> 16)) & 0xFFFF  # RFC 1071; for v6 the kernel computes its own
        return struct.pack("!BBHHH", self._request, 0, checksum, self._identity, number) + bytes(56)


# -- the agent --


class Refused(Exception):
    """The agent's answer was an error."""

    def __init__(self, kind: str, message: str, hint: str, exit_code: int) -> None:
        super().__init__(f"{kind}: {message} ({hint})")
        self.kind, self.message, self.hint, self.exit_code = kind, message, hint, exit_code


def engine_setting(engine: str) -> str:
    """WIREGUARD_ENGINE for an engine of the lane."""
    return "kernel" if engine == "kernel" else str(shutil.which("wireguard-go"))


UNIT = ("net_admin", "net_raw", "net_bind_service")
UNIT_ALLOW_NETNS = (*UNIT, "sys_admin", "sys_ptrace")
"""The capabilities of the systemd unit, and of the one that 'manage install --allow-netns' writes."""


@dataclass
class Agent:
    """A real agent in a namespace: python -m resource_wireguard agent, with a CONFIG_DIR of its own."""

    namespace: Namespace
    config_dir: Path
    engine: str
    source: Path = CHECKOUT / "src"
    settings: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    commands: Path | None = None
    """Where an installed product's command lies; None runs the source."""
    capabilities: Sequence[str] | None = None
    """Those that it may have, such as UNIT; None: all of root's."""
    own_mounts: bool = True
    """ip-netns(8) gives a program mounts of its own; without them, what it mounts all of the host sees."""

    @property
    def socket_path(self) -> Path:
        return self.config_dir / "run" / "agent.sock"

    @property
    def log(self) -> str:
        """All that it wrote on stderr, over all its lives."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def log_path(self) -> Path:
        """Beside CONFIG_DIR, as tests fill and spoil that."""
        return Path(f"{self.config_dir}.log")

    def environment(self) -> dict[str, str]:
        """The environment of agent and CLI: nothing of the caller's but what Python and tools need."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.config_dir),
            "LANG": "C.UTF-8",
            **({} if self.commands else {"PYTHONPATH": str(self.source)}),
            "PYTHONDONTWRITEBYTECODE": "1",
            "CONFIG_DIR": str(self.config_dir),
            "WIREGUARD_ENGINE": engine_setting(self.engine),
            **self.settings,
        }

    def start(self, commands: Path | None = None) -> "Agent":
        """Start it, of an installed product if one is given, and wait until it answers."""
        self.commands = commands or self.commands
        self.spawn()
        wait_until(self._answers, what="the agent's socket")
        return self

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it without waiting."""
        self.config_dir.mkdir(mode=0o700, exist_ok=True)
        name = self.namespace.name
        enter = ["ip", "netns", "exec", name] if self.own_mounts else ["nsenter", f"--net=/run/netns/{name}"]
        bounds = ",".join(("-all", *(f"+{name}" for name in self.capabilities or ())))
        bounded = ["setpriv", "--bounding-set", bounds] if self.capabilities is not None else []
        argv = [*enter, *bounded, *self.program(), "agent"]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                start_new_session=True,
            )
        return self.process

    def _answers(self) -> bool:
        assert self.process and self.process.poll() is None, f"the agent ended at once:\n{self.log}"
        try:
            return bool(self.call("agent.info"))
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL: the agent alone, not the engines it started."""
        assert self.process
        self.process.kill()  # ip netns exec has become the agent
        self.process.wait(PATIENCE)

    def terminate(self) -> None:
        """SIGTERM, as a supervisor ends it: tunnels stay."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE)

    def end(self) -> None:
        """End it and take down what it made; nothing happens if it does not live."""
        if self.process and self.process.poll() is None:
            self.call("agent.stop")
            self.process.wait(PATIENCE)

    def call(self, command: str, /, **request: Any) -> Any:
        """One request on the socket (docs/bus.md); Refused for an error."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self.socket_path))
            connection.sendall(json.dumps({"command": command, "request": request}).encode() + b"\n")
            answers = [json.loads(line) for line in connection.makefile("rb")]
        if not answers:
            raise ConnectionError(f"no answer to {command}; the agent's log:\n{self.log[-3000:]}")
        if "error" in answers[-1]:
            raise Refused(**answers[-1]["error"])
        return answers[-1]["result"]

    def cli(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """The real command line; it needs no namespace, as it only knows the socket."""
        environment = {**self.environment(), **more.pop("env", {})}
        return run(*self.program(), *words, check=False, env=environment, **more)

    def program(self) -> list[str]:
        """How to start agent and command line."""
        if self.commands:
            return [str(self.commands / "resource-wireguard")]
        return [sys.executable, "-m", "resource_wireguard"]

    def make_tunnel(self, **request: Any) -> dict[str, Any]:
        """tunnel.create under a fresh name."""
        return self.call("tunnel.create", **{"name": new_name(), **request})

    def settled(self) -> bool:
        """Whether nothing is left to be done."""
        plan = self.call("plan")
        return not plan["actions"] and not plan["problems"]


# -- the lab --


class Lab:
    """The drawing above, made real; everything in it is unmade by close()."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.folder = Path(tempfile.mkdtemp(prefix="rwt", dir="/tmp"))
        self._exits = contextlib.ExitStack()
        self._exits.callback(shutil.rmtree, self.folder, ignore_errors=True)
        try:
            self.laptop, self.server, self.internet = map(self.namespace, ("laptop", "server", "internet"))
            self._wire()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End and remove everything, whatever state it is in."""
        self._exits.close()

    def namespace(self, role: str) -> Namespace:
        """A fresh namespace with its loopback up."""
        namespace = Namespace(f"rwt{os.getpid()}-{next(_numbers)}-{role}")
        run("ip", "netns", "add", namespace.name)
        self._exits.callback(_remove_namespace, namespace)
        namespace.ip("link set lo up")
        return namespace

    def agent(self, namespace: Namespace | None = None, **more: Any) -> Agent:
        """An agent with a CONFIG_DIR of its own, not started yet."""
        folder = self.folder / f"config{next(_numbers)}"
        agent = Agent(namespace or self.server, folder, self.engine, **more)
        self._exits.callback(agent.terminate)
        return agent

    @contextlib.contextmanager
    def own_agent(self) -> Iterator[Agent]:
        """An agent for one test, which may do with it what it likes; all that it made is gone at the end."""
        agent = self.agent().start()
        yield agent
        if agent.process is None or agent.process.poll() is not None:
            agent.start()
        agent.end()

    @contextlib.contextmanager
    def hosts_file(self, namespace: Namespace, text: str) -> Iterator[Path]:
        """/etc/hosts for what is started in a namespace (ip-netns(8)); writing to it again moves names."""
        folder = Path("/etc/netns") / namespace.name
        folder.mkdir(parents=True)
        hosts = folder / "hosts"
        hosts.write_text(text)
        try:
            yield hosts
        finally:
            shutil.rmtree(folder)

    def _wire(self) -> None:
        self.server.ip(
            f"link add eth0 type veth peer name eth0 netns {self.laptop.name}",
            f"link add eth1 type veth peer name eth0 netns {self.internet.name}",
            *_addressed("eth0", "192.0.2.1/24", "2001:db8:1::1/64"),
            *_addressed("eth1", "198.51.100.1/24", "2001:db8:2::1/64"),
        )
        gateway = ["route add default via 192.0.2.1", "route add default via 2001:db8:1::1"]
        self.laptop.ip(*_addressed("eth0", "192.0.2.2/24", "2001:db8:1::2/64"), *gateway)
        self.internet.ip(*_addressed("eth0", "198.51.100.9/24", "2001:db8:2::9/64"))


def _addressed(link: str, *addresses: str) -> list[str]:
    return [
        f"link set {link} up",
        *(f"address add {a} dev {link}" + " nodad" * (":" in a) for a in addresses),
    ]


def _remove_namespace(namespace: Namespace) -> None:
    for pid in namespace.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not namespace.pids(), what=f"end of the processes in {namespace.name}")
    run("ip", "netns", "delete", namespace.name, check=False)
    for name in _names_given:  # sockets of engines that were killed
        Path(f"/run/wireguard/wg-{name}.sock").unlink(missing_ok=True)


# -- the other end: plain WireGuard --


@contextlib.contextmanager
def plain_peer(namespace: Namespace, config: str, engine: str, *, quick: bool | None = None) -> Iterator[str]:
    """Bring up a wg-quick config with none of our code; the interface's name.

    wg-quick itself starts some twenty processes. On the slow kernel lane, unless a test is about wg-quick,
    wg(8) and ip(8) do the same in three.
    """
    name = f"wg-{new_name('p')}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.conf"
        path.write_text(config)
        path.chmod(0o600)
        if quick if quick is not None else engine == "userspace":
            # A session of its own, as ours has: CPUs are shared out by sessions (sched(7), autogroup).
            namespace.exec("setsid", "--wait", "wg-quick", "up", str(path))
            try:
                yield name
            finally:
                namespace.exec("wg-quick", "down", str(path), check=False)
            return
    _set_by_hand(namespace, name, config, engine)
    try:
        yield name
    finally:
        namespace.ip(f"link delete {name}")


def _set_by_hand(namespace: Namespace, name: str, config: str, engine: str) -> None:
    """The keys come last: wireguard-go shakes hands as soon as it has them, and what comes before the link is
    up is lost."""
    lines = [line.partition(" = ")[::2] for line in config.splitlines() if " = " in line]
    ours = ("Address", "DNS", "MTU", "Table")
    stripped = [line for line in config.splitlines() if line.partition(" = ")[0] not in ours]
    addresses = [a.strip() for key, value in lines if key == "Address" for a in value.split(",")]
    allowed = [a.strip() for key, value in lines if key == "AllowedIPs" for a in value.split(",")]
    routes = [] if ("Table", "off") in lines else [a for a in allowed if a not in ("0.0.0.0/0", "::/0")]
    mtu = next((value for key, value in lines if key == "MTU"), "1420")
    if engine == "userspace":
        namespace.exec("setsid", "--wait", "wireguard-go", name)
    else:
        namespace.ip(f"link add {name} type wireguard")
    namespace.ip(
        f"link set {name} mtu {mtu} up",
        *(f"address add {a} dev {name}" for a in addresses),
        *(f"route replace {a} dev {name}" for a in routes),
    )
    namespace.exec("wg", "setconf", name, "/dev/stdin", stdin="\n".join(stripped))


def lines_of(result: subprocess.CompletedProcess[str]) -> Sequence[str]:
    """What a person saw of an error."""
    return result.stderr.strip().splitlines()
