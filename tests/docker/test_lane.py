"""The lane itself: a daemon of our own, that touches nothing of the machine's and can be killed."""

import os
from contextlib import closing
from pathlib import Path

import pytest
from tests.docker.daemon import Daemon
from tests.netns.harness import Lab, run

from resource_wireguard.system import docker


def test_a_container_runs_and_reaches_the_labs_internet(lab: Lab, daemon: Daemon, shell_image: str) -> None:
    words = ["ping", "-c", "1", "-W", "3", "198.51.100.9"]
    assert b"1 packets received" in daemon.client.containers.run(shell_image, words, remove=True)


def test_the_daemon_stays_in_its_namespace(lab: Lab, daemon: Daemon) -> None:
    assert lab.server.link("docker0")
    outside = run("nft", "list", "ruleset").stdout
    assert "DOCKER" in lab.server.nft("list", "ruleset")
    assert outside == run("nft", "list", "ruleset").stdout
    assert os.readlink("/proc/self/ns/net") != os.readlink(f"/proc/{daemon.pid}/ns/net")


def test_our_client_finds_it_where_docker_host_says(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", daemon.environment["DOCKER_HOST"])
    with closing(docker.connect()) as client:
        assert client.info()["DockerRootDir"] == str(daemon.folder / "data")


def test_a_container_lives_through_the_daemons_death_and_is_found_again(
    daemon: Daemon, shell_image: str
) -> None:
    policy = {"Name": "always"}  # 20.10 takes one that was up when it was killed itself for stopped by hand
    container = daemon.client.containers.run(
        shell_image, ["sh", "-c", "trap exit TERM; sleep 1000 & wait"], detach=True, restart_policy=policy
    )
    pid = daemon.client.api.inspect_container(container.id)["State"]["Pid"]
    daemon.kill()
    assert Path(f"/proc/{pid}").exists()
    daemon.start()
    container.reload()
    assert container.status == "running"
    container.remove(force=True)
