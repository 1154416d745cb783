"""What a namespace costs: its making, and the throughput of its containers."""

import contextlib
import re
import shutil
import time
from collections.abc import Iterator
from functools import partial

from tests.docker.sealed import WORLD4, Sealed, sealed_lab
from tests.netns.harness import run

from bench.measures import Bench, interleaved
from bench.table import Row

MTU = "1420"
"""Bytes, as a tunnel's, of Docker's own network."""


def isolation(bench: Bench) -> Iterator[Row]:
    """A container behind a tunnel, against Docker alone and against the host; nothing without Docker."""
    if shutil.which("dockerd") is None:
        return
    with sealed_lab(bench.lab.engine) as sealed:
        made = interleaved(bench.rounds(4), lambda: _namespace(sealed), lambda: _network(sealed))
        sealed.server.ip(f"route add {WORLD4}/32 dev {sealed.interface}")
        sealed.internet.exec("iperf3", "--server", "--daemon", "--bind", WORLD4)  # ends with its namespace
        sealed.daemon.client.networks.create("plain", options={"com.docker.network.driver.mtu": MTU})
        with _container(sealed, "wg-web") as ours, _container(sealed, "plain") as plain:
            places = (ours, f"/run/netns/{sealed.server.name}", plain)
            rates = interleaved(bench.rounds(8), *(partial(_throughput, place) for place in places))
    yield Row("namespace create", "docker network create", None, *made, "ms", 1_000.0)
    for against, reach, theirs in (
        ("the host's, same tunnel", 0.9, rates[1]),
        ("of Docker's own network, same tunnel", None, rates[2]),
    ):
        yield Row(
            "throughput of a container", against, reach, rates[0], theirs, "Mbit/s", more_is_better=True
        )


@contextlib.contextmanager
def _container(sealed: Sealed, network: str) -> Iterator[str]:
    """A container that rests; the file of its network namespace."""
    container = sealed.daemon.client.containers.run(
        sealed.image, ["sleep", "1000"], detach=True, network=network, stop_signal="SIGKILL"
    )
    yield f"/proc/{sealed.daemon.client.api.inspect_container(container.id)['State']['Pid']}/ns/net"
    container.remove(force=True)


def _namespace(sealed: Sealed) -> float:
    """Milliseconds until all is in place."""
    begun = time.perf_counter()
    sealed.agent.call("namespace.create", name="timed", tunnel=sealed.tunnel)
    took = time.perf_counter() - begun
    sealed.agent.call("namespace.delete", name="timed")
    return took * 1000


def _network(sealed: Sealed) -> float:
    begun = time.perf_counter()
    network = sealed.daemon.client.networks.create("timed")
    took = time.perf_counter() - begun
    network.remove()
    return took * 1000


def _throughput(namespace: str) -> float:
    """Mbit/s through the tunnel to its other end, from a namespace given by its file."""
    client = ["iperf3", "--client", WORLD4, "--time", "2", "--format", "m"]
    text = run("nsenter", f"--net={namespace}", *client).stdout
    return float(re.findall(r"([\d.]+) Mbits/sec.*receiver", text)[0])
