"""Whether Docker asks for a container's DNS queries from within the container or from the host."""

from pathlib import Path

import pytest

from resource_wireguard.system import docker_networks


@pytest.mark.parametrize(
    ("version", "resolv_conf", "daemon_json", "outside"),
    [
        (20, "nameserver 192.0.2.53\n", None, False),
        (20, "search example.org\nnameserver 127.0.0.53\noptions edns0\n", None, True),
        (20, "nameserver 192.0.2.53\nnameserver ::1\n", None, True),
        (20, "nameserver fe80::1%eth0\n", None, True),
        (20, "nameserver 127.0.0.53\n", '{"dns": ["192.0.2.53"]}', False),
        (27, "nameserver 192.0.2.53\n", "not json", False),
        (28, "nameserver 192.0.2.53\n", "{}", True),
        (29, "nameserver 192.0.2.53\n", '{"dns": ["192.0.2.53"]}', False),
        (20, "", None, False),
    ],
)
def test_who_asks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
    resolv_conf: str,
    daemon_json: str | None,
    outside: bool,
) -> None:
    monkeypatch.setattr(docker_networks, "RESOLV_CONF", tmp_path / "resolv.conf")
    monkeypatch.setattr(docker_networks, "DAEMON_JSON", tmp_path / "daemon.json")
    (tmp_path / "resolv.conf").write_text(resolv_conf)
    if daemon_json is not None:
        (tmp_path / "daemon.json").write_text(daemon_json)
    assert docker_networks._asks_outside(version) is outside
