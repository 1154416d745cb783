"""The agent in a container, on a real Docker: what it may do, who reaches it, and what it survives."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.docker.daemon import Daemon
from tests.docker.images import copied_checkout, make_debian, package_proxy
from tests.docker.service import NAME, Service
from tests.netns.harness import Lab, lines_of, new_name, plain_peer, run, wait_until

from resource_wireguard.errors import PermissionDenied
from resource_wireguard.system import docker

# The first of them has the image built, and before that perhaps a Debian: minutes on a busy machine.
pytestmark = pytest.mark.timeout(900)

PORT = 51820
NOBODY = 65534

NET_BIND_SERVICE, NET_ADMIN = 10, 12
"""By their numbers in capabilities(7)'s header."""

MEMORY = 100 * 2**20


@pytest.fixture(scope="module")
def service(lab: Lab, daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Installed for the runtime docker, its image built by the program itself; not started yet."""
    make_debian(daemon.client)
    checkout = copied_checkout(tmp_path_factory.mktemp("checkout"))
    service = Service(checkout, lab.folder / "contained", daemon, {"WIREGUARD_ENDPOINT": "192.0.2.1"})
    gateway = next(iter(lab.server.addresses("docker0"))).partition("/")[0]
    with package_proxy(lab.server, gateway) as proxy:
        done = service.run("manage", "install", "--runtime", "docker", http_proxy=proxy)
    assert done.returncode == 0, done.stderr
    yield service
    service.run("manage", "uninstall", "--force")


@pytest.fixture
def running(service: Service) -> Service:
    service.start()
    return service


def make_tunnel(service: Service, *options: str) -> dict[str, Any]:
    name = new_name()
    service.ok("interface", "create", name, "--endpoint", "192.0.2.1", *options)
    return dict(service.json("interface", "status", name))


def address_of(tunnel: dict[str, Any]) -> str:
    return next(a.partition("/")[0] for a in tunnel["addresses"] if ":" not in a)


# -- the image --


def test_the_image_holds_no_build_tool_no_cache_and_no_secret(service: Service) -> None:
    image = service.info()["image"]
    listed = service.daemon.client.containers.run(
        image, ["/", "-xdev", "-type", "f"], entrypoint=["find"], remove=True
    )
    files = listed.decode().splitlines()
    assert any(file.endswith("/resource_wireguard/cli/main.py") for file in files)
    unwanted = re.compile(
        r"/(pip|ensurepip|setuptools|hatchling)/|/(pip3?|gcc|cc|make|ld)$|\.(whl|deb|key|db)$|^/(source|build|wheels)/"
        r"|/var/lib/apt/lists/.|/\.cache/"
    )
    assert [file for file in files if unwanted.search(file)] == []
    history = service.daemon.client.images.get(image).history()
    assert not [step for step in history if "http_proxy" in step["CreatedBy"]]


def test_installing_again_is_nothing_to_do(service: Service) -> None:
    again = service.run("manage", "install")
    assert again.returncode == 2, again.stderr
    assert NAME in again.stderr


# -- the container --


def test_the_container_may_do_one_thing(running: Service) -> None:
    seen = running.inspected()
    host = seen["HostConfig"]
    assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], ["NET_ADMIN"], False)
    assert [device["PathOnHost"] for device in host["Devices"]] == ["/dev/net/tun"]
    assert host["ReadonlyRootfs"] is True
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] == host["MemorySwap"] == MEMORY
    assert host["RestartPolicy"]["Name"] == "always"
    assert [mount["Source"] for mount in seen["Mounts"]] == [str(running.config_dir)]
    assert capabilities(running) == 1 << NET_ADMIN
    assert "NoNewPrivs:\t1" in Path(f"/proc/{seen['State']['Pid']}/status").read_text()


def test_what_looks_at_the_service_names_the_container(running: Service) -> None:
    running.wait_until_healthy()
    status = running.json("status")
    assert (status["running"], status["runtime"], status["container"]) == (True, "docker", NAME)
    assert running.info()["runtime"] == "docker"
    assert f"container {NAME}" in running.run("status").stdout
    assert "ready on" in running.ok("logs")
    checks = {check["code"]: check for check in running.json("doctor")}
    assert checks["docker"]["result"] == "ok"
    assert {check["result"] for check in checks.values()} == {"ok"}, checks


def test_a_peer_outside_reaches_the_tunnel_by_the_published_port(
    lab: Lab, running: Service, record_property: Callable[[str, object], None]
) -> None:
    tunnel = make_tunnel(running, "--exit")
    assert tunnel["listen_port"] == PORT
    config = running.ok("peer", "add", tunnel["name"], "laptop", "--output", "-")
    wait_until(lambda: hears_agents(running, tunnel), what="an ear for the agents of peers")
    with plain_peer(lab.laptop, config, "userspace"):
        wait_until(lambda: lab.laptop.ping("198.51.100.9"), what="the way out by the container")
        lab.internet.exec("iperf3", "--server", "--one-off", "--daemon")
        lab.laptop.exec("iperf3", "--client", "198.51.100.9", "--time", "3", "--parallel", "8")
        used = memory_of(running)
    record_property("remark", f"the container uses {used / 2**20:.0f} MB after a load of three seconds")
    assert used < 0.8 * MEMORY

    kill_agent(running)
    reach(lab, tunnel, config)
    restarted = running.run("manage", "restart")
    first, second = lines_of(restarted)
    assert first.startswith(f"note: this interrupts {tunnel['name']}: "), "before it does"
    assert second.startswith("the service runs")
    reach(lab, tunnel, config)
    running.daemon.restart()
    running.wait_until_healthy()
    reach(lab, tunnel, config)
    running.ok("manage", "stop")
    with plain_peer(lab.laptop, config, "userspace"):
        assert not lab.laptop.ping(address_of(tunnel))
    running.start()
    reach(lab, tunnel, config)
    running.ok("interface", "delete", tunnel["name"], "--force")


def reach(lab: Lab, tunnel: dict[str, Any], config: str, *beyond: str) -> None:
    """By a fresh session: one with an engine that has died is given up only after 15 s."""
    with plain_peer(lab.laptop, config, "userspace"):
        for address in (address_of(tunnel), *beyond):
            wait_until(lambda to=address: lab.laptop.ping(to), what=f"an answer from {address}")


def kill_agent(service: Service) -> None:
    before = service.inspected()["State"]["Pid"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: service.inspected()["State"]["Pid"] not in (0, before), what="a new container process")


def memory_of(service: Service) -> int:
    """Bytes that the container's limit counts and that cannot be given back."""
    seen = service.daemon.client.containers.get(NAME).stats(stream=False)["memory_stats"]
    kept = seen["stats"]
    return int(seen["usage"] - kept.get("total_inactive_file", kept.get("inactive_file", 0)))


def test_a_tunnel_on_a_port_that_is_not_published_says_so(running: Service) -> None:
    name = new_name()
    made = running.run("interface", "create", name, "--port", "51999")
    assert made.returncode == 0
    assert f"container {NAME} does not publish UDP port 51999" in made.stderr
    assert "UDP port 51999" in running.run("status").stderr
    assert published(running, name) == [False, False, False]
    running.ok("manage", "install", "--publish", "51999")
    running.ok("manage", "restart")
    assert "UDP port 51999" not in running.run("status").stderr
    assert published(running, name) == [True, True, True]
    running.ok("interface", "delete", name, "--force")


def published(service: Service, tunnel: str) -> list[bool]:
    """What the commands that look at tunnels say of its port."""
    looked = (
        *service.json("status")["tunnels"],
        *service.json("interface", "list"),
        service.json("interface", "status", tunnel),
    )
    return [found["published"] for found in looked if found["name"] == tunnel]


def test_engines_that_die_leave_no_zombies(running: Service) -> None:
    tunnel = make_tunnel(running)
    pid = running.inspected()["State"]["Pid"]
    engines = children(pid)
    if not engines:
        pytest.skip("this kernel has WireGuard: there is no engine to end")
    os.kill(engines[0], signal.SIGKILL)
    wait_until(lambda: engines[0] not in children(pid) and children(pid), what="a new engine, and no zombie")
    running.wait_until_healthy()
    running.ok("interface", "delete", tunnel["name"], "--force")
    wait_until(lambda: not children(pid), what="no child")


def children(pid: int) -> list[int]:
    """Those that any of its threads has started, and that it has not reaped."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for file in files for word in file.read_text().split()]


def test_stop_is_for_good_also_when_docker_is_restarted(running: Service) -> None:
    running.ok("manage", "stop")
    assert running.run("manage", "stop").returncode == 2
    running.daemon.restart()
    assert running.inspected()["State"]["Status"] == "exited"
    assert "ready on" in running.ok("logs"), "a stopped container still tells what happened"


# -- moving --


def test_state_moves_from_the_host_into_the_container_and_back(lab: Lab, running: Service) -> None:
    tunnel = make_tunnel(running)
    config = running.ok("peer", "add", tunnel["name"], "laptop", "--output", "-")

    def same() -> bool:
        seen = running.json("interface", "status", tunnel["name"])
        fields = ("public_key", "addresses", "listen_port", "peers")
        return [seen[f] for f in fields] == [*(tunnel[f] for f in fields[:3]), 1]

    reach(lab, tunnel, config)
    refused = running.run("manage", "install", "--runtime", "native")
    assert (refused.returncode, "manage stop" in refused.stderr) == (1, True), refused.stderr
    running.ok("manage", "stop")
    running.ok("manage", "install", "--runtime", "native")
    running.start()
    assert (running.json("status")["runtime"], same()) == ("native", True)
    assert lab.server.link(tunnel["interface"])
    reach(lab, tunnel, config)
    refused = running.run("manage", "install", "--runtime", "docker")
    assert (refused.returncode, "manage stop" in refused.stderr) == (1, True), refused.stderr
    running.ok("manage", "stop")
    assert lab.server.link(tunnel["interface"]) is None
    running.ok("manage", "install", "--runtime", "docker")
    running.start()
    assert (running.json("status")["runtime"], same()) == ("docker", True)
    reach(lab, tunnel, config)
    running.ok("interface", "delete", tunnel["name"], "--force")


def test_the_hosts_own_network_can_be_managed_from_the_container(lab: Lab, running: Service) -> None:
    running.ok("manage", "install", "--host-network")
    running.ok("manage", "restart")
    tunnel = make_tunnel(running, "--port", "51998", "--exit")
    link = lab.server.link(tunnel["interface"])
    assert link and link["ifalias"].startswith("resource-wireguard:")
    assert "does not publish" not in running.run("status").stderr
    reach(lab, tunnel, running.ok("peer", "add", tunnel["name"], "laptop", "--output", "-"))
    wait_until(lambda: hears_agents(running, tunnel), what="an ear for the agents of peers")
    assert capabilities(running) == 1 << NET_ADMIN | 1 << NET_BIND_SERVICE
    assert "resource-wireguard" in lab.server.nft("list", "ruleset")
    running.ok("manage", "install", "--own-network")
    running.ok("manage", "restart")
    assert lab.server.link(tunnel["interface"]) is None
    assert "resource-wireguard" not in lab.server.nft("list", "ruleset"), (
        "nobody is there to take it away later"
    )
    running.ok("interface", "delete", tunnel["name"], "--force")


def hears_agents(service: Service, tunnel: dict[str, Any]) -> bool:
    """Whether the port of docs/exchange.md is held at the tunnel's address, where the container sees it."""
    network = f"/proc/{service.inspected()['State']['Pid']}/ns/net"
    held = run("nsenter", f"--net={network}", "ss", "-uln").stdout
    return f"{address_of(tunnel)}%{tunnel['interface']}:864" in held


def capabilities(service: Service) -> int:
    """What the container's first process, and whatever it starts, may ever have (capabilities(7))."""
    status = Path(f"/proc/{service.inspected()['State']['Pid']}/status").read_text()
    return int(status.split("CapBnd:")[1].split()[0], 16)


# -- bad input --


def test_docker_absent_down_and_forbidden_are_three_lines(running: Service, tmp_path: Path) -> None:
    for host, message, hint in (
        (f"unix://{tmp_path}/nothing.sock", "Docker is not on this host", "install"),
        ("tcp://192.0.2.1:2375", "is not a unix socket of this host", "unset DOCKER_HOST"),
    ):
        refused = running.run("manage", "restart", DOCKER_HOST=host)
        assert refused.returncode == 1
        first, second = lines_of(refused)
        assert message in first
        assert second.startswith("hint: ")
        assert hint in second
    assert running.healthy(), "the socket in CONFIG_DIR needs no Docker"


def test_docker_is_not_for_everybody(running: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", running.daemon.environment["DOCKER_HOST"])
    assert socket_seen_by(NOBODY) == (
        f"you may not use Docker's socket {running.daemon.socket}",
        "run it with sudo",
    )


def socket_seen_by(uid: int) -> tuple[str, str]:
    """What a user who is not root is told: asked in a child that has become that user."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.setuid(uid)
        try:
            docker.connect()
        except PermissionDenied as error:
            os.write(writing, f"{error.message}\n{error.hint}".encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading) as said:
        message, _, hint = said.read().partition("\n")
    return message, hint


def test_a_container_of_somebody_else_is_never_touched(
    running: Service, daemon: Daemon, shell_image: str
) -> None:
    foreign = daemon.client.containers.create(shell_image, ["sleep", "1000"], name="others")
    elsewhere = Service(running.checkout, running.config_dir.with_name("elsewhere"), daemon)
    for name, whose in (("others", "is not ours"), (NAME, f"belongs to {running.config_dir}")):
        refused = elsewhere.run("manage", "install", "--runtime", "docker", CONTAINER_NAME=name)
        assert refused.returncode == 1
        assert whose in lines_of(refused)[0]
        assert "CONTAINER_NAME" in lines_of(refused)[1]
        assert not (elsewhere.config_dir / "container.json").exists()
    foreign.reload()
    assert foreign.status == "created"
    foreign.remove()
    assert running.healthy()


@pytest.mark.parametrize(
    ("words", "more", "message"),
    [
        (["--publish", "70000"], {}, "'70000' is no UDP port"),
        (["--publish", "1000-2000"], {}, "are more than the 64"),
        ([], {"WIREGUARD_IMAGE": "nobody/has:this"}, "there is no image nobody/has:this here"),
        ([], {"CONTAINER_NAME": "no name"}, "CONTAINER_NAME 'no name' is no name for a container"),
    ],
)
def test_a_wrong_wish_is_refused_before_anything_is_done(
    running: Service, words: list[str], more: dict[str, str], message: str
) -> None:
    elsewhere = Service(running.checkout, running.config_dir.with_name("elsewhere"), running.daemon)
    more = {"CONTAINER_NAME": "elsewhere", **more}
    refused = elsewhere.run("manage", "install", "--runtime", "docker", *words, **more)
    assert refused.returncode == 1
    assert message in lines_of(refused)[0]
    assert lines_of(refused)[1].startswith("hint: ")
    assert not elsewhere.config_dir.exists()


def test_a_port_that_is_taken_is_told_and_leaves_no_container(lab: Lab, running: Service) -> None:
    running.ok("manage", "stop")
    holder = lab.server.socket(2, 2)
    with holder:
        holder.bind(("0.0.0.0", PORT))
        refused = running.run("manage", "start", "--wait")
    assert refused.returncode == 1
    assert "already in use" in lines_of(refused)[0]
    assert "ss -ulpn" in lines_of(refused)[1]
    running.start()


def test_an_agent_that_cannot_run_is_told_in_its_own_words(running: Service) -> None:
    running.ok("manage", "stop")
    database = running.config_dir / "state.db"
    content = database.read_bytes()
    database.write_bytes(b"not a database at all" + content[21:])
    begun = time.monotonic()
    refused = running.run("manage", "start", "--wait")
    assert refused.returncode == 1
    assert "the agent ended at once: " in lines_of(refused)[0]
    assert "state.db" in lines_of(refused)[0]
    assert time.monotonic() - begun < 20
    assert running.inspected()["State"]["Status"] == "exited", "Docker does not try again and again"
    database.write_bytes(content)
    running.start()


def test_uninstall_takes_container_and_files_and_keeps_data_if_asked(running: Service) -> None:
    image = running.info()["image"]
    running.ok("manage", "uninstall", "--keep-data", "--force")
    assert running.daemon.client.images.list(image) == []
    assert running.daemon.client.containers.list(all=True, filters={"name": NAME}) == []
    assert sorted(path.name for path in running.config_dir.iterdir()) == ["master.key", "state.db"]
