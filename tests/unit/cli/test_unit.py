"""The unit: what it says is what systemd understands, whatever the paths and settings are."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_wireguard.cli import unit
from resource_wireguard.model.settings import settings_from

PYTHON = "/opt/wire guard/bin/python3"
ODD = '/var/lib/a b/50%/$HOME/"c"'


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def verify(path: Path) -> list[str]:
    """What systemd-analyze has to say of our unit; others of this machine are not our business."""
    argv = ["systemd-analyze", "verify", "--man=no", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return [line for line in done.stderr.splitlines() if unit.NAME in line]


@pytest.fixture
def analyze() -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")


@pytest.mark.usefixtures("analyze")
@pytest.mark.parametrize("netns", [False, True])
@pytest.mark.parametrize("config_dir", ["/root/.vrooli/resources/wireguard", ODD])
def test_systemd_finds_nothing_wrong(tmp_path: Path, config_dir: str, netns: bool) -> None:
    path = tmp_path / unit.NAME
    path.write_text(unit.unit_text(sys.executable, config_dir, [unit.READ_ANY_FOLDER], netns=netns))
    assert verify(path) == []


@pytest.mark.usefixtures("analyze")
def test_a_wrong_word_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / unit.NAME
    path.write_text(unit.unit_text(sys.executable, "/x").replace("ProtectClock", "ProtectTheClock"))
    assert verify(path)


def test_only_the_capabilities_that_are_needed() -> None:
    assert "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE" in lines(
        unit.unit_text(PYTHON, "/x")
    )
    more = unit.unit_text(PYTHON, "/x", [unit.READ_ANY_FOLDER])
    assert (
        "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_DAC_READ_SEARCH"
        in lines(more)
    )


OWN_MOUNTS = {
    *("ProtectSystem", "ProtectHome", "ReadWritePaths", "PrivateTmp", "PrivateDevices", "PrivateMounts"),
    *("ProtectControlGroups", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables"),
}
"""Each gives a unit mounts of its own (systemd.exec(5)), and nobody would see what it mounts."""


def test_network_namespaces_cost_two_capabilities_and_the_own_view_and_no_more() -> None:
    plain, netns = lines(unit.unit_text(PYTHON, "/x")), lines(unit.unit_text(PYTHON, "/x", netns=True))
    assert not [line for line in netns if line.partition("=")[0] in OWN_MOUNTS]
    assert set(netns) - set(plain) == {
        "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_SYS_ADMIN CAP_SYS_PTRACE",
        "RestrictNamespaces=net",
        "SystemCallFilter=@system-service @mount",
    }
    assert unit.allows_netns(unit.unit_text(PYTHON, "/x", netns=True))
    assert not unit.allows_netns(unit.unit_text(PYTHON, "/x"))
    gone = {line.partition("=")[0] for line in set(plain) - set(netns)}
    assert gone <= {*OWN_MOUNTS, "CapabilityBoundingSet", "RestrictNamespaces", "SystemCallFilter"}


@pytest.mark.parametrize(
    "line",
    [
        "Type=notify",
        "KillMode=process",
        "WatchdogSec=60",
        "Restart=on-failure",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "PrivateTmp=yes",
        "DeviceAllow=/dev/net/tun rw",
        "RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6",
        "RuntimeDirectory=wireguard",
        "RuntimeDirectoryPreserve=yes",
        "LimitCORE=0",
        "WantedBy=multi-user.target",
    ],
)
def test_what_is_promised(line: str) -> None:
    assert line in lines(unit.unit_text(PYTHON, "/x"))


def test_sysctls_stay_writable() -> None:
    assert not any(line.startswith("ProtectKernelTunables") for line in lines(unit.unit_text(PYTHON, "/x")))


def test_odd_paths_are_quoted_as_systemd_reads_them() -> None:
    text = lines(unit.unit_text(PYTHON, ODD))
    assert 'ExecStart="/opt/wire guard/bin/python3" -P -m resource_wireguard agent' in text
    assert r'Environment="CONFIG_DIR=/var/lib/a b/50%%/$HOME/\"c\""' in text
    assert r'ReadWritePaths="/var/lib/a b/50%%/$HOME/\"c\""' in text
    assert 'EnvironmentFile=-/var/lib/a b/50%%/$HOME/"c"/service.env' in text


def test_a_unit_knows_its_config_dir() -> None:
    text = unit.unit_text(PYTHON, ODD)
    assert unit.is_for(text, ODD)
    assert not unit.is_for(text, ODD[:-1])
    assert not unit.is_for("", ODD)


class Recorder(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.asked.add(name)
        return default


def test_every_setting_of_the_agent_is_kept() -> None:
    environment = Recorder()
    settings_from(environment)
    assert environment.asked == set(unit.SETTINGS)


def parse(text: str) -> Iterator[tuple[str, str]]:
    """As systemd reads an EnvironmentFile (src/basic/env-file.c): in double quotes, \\ keeps \\ " ` and $."""
    for line in text.splitlines():
        name, _, quoted = line.partition("=")
        assert quoted[0] == quoted[-1] == '"'
        value, signs = "", iter(quoted[1:-1])
        for sign in signs:
            value += next(signs) if sign == "\\" else sign
        yield name, value


@given(st.text(st.sampled_from("aé 1#;'%" + '\\"`$'), min_size=1, max_size=12))
def test_any_value_comes_back_from_the_environment_file(value: str) -> None:
    given_: Mapping[str, str] = {"WIREGUARD_DNS": value, "SECRET_OF_SOMEBODY": value}
    assert dict(parse(unit.environment_text(given_))) == {"WIREGUARD_DNS": value}
    assert unit.variables_of(unit.environment_text(given_)) == {"WIREGUARD_DNS": value}


def test_a_persons_environment_file_is_read_as_systemd_does() -> None:
    text = "# WIREGUARD_MTU=1\n\n; of mine\nWIREGUARD_PORT=4000\n WIREGUARD_DNS = '9.9.9.9 1.1.1.1' \nnoise\n"
    assert unit.variables_of(text) == {"WIREGUARD_PORT": "4000", "WIREGUARD_DNS": "9.9.9.9 1.1.1.1"}


def test_what_is_not_set_any_more_stays() -> None:
    before = unit.environment_text({"WIREGUARD_PORT": "1", "WIREGUARD_MTU": "1400", "PATH": "/bin"})
    after = unit.environment_text({"WIREGUARD_PORT": "2", "PATH": "/usr/bin"}, before)
    assert dict(parse(after)) == {"WIREGUARD_PORT": "2", "WIREGUARD_MTU": "1400", "PATH": "/usr/bin"}
    assert unit.settings_of(after) == ['WIREGUARD_MTU="1400"', 'WIREGUARD_PORT="2"']


@pytest.mark.parametrize(
    ("python", "config_dir", "private"),
    [
        ("/opt/venv/bin/python", "/srv/wg", "yes"),
        ("/tmp/checkout/.venv/bin/python", "/srv/wg", "no"),
        ("/opt/venv/bin/python", "/var/tmp/wg", "no"),
    ],
)
def test_tmp_is_private_unless_we_lie_in_it(python: str, config_dir: str, private: str) -> None:
    assert f"\nPrivateTmp={private}\n" in unit.unit_text(python, config_dir)
