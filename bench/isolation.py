"""What a namespace costs: its making, and the throughput of its containers."""

import re
import shutil
import time
from collections.abc import Iterator

from tests.docker.sealed import WORLD4, Sealed, sealed_lab
from tests.netns.harness import run

from bench.measures import Bench, interleaved
from bench.table import Row


def isolation(bench: Bench) -> Iterator[Row]:
    """A container behind a tunnel, against Docker alone and against the host; nothing without Docker."""
    if shutil.which("dockerd") is None:
        return
    with sealed_lab(bench.lab.engine) as sealed:
        made = interleaved(bench.rounds(4), lambda: _namespace(sealed), lambda: _network(sealed))
        container = sealed.daemon.client.containers.run(
            sealed.image, ["sleep", "1000"], detach=True, network="wg-web", stop_signal="SIGKILL"
        )
        pid = sealed.daemon.client.api.inspect_container(container.id)["State"]["Pid"]
        sealed.server.ip(f"route add {WORLD4}/32 dev {sealed.interface}")
        sealed.internet.exec("iperf3", "--server", "--daemon", "--bind", WORLD4)  # ends with its namespace
        inside, outside = f"/proc/{pid}/ns/net", f"/run/netns/{sealed.server.name}"
        rates = interleaved(bench.rounds(8), lambda: _throughput(inside), lambda: _throughput(outside))
        container.remove(force=True)
    yield Row("namespace create", "docker network create", None, *made, "ms", 1_000.0)
    yield Row(
        "throughput of a container", "the host's, same tunnel", 0.9, *rates, "Mbit/s", more_is_better=True
    )


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
