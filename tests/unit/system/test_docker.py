"""How we meet Docker's daemon: what is said where nobody listens. A real daemon is in the docker lane."""

import socket
from pathlib import Path

import pytest

from resource_wireguard.errors import HostError, InvalidInput
from resource_wireguard.system import docker


def test_the_socket_is_the_usual_one_unless_docker_host_names_another() -> None:
    assert docker.socket_path({}) == docker.socket_path({"DOCKER_HOST": ""}) == docker.SOCKET
    assert docker.socket_path({"DOCKER_HOST": "unix:///run/user/1000/docker.sock"}) == (
        "/run/user/1000/docker.sock"
    )


@pytest.mark.parametrize("address", ["tcp://192.0.2.1:2375", "ssh://host", "unix://relative", "/no/scheme"])
def test_a_daemon_on_another_host_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match=f"DOCKER_HOST '{address}' is not a unix socket"):
        docker.socket_path({"DOCKER_HOST": address})


def test_a_host_without_docker_is_told_from_one_whose_daemon_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with pytest.raises(HostError, match="Docker is not on this host") as absent:
        docker.connect()
    assert "install" in absent.value.hint
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with pytest.raises(HostError, match="Docker's daemon does not run") as down:
        docker.connect()
    assert "systemctl start docker" in down.value.hint


def test_what_answers_but_is_no_docker_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with pytest.raises(HostError, match=r"^Docker: Docker does not answer \([^\n]*\)$"):
            docker.connect(within=0.1)
