"""Where the agent runs: the small file, and the words for ports."""

import json
from pathlib import Path

import pytest

from resource_wireguard.cli import placement
from resource_wireguard.cli.placement import Container
from resource_wireguard.errors import HostError, InvalidInput

HERE = Container("vrooli-wireguard", "resource-wireguard:1", (51820,), False, 100)


@pytest.fixture(autouse=True)
def config_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONFIG_DIR", str(tmp_path))
    return tmp_path


def test_the_file_comes_back_as_it_was_and_goes(config_dir: Path) -> None:
    assert placement.described() == {"runtime": "native"}
    placement.keep(HERE)
    assert placement.container() == HERE
    assert (config_dir / "container.json").stat().st_mode & 0o777 == 0o600
    assert placement.described()["container"] == "vrooli-wireguard"
    placement.forget()
    placement.forget()
    assert placement.container() is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": "x"}', '{"ports": 5}'])
def test_a_damaged_file_is_one_line_with_a_way_out(config_dir: Path, content: str) -> None:
    (config_dir / "container.json").write_text(content)
    with pytest.raises(HostError, match=r"container\.json is damaged") as damaged:
        placement.container()
    assert "manage install --runtime docker" in damaged.value.hint


def test_ports_are_numbers_and_ranges() -> None:
    ports = placement.parse_ports(["51820,51830-51832", "51831 7"])
    assert ports == (7, 51820, 51830, 51831, 51832)
    assert placement.port_words(ports) == "7, 51820, 51830-51832"
    assert placement.parse_ports([]) == ()


@pytest.mark.parametrize("word", ["0", "65536", "9-5", "x", "1-", "-1", "1-2-3", "٣"])
def test_what_is_no_port_is_named(word: str) -> None:
    with pytest.raises(InvalidInput, match="is no UDP port") as wrong:
        placement.parse_ports([word])
    assert word in wrong.value.message


def test_closed_ports_are_told_unless_the_network_is_the_hosts(capsys: pytest.CaptureFixture[str]) -> None:
    tunnels = [{"name": "home", "listen_port": 51820}, {"name": "site", "listen_port": 51821}]
    for host_network, told in ((False, 1), (True, 0)):
        placement.keep(Container("c", "i", (51820,), host_network, 100))
        placement.note_closed_ports(tunnels)
        assert capsys.readouterr().err.count("UDP port 51821") == told


def test_programs_read_of_each_tunnel_whether_its_port_is_published() -> None:
    tunnels = [{"name": "home", "listen_port": 51820}, {"name": "site", "listen_port": 51821}]
    assert placement.placed(tunnels) == tunnels, "on the host itself nothing is to be published"
    placement.keep(HERE)
    assert [tunnel["published"] for tunnel in placement.placed(tunnels)] == [True, False]


def test_the_file_is_json_for_everybody(config_dir: Path) -> None:
    placement.keep(HERE)
    assert json.loads((config_dir / "container.json").read_text())["ports"] == [51820]
