"""scripts/bench rotation: packets lost and streams stalled while keys rotate, ours against two ways by hand.

Two hosts that both run our agent, with 500 packets a second and one paced TCP stream each way between them
(bench/stream.py), go through so many scheduled rotations: of the tunnel's keys on one end, then of the keys
on the other end, which for the first one are a peer's. Then, over the same wires, plain WireGuard whose
key is changed by 'wg-quick down' and 'up', and by 'wg set private-key'. All in one run.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.netns.harness import CHECKOUT, Agent, Lab, Namespace, key_pair, new_name, wait_until

A_INSIDE, B_INSIDE = "10.97.0.1", "10.97.0.2"
A_OUTSIDE, B_OUTSIDE = "192.0.2.1", "192.0.2.2"
PAUSE = 2.0
"""Seconds between two rotations by hand: as long as one of ours takes, so that losses have time to show."""

STALL_MOST = 0.1
"""Seconds for which a stream may bring nothing."""

FEW = 10
"""Rotations that are looked at while they go on: more than begin between two looks."""

PAGE = """# Benchmarks of rotation

Made by `scripts/bench rotation --write`; not to be edited by hand. 500 numbered UDP packets a second and
one TCP stream (1,000 bytes every 10 ms) each way, for as long as the keys rotate, and all in one run. A
stall is the longest time without a byte, less what the measuring process itself was not given the CPU.
A schedule begins ours {interval:g} s after the last one.

{date}, {cpus} CPUs, Linux {kernel}, Python {python}, {engine} engine.

{table}
"""


@dataclass(frozen=True)
class Result:
    """What some rotations cost: packets lost for each, by way, and each stream's longest stall in seconds."""

    work: str
    lost: tuple[tuple[int, ...], tuple[int, ...]]
    stalls: tuple[float, float]
    seconds: float
    sent: int

    def cells(self) -> tuple[str, ...]:
        """A line of the table."""
        ways = [
            f"{_quantile(lost, 50)} / {_quantile(lost, 99)} / {max(lost, default=0)}" for lost in self.lost
        ]
        stalls = " / ".join(f"{stall * 1000:.0f}" for stall in self.stalls)
        total = sum(map(sum, self.lost))
        return (self.work, str(len(self.lost[0])), *ways, f"{total} of {2 * self.sent}", stalls)


HEAD = ("work", "rotations", "lost A→B: p50 / p99 / max", "lost B→A", "lost in all", "longest TCP stall, ms")


def _quantile(values: Sequence[int], percent: int) -> int:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0


# Traffic ------------------------------------------------------------------------------------------


class Traffic:
    """bench.stream between the two ends while the block runs; then what it saw."""

    def __init__(self, a: Namespace, b: Namespace) -> None:
        argv = [sys.executable, "-m", "bench.stream", a.name, b.name, A_INSIDE, B_INSIDE]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
        )
        assert self._process.stdout and self._process.stdout.readline() == "ready\n"

    def end(self) -> dict:
        """Stop; what was lost, and when streams stalled."""
        return json.loads(self._process.communicate("", timeout=60)[0])


def measured(work: str, a: Namespace, b: Namespace, rotate: Callable[[], list[float]]) -> Result:
    """Rotate under traffic; rotate tells when (time.monotonic) each rotation began."""
    traffic = Traffic(a, b)
    try:
        begun = rotate()
    finally:
        seen = traffic.end()
    per_rotation = tuple(_by_rotation(lost, begun) for lost in seen["lost"])
    stalls = [
        [(begun, _own((begun, ended), seen["pauses"])) for begun, ended in way] for way in seen["stalls"]
    ]
    for way, lost, stalled in zip(("A→B", "B→A"), seen["lost"], stalls, strict=True):
        _tell_of(way, lost, stalled, begun)
    longest = tuple(max((length for _, length in way), default=0.0) for way in stalls)
    return Result(work, per_rotation, longest, seen["seconds"], seen["sent"])


def _tell_of(
    way: str, lost: Sequence[float], stalls: Sequence[tuple[float, float]], begun: Sequence[float]
) -> None:
    """In which rotation, and how long after it began, packets were lost and a stream stalled too long."""
    found: dict[int, list[float]] = {}
    for at in lost:
        found.setdefault(bisect_right(begun, at), []).append(at)
    for number, times in found.items():
        since = begun[number - 1] if number else times[0]
        moments = f"{times[0] - since:.3f} to {times[-1] - since:.3f} s"
        print(f"{way}: {len(times)} lost {moments} after rotation {number} began", file=sys.stderr)
    for at, length in stalls:
        if length >= STALL_MOST:
            number = bisect_right(begun, at)
            since = at - begun[number - 1] if number else 0.0
            stall = f"a stall of {length * 1000:.0f} ms {since:.3f} s after rotation {number} began"
            print(f"{way}: {stall} ({at:.3f})", file=sys.stderr)


def _by_rotation(lost: Sequence[float], begun: Sequence[float]) -> tuple[int, ...]:
    """How many packets were lost from each rotation's beginning to the next one's; all are somebody's."""
    counts = [0] * len(begun)
    for at in lost:
        counts[max(0, bisect_right(begun, at) - 1)] += 1
    return tuple(counts)


def _own(stall: Sequence[float], pauses: Sequence[Sequence[float]]) -> float:
    """A stall's length without the times in which the measuring process did not run."""
    begun, ended = stall
    return ended - begun - sum(max(0.0, min(ended, b) - max(begun, a)) for a, b in pauses)


# Ours ---------------------------------------------------------------------------------------------


@dataclass
class End:
    """One host with our agent, its tunnel, and its name for the other end."""

    agent: Agent
    tunnel: str
    peer: str
    inside: str


@contextlib.contextmanager
def two_agents(lab: Lab) -> Iterator[tuple[End, End]]:
    """A tunnel between two hosts that both run our agent."""
    ends = []
    for namespace, inside, peer in ((lab.server, A_INSIDE, "b"), (lab.laptop, B_INSIDE, "a")):
        agent = lab.agent(namespace).start()
        ends.append(End(agent, agent.make_tunnel(addresses=[f"{inside}/24"])["name"], peer, inside))
    a, b = ends
    for end, other, outside in ((a, b, B_OUTSIDE), (b, a, A_OUTSIDE)):
        there = other.agent.call("tunnel.show", name=other.tunnel)
        end.agent.call(
            "peer.add", tunnel=end.tunnel, name=end.peer, public_key=there["public_key"],
            addresses=[f"{other.inside}/32"], endpoint=f"{outside}:{there['listen_port']}",
            preshared_key="none",
        )  # fmt: skip
    try:
        assert a.agent.namespace.ping(B_INSIDE)
        yield a, b
    finally:
        for end in ends:
            end.agent.end()


def scheduled(end: End, count: int, interval: float) -> list[float]:
    """Let an end's schedule rotate so many times; when each began."""
    ahead = time.time() - time.monotonic()
    before = {r["id"] for r in _history(end, count)}
    ended: dict[int, float] = {}
    end.agent.call("rotate.schedule", tunnel=end.tunnel, interval=interval, overlap=interval)
    patience = 60 + count * max(10.0, 3 * interval)
    wait_until(lambda: _collected(end, before, ended) >= count, patience, f"{count} rotations")
    end.agent.call("rotate.schedule-off", tunnel=end.tunnel)
    wait_until(lambda: all(r["ended_at"] for r in _history(end, FEW)), 60, "the end of the last one")
    _collected(end, before, ended)
    return sorted(at - ahead for at in ended.values())


def _collected(end: End, before: set[int], ended: dict[int, float]) -> int:
    """How many have ended so far; twice a second, and only the last few: the agent has other work."""
    time.sleep(0.5)
    known = before | ended.keys()
    for rotation in _history(end, FEW):
        if rotation["what"] == "tunnel" and rotation["ended_at"] and rotation["id"] not in known:
            started = datetime.datetime.fromisoformat(rotation["started_at"])
            ended[rotation["id"]] = started.timestamp()
            if rotation["outcome"] != "complete":
                print(f"rotation {len(ended)}: {rotation['outcome']}", file=sys.stderr)
            if len(ended) % 50 == 0:
                print(f"{len(ended)} rotations", file=sys.stderr)
    return len(ended)


def _history(end: End, tail: int) -> list[dict]:
    return end.agent.call("rotate.history", tunnel=end.tunnel, tail=tail)


# By hand ------------------------------------------------------------------------------------------


class ByHand:
    """The same tunnel of wg-quick, wg and a person who types fast."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.a, self.b = (folder / f"wg-{new_name('h')}.conf" for _ in "ab")
        self.key, (self.other, self.other_public) = key_pair(), key_pair()
        self._write()
        self.b.write_text(
            f"[Interface]\nPrivateKey = {self.other}\nListenPort = 4501\nAddress = {B_INSIDE}/24\n\n[Peer]\n"
            f"PublicKey = {self.key[1]}\nAllowedIPs = {A_INSIDE}/32\nEndpoint = {A_OUTSIDE}:4500\n"
        )
        self.b.chmod(0o600)
        self._quick(lab.server, "up", self.a)
        self._quick(lab.laptop, "up", self.b)

    def close(self) -> None:
        """Take both ends down."""
        self._quick(self.lab.server, "down", self.a)
        self._quick(self.lab.laptop, "down", self.b)

    def down_and_up(self) -> None:
        """A new key in the file, and the interface anew; the other end is told by wg(8)."""
        self._quick(self.lab.server, "down", self.a)
        self._new_key(lambda: self._quick(self.lab.server, "up", self.a))

    def set_private_key(self) -> None:
        """A new key for the running interface; the other end is told by wg(8)."""
        self._new_key(
            lambda: self.lab.server.exec(
                "wg", "set", self.a.stem, "private-key", "/dev/stdin", stdin=self.key[0]
            )
        )

    def _new_key(self, turn: Callable[[], object]) -> None:
        old, self.key = self.key, key_pair()
        self._write()
        turn()
        self.lab.laptop.exec(
            *("wg", "set", self.b.stem, "peer", old[1], "remove", "peer", self.key[1]),
            *("allowed-ips", f"{A_INSIDE}/32", "endpoint", f"{A_OUTSIDE}:4500"),
        )

    def _write(self) -> None:
        self.a.write_text(
            f"[Interface]\nPrivateKey = {self.key[0]}\nListenPort = 4500\nAddress = {A_INSIDE}/24\n\n[Peer]\n"
            f"PublicKey = {self.other_public}\nAllowedIPs = {B_INSIDE}/32\nEndpoint = {B_OUTSIDE}:4501\n"
        )
        self.a.chmod(0o600)

    @staticmethod
    def _quick(namespace: Namespace, word: str, path: Path) -> None:
        namespace.exec("setsid", "--wait", "wg-quick", word, str(path))


def repeated(step: Callable[[], None], count: int) -> list[float]:
    """Do something by hand so often; when each time began."""
    begun = []
    for _ in range(count):
        begun.append(time.monotonic())
        step()
        time.sleep(PAUSE)
    return begun


# The run ------------------------------------------------------------------------------------------


def run(lab: Lab, count: int, by_hand: int, interval: float) -> Iterator[Result]:
    """All five, one after the other."""
    with two_agents(lab) as (a, b):
        here, there = a.agent.namespace, b.agent.namespace
        yield measured("nothing rotates", here, there, lambda: repeated(lambda: None, by_hand))
        for work, end in (("ours: a tunnel's keys", a), ("ours: a peer's keys (its own tunnel's)", b)):
            yield measured(work, here, there, lambda end=end: scheduled(end, count, interval))
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(ByHand(lab, Path(folder))) as hand:
        for work, step in (
            ("wg-quick down, up", hand.down_and_up),
            ("wg set private-key", hand.set_private_key),
        ):
            yield measured(work, lab.server, lab.laptop, lambda step=step: repeated(step, by_hand))


def main() -> int:
    """Exit code 1 if a promise is not kept: no packet lost at p99, no stall of 100 ms."""
    arguments = _parsed()
    lab = Lab(arguments.engine)
    results: list[Result] = []
    try:
        for result in run(lab, arguments.count, arguments.by_hand, arguments.interval):
            results.append(result)
            print(" · ".join(result.cells()), file=sys.stderr, flush=True)
    finally:
        lab.close()
    table = "\n".join(
        f"| {' | '.join(row)} |" for row in (HEAD, ["---"] * len(HEAD), *(r.cells() for r in results))
    )
    print(table)
    if arguments.write:
        (CHECKOUT / "docs" / f"benchmarks-rotation-{arguments.engine}.md").write_text(
            PAGE.format(
                date=datetime.datetime.now(datetime.UTC).date(),
                cpus=os.cpu_count(),
                kernel=platform.release(),
                python=platform.python_version(),
                engine=arguments.engine,
                interval=arguments.interval,
                table=table,
            )
        )
    ours = [result for result in results if result.work.startswith("ours")]
    lost = max(_quantile(way, 99) for result in ours for way in result.lost)
    return int(lost > 0 or max(max(result.stalls) for result in ours) >= STALL_MOST)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench rotation", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000, help="rotations of ours, each of two kinds")
    parser.add_argument("--by-hand", type=int, default=20, help="rotations by hand, each of two kinds")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two scheduled rotations")
    parser.add_argument("--engine", choices=["userspace", "kernel"], default="userspace")
    parser.add_argument(
        "--write", action="store_true", help="keep the table in docs/benchmarks-rotation-ENGINE.md"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
