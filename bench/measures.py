"""One function for each row of the table 'Speed': what is measured, and against what."""

import base64
import contextlib
import itertools
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.netns.harness import Agent, Lab, key_pair, new_name, plain_peer, wait_until

from bench.table import Row

REST = 40.0
"""Seconds of watching an agent at rest: more than the period of its passes."""


class Bench:
    """An installed product, a lab, and tunnels of many sizes that are made once."""

    def __init__(self, lab: Lab, commands: Path, quick: bool) -> None:
        self.lab = lab
        self.quick = quick
        self.agent = Agent(lab.server, lab.folder / "config", lab.engine).start(commands)
        self._tunnels: dict[int, dict] = {}

    def rounds(self, many: int) -> int:
        """How often to measure."""
        return max(1, many // 4) if self.quick else many

    def sizes(self, *all_sizes: int) -> list[int]:
        """Numbers of peers; a quick run leaves the largest out."""
        return [size for size in all_sizes if not self.quick or size <= 1_000]

    def tunnel(self, peers: int) -> dict:
        """A stored tunnel with so many peers, not active."""
        if peers not in self._tunnels:
            text = _config(100 + len(self._tunnels), peers)
            imported = self.agent.call("tunnel.import", name=new_name(), text=text)
            self._tunnels[peers] = imported["tunnel"]
        return self._tunnels[peers]

    @contextlib.contextmanager
    def active(self, peers: int) -> Iterator[dict]:
        """The tunnel with so many peers, active for a while."""
        made = self.agent.call("tunnel.activate", name=self.tunnel(peers)["name"])
        assert made["state"] == "up", made
        yield made
        self.agent.call("tunnel.deactivate", name=made["name"])

    def cli(self, *words: str) -> float:
        """Seconds that a whole command takes."""
        begun = time.perf_counter()
        done = self.agent.cli(*words)
        took = time.perf_counter() - begun
        assert done.returncode == 0, done.stderr
        return took


def _config(net: int, peers: int) -> str:
    """A wg-quick file of one tunnel in 10.<net>.0.0/16; each peer has a preshared key and an address."""
    lines = ["[Interface]", f"PrivateKey = {key_pair()[0]}", f"Address = 10.{net}.0.1/16"]
    for number in range(2, peers + 2):
        lines += [
            "[Peer]",
            f"# peer{number}",
            f"PublicKey = {_random_key()}",
            f"PresharedKey = {_random_key()}",
        ]
        lines.append(f"AllowedIPs = 10.{net}.{number >> 8}.{number & 255}/32")
    return "\n".join(lines)


def _random_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def interleaved(rounds: int, *works: Callable[[], float]) -> list[float]:
    """The median of each of several measurements, taken in turn: A B A B."""
    taken = [[work() for work in works] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*taken, strict=True)]


def activation(bench: Bench) -> Iterator[Row]:
    """Activate a tunnel, as a whole command, against wg-quick up with the same peers and engine."""
    reach = {1: 1.5, 100: 0.4, 1_000: 0.1}
    for peers in bench.sizes(1, 100, 1_000, 10_000):
        made = bench.tunnel(peers)
        work = f"activate a tunnel with {peers:,} peer{'s' if peers > 1 else ''}"
        ours = lambda made=made: _activate(bench, made)  # noqa: E731 (two of a kind)
        if peers not in reach:
            (own,) = interleaved(1, ours)
            yield Row(work, "—", None, own * 1000, None, "ms")
            continue
        config = bench.agent.call("tunnel.config", name=made["name"], show_secrets=True)["config"]
        theirs = lambda config=config: _wg_quick(bench, config)  # noqa: E731
        own, other = interleaved(bench.rounds(3 if peers == 1_000 else 7), ours, theirs)
        yield Row(work, "wg-quick up", reach[peers], own * 1000, other * 1000, "ms")


def _activate(bench: Bench, made: dict) -> float:
    took = bench.cli("content", "execute", made["name"])
    bench.agent.call("tunnel.deactivate", name=made["name"])
    return took


def _wg_quick(bench: Bench, config: str) -> float:
    name = f"wg-{new_name('q')}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.conf"
        path.write_text(config)
        path.chmod(0o600)
        took = seconds(lambda: bench.lab.server.exec("wg-quick", "up", str(path)))
        bench.lab.server.exec("wg-quick", "down", str(path))
    return took


def one_more_peer(bench: Bench) -> Iterator[Row]:
    """Add one peer, as a whole command, to tunnels of several sizes, against the smallest."""
    reach = {1_000: 1.5, 10_000: 3.0}
    numbers = itertools.count()
    sizes = bench.sizes(10, 1_000, 10_000)

    def add(peers: int) -> float:
        """With no other tunnel active, whose peers would be looked at too."""
        name = f"more{next(numbers)}"
        with bench.active(peers) as made:
            took = bench.cli("peer", "add", made["name"], name)
            bench.agent.call("peer.remove", tunnel=made["name"], name=name)
        return took

    works = [lambda peers=peers: add(peers) for peers in sizes]
    medians = dict(zip(sizes, interleaved(bench.rounds(9), *works), strict=True))
    for peers in sizes[1:]:
        work = f"add one peer to {peers:,}"
        yield Row(work, "itself at 10", reach[peers], medians[peers] * 1000, medians[10] * 1000, "ms")


def empty_pass(bench: Bench) -> Iterator[Row]:
    """A pass that finds nothing to do, against one wg show dump of the same device."""
    for peers in bench.sizes(1_000, 10_000):
        with bench.active(peers) as made:
            dump = ("wg", "show", made["interface"], "dump")
            own, other = interleaved(
                bench.rounds(9),
                lambda: seconds(lambda: bench.agent.call("plan")),
                lambda dump=dump: seconds(lambda: bench.lab.server.exec(*dump)),
            )
        yield Row(
            f"pass with nothing to do at {peers:,} peers", "wg show dump", 3.0, own * 1000, other * 1000, "ms"
        )


def small_commands(bench: Bench) -> Iterator[Row]:
    """The commands people type most, from an installed wheel."""
    with bench.active(10):
        for words, most in ((("help",), 150.0), (("status",), 300.0)):
            (own,) = interleaved(bench.rounds(15), lambda words=words: bench.cli(*words))
            yield Row(words[0], f"< {most:g} ms", None, own * 1000, None, "ms", most)


def traffic(bench: Bench) -> Iterator[Row]:
    """Throughput and ping through a tunnel of ours, against the same engine set up by hand."""
    made = bench.agent.make_tunnel(endpoint="192.0.2.1", addresses=["10.91.0.1/24"])
    config = bench.agent.call("peer.add", tunnel=made["name"], name="laptop")["config"]
    ours_by_hand, others = _by_hand(key_pair(), key_pair(), made["mtu"])
    lab = bench.lab
    with (
        plain_peer(lab.laptop, config, lab.engine),
        plain_peer(lab.server, ours_by_hand, lab.engine),
        plain_peer(lab.laptop, others, lab.engine),
        _iperf_server(bench),
    ):
        for address in ("10.91.0.1", "10.92.0.1"):
            wait_until(lambda address=address: lab.laptop.ping(address), what=f"ping of {address}")
        rates = interleaved(
            bench.rounds(8), lambda: _throughput(bench, "10.91.0.1"), lambda: _throughput(bench, "10.92.0.1")
        )
        pings = interleaved(
            bench.rounds(8), lambda: _round_trip(bench, "10.91.0.1"), lambda: _round_trip(bench, "10.92.0.1")
        )
    bench.agent.call("tunnel.delete", name=made["name"])
    yield Row("throughput through a tunnel", "by hand", 0.98, *rates, "Mbit/s", more_is_better=True)
    yield Row("ping through a tunnel", "by hand", 1.02, *pings, "ms")


def _by_hand(here: tuple[str, str], there: tuple[str, str], mtu: int) -> tuple[str, str]:
    """Configs of both ends of a tunnel that nobody manages; keys as private and public."""
    head = "[Interface]\nPrivateKey = {}\nMTU = {}\nAddress = {}/24\n"
    peer = "[Peer]\nPublicKey = {}\nAllowedIPs = {}/32\n"
    server = (
        head.format(here[0], mtu, "10.92.0.1") + "ListenPort = 4600\n" + peer.format(there[1], "10.92.0.2")
    )
    laptop = head.format(there[0], mtu, "10.92.0.2") + peer.format(here[1], "10.92.0.1")
    return server, f"{laptop}Endpoint = 192.0.2.1:4600\nPersistentKeepalive = 25\n"


@contextlib.contextmanager
def _iperf_server(bench: Bench) -> Iterator[None]:
    bench.lab.server.exec("iperf3", "--server", "--daemon")
    yield  # it ends with its namespace


def _throughput(bench: Bench, address: str) -> float:
    text = bench.lab.laptop.exec("iperf3", "--client", address, "--time", "2", "--format", "m").stdout
    return float(re.findall(r"([\d.]+) Mbits/sec.*receiver", text)[0])


def _round_trip(bench: Bench, address: str) -> float:
    """The average of 200 pings, in ms."""
    text = bench.lab.laptop.exec("ping", "-n", "-q", "-c", "200", "-i", "0.005", address).stdout
    return float(re.findall(r" = ([\d.]+)/([\d.]+)", text)[0][1])


def at_rest(bench: Bench) -> Iterator[Row]:
    """Memory and time that an agent takes whose only tunnel has 1,000 peers and no traffic."""
    alone = Agent(bench.lab.internet, bench.lab.folder / "alone", bench.lab.engine).start(
        bench.agent.commands
    )
    made = alone.call("tunnel.import", name=new_name(), text=_config(200, 1_000))
    alone.call("tunnel.activate", name=made["tunnel"]["name"])
    alone.terminate()
    alone.start(bench.agent.commands)
    before, begun = _cpu_seconds(alone), time.monotonic()
    time.sleep(REST)  # the measurement itself: an agent that nobody asks anything
    share = 100 * (_cpu_seconds(alone) - before) / (time.monotonic() - begun)
    memory = (
        int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{alone.process.pid}/status").read_text())[0]) / 1024
    )
    alone.end()
    yield Row("agent at rest, 1,000 peers: memory", "< 60 MB", None, memory * 1.048576, None, "MB", 60.0)
    yield Row("agent at rest, 1,000 peers: CPU", "< 0.5 %", None, share, None, "%", 0.5)


def _cpu_seconds(agent: Agent) -> float:
    fields = Path(f"/proc/{agent.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


ALL = {
    measure.__name__: measure
    for measure in (activation, one_more_peer, empty_pass, small_commands, traffic, at_rest)
}
