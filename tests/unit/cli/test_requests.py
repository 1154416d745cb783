"""What each command asks of the agent, and what it prints of the answer."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_agent import CONFIG, KEY, PEER, TUNNEL, FakeAgent, error

HOME = {"name": "home"}
PHONE = {"tunnel": "home", "name": "phone"}
CREATE = {**HOME, "activate": True}

ASKED: list[tuple[str, str, dict[str, Any]]] = [
    ("interface create home", "tunnel.create", CREATE),
    ("interface create home --exit --port 5000", "tunnel.create", {**CREATE, "exit": True, "port": 5000}),
    ("interface create home --mtu auto --interface wg7", "tunnel.create", {**CREATE, "interface": "wg7"}),
    (
        "interface create home --mtu 1380 --dns 1.1.1.1,9.9.9.9",
        "tunnel.create",
        {**CREATE, "mtu": 1380, "dns": ["1.1.1.1", "9.9.9.9"]},
    ),
    (
        "interface create home --address 10.1.0.1/24 --address fd00::1/64",
        "tunnel.create",
        {**CREATE, "addresses": ["10.1.0.1/24", "fd00::1/64"]},
    ),
    (
        "interface create home --network 10.2.0.0/24 --endpoint a.example",
        "tunnel.create",
        {**CREATE, "network": "10.2.0.0/24", "endpoint": "a.example"},
    ),
    ("interface delete home --force", "tunnel.delete", HOME),
    ("interface list", "tunnel.list", {}),
    ("interface list --filter site-*", "tunnel.list", {"filter": "site-*"}),
    ("interface config home", "tunnel.config", {**HOME, "show_secrets": False}),
    ("interface config home --show-secrets", "tunnel.config", {**HOME, "show_secrets": True}),
    ("interface config --show-secrets home", "tunnel.config", {**HOME, "show_secrets": True}),
    ("interface config home --mtu 1380 --no-exit", "tunnel.change", {**HOME, "mtu": 1380, "exit": False}),
    (
        "interface config home --dns 9.9.9.9 --exit",
        "tunnel.change",
        {**HOME, "dns": ["9.9.9.9"], "exit": True},
    ),
    (
        f"interface config home add-peer {KEY}",
        "peer.add",
        {"tunnel": "home", "name": "peer-xTIBA5rb", "public_key": KEY},
    ),
    (
        f"interface config home add-peer {KEY} 192.0.2.1:51820 --name lap --route 10.7.0.0/24 --keepalive 0",
        "peer.add",
        {
            "tunnel": "home",
            "name": "lap",
            "public_key": KEY,
            "endpoint": "192.0.2.1:51820",
            "routes": ["10.7.0.0/24"],
            "keepalive": 0,
        },
    ),
    (
        f"interface config home remove-peer {KEY} --force",
        "peer.remove",
        {"tunnel": "home", "public_key": KEY},
    ),
    ("content add home", "tunnel.create", {**HOME, "activate": False}),
    ("content add --name home --type tunnel", "tunnel.create", {**HOME, "activate": False}),
    ("content list", "tunnel.list", {}),
    ("content get --name home", "tunnel.config", {**HOME, "show_secrets": False}),
    ("content remove --name home --force", "tunnel.delete", HOME),
    ("content execute home", "tunnel.activate", HOME),
    ("content execute --name home", "tunnel.activate", HOME),
    ("content deactivate home", "tunnel.deactivate", HOME),
    ("peer add home phone", "peer.add", PHONE),
    (
        "peer add home phone --no-preshared-key --forget-key",
        "peer.add",
        {**PHONE, "preshared_key": "none", "keep_key": False},
    ),
    (
        "peer add home phone --route 10.7.0.0/24 --route 10.8.0.0/24,10.9.0.0/24",
        "peer.add",
        {**PHONE, "routes": ["10.7.0.0/24", "10.8.0.0/24", "10.9.0.0/24"]},
    ),
    (
        f"peer add home phone --public-key {KEY} --keepalive 5",
        "peer.add",
        {**PHONE, "public_key": KEY, "keepalive": 5},
    ),
    (
        "peer add home phone --address 10.13.13.9 --allowed-ips 0.0.0.0/0,::/0 --dns 1.1.1.1",
        "peer.add",
        {**PHONE, "addresses": ["10.13.13.9"], "allowed_ips": ["0.0.0.0/0", "::/0"], "dns": ["1.1.1.1"]},
    ),
    (
        "peer set home phone --endpoint a.example:5 --keepalive 0",
        "peer.change",
        {**PHONE, "endpoint": "a.example:5", "keepalive": 0},
    ),
    (
        "peer set home phone --route 10.7.0.0/24 --route 10.8.0.0/24,10.9.0.0/24 --allowed-ips 0.0.0.0/0",
        "peer.change",
        {**PHONE, "routes": ["10.7.0.0/24", "10.8.0.0/24", "10.9.0.0/24"], "allowed_ips": ["0.0.0.0/0"]},
    ),
    (
        "peer set home phone --endpoint none --keepalive auto --route none --allowed-ips auto --dns auto",
        "peer.change",
        {**PHONE, "endpoint": None, "keepalive": None, "routes": [], "allowed_ips": [], "dns": None},
    ),
    ("peer remove home phone --force", "peer.remove", PHONE),
    ("peer list home", "peer.list", {"tunnel": "home"}),
    ("peer show home phone", "peer.show", PHONE),
    ("peer config home phone", "peer.config", PHONE),
    ("peer enable home phone", "peer.enable", PHONE),
    ("peer disable home phone", "peer.disable", PHONE),
    ("status", "status", {}),
    ("status --fast", "status", {}),
    ("stats", "stats", {}),
    ("stats home", "stats", {"tunnel": "home"}),
    ("plan", "plan", {}),
]


@pytest.mark.parametrize(("typed", "command", "request_"), ASKED, ids=[typed for typed, *_ in ASKED])
def test_what_is_asked(
    run: Run, agent: FakeAgent, typed: str, command: str, request_: dict[str, Any]
) -> None:
    done = run(*typed.split())
    assert done.returncode == 0, done.stderr
    assert agent.asked == [(command, request_)]


FROM_ENVIRONMENT = {
    "WIREGUARD_PORT": "51999",
    "WIREGUARD_NETWORK": "10.20.0.0/24",
    "WIREGUARD_MTU": "1300",
    "WIREGUARD_DNS": "9.9.9.9, 1.1.1.1",
}


def test_the_environment_has_defaults_for_a_new_tunnel(run: Run, agent: FakeAgent) -> None:
    assert run("interface", "create", "home", **FROM_ENVIRONMENT).returncode == 0
    wished = {"port": 51999, "network": "10.20.0.0/24", "mtu": 1300, "dns": ["9.9.9.9", "1.1.1.1"]}
    assert agent.asked == [("tunnel.create", {**CREATE, **wished})]


def test_a_wish_from_the_environment_gives_way_where_it_is_taken(run: Run, agent: FakeAgent) -> None:
    """Otherwise the second tunnel of a shell with WIREGUARD_PORT set could not be made."""
    agent.lines["tunnel.create"] = [error("conflict", "port 51999 is taken")]
    agent.before = lambda: agent.lines.pop("tunnel.create", None) if len(agent.asked) == 2 else None
    assert run("interface", "create", "home", WIREGUARD_PORT="51999").returncode == 0
    assert [request.get("port") for _, request in agent.asked] == [51999, None]


def test_an_order_does_not_give_way(run: Run, agent: FakeAgent) -> None:
    agent.lines["tunnel.create"] = [error("conflict", "port 5000 is taken")]
    refused = run("interface", "create", "home", "--port", "5000")
    assert (refused.returncode, len(agent.asked)) == (1, 1)
    assert refused.stderr == "error: port 5000 is taken\n"


def test_looking_at_a_config_changes_nothing_whatever_the_environment(run: Run, agent: FakeAgent) -> None:
    assert run("interface", "config", "home", **FROM_ENVIRONMENT).returncode == 0
    assert [command for command, _ in agent.asked] == ["tunnel.config"]


def test_the_environment_has_defaults_for_a_new_peer(run: Run, agent: FakeAgent) -> None:
    run("peer", "add", "home", "phone", WIREGUARD_KEEPALIVE="15", WIREGUARD_ALLOWED_IPS="10.0.0.0/8")
    assert agent.asked == [("peer.add", {**PHONE, "keepalive": 15, "allowed_ips": ["10.0.0.0/8"]})]


def test_a_change_of_a_peer_takes_nothing_from_the_environment(run: Run, agent: FakeAgent) -> None:
    defaults = {
        "WIREGUARD_KEEPALIVE": "15",
        "WIREGUARD_ALLOWED_IPS": "10.0.0.0/8",
        "WIREGUARD_DNS": "9.9.9.9",
    }
    run("peer", "set", "home", "phone", "--endpoint", "192.0.2.1:5", **defaults)
    assert agent.asked == [("peer.change", {**PHONE, "endpoint": "192.0.2.1:5"})]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "peer set: nothing to change is given\nhint: give one of --endpoint, "),
        ("--keepalive soon", "'--keepalive': 'soon' is not a number from 0 to 65535\nhint: "),
        ("--keepalive none", "'none' is not a number"),
        ("--mtu 1400", "no such option"),
    ],
)
def test_what_peer_set_refuses(run: Run, agent: FakeAgent, typed: str, said: str) -> None:
    refused = run("peer", "set", "home", "phone", *typed.split())
    assert (refused.returncode, said in refused.stderr) == (1, True), refused.stderr
    assert agent.asked == []


@pytest.mark.parametrize(
    ("typed", "command", "shown"),
    [
        ("peer set home phone --endpoint none", "peer.change", PEER),
        ("interface config home --port 5000", "tunnel.change", TUNNEL),
        ("content execute home --options port=5000", "tunnel.change", TUNNEL),
    ],
)
def test_what_a_change_leaves_to_be_done_is_said(
    run: Run, agent: FakeAgent, typed: str, command: str, shown: dict[str, Any]
) -> None:
    agent.result(command, {**shown, "notes": ["two configs are out of date"]})
    done = run(*typed.split())
    assert (done.returncode, done.stderr) == (0, "note: two configs are out of date\n")
    assert shown["name"] in done.stdout


@pytest.mark.parametrize(
    ("typed", "result"),
    [
        ("peer set home phone --keepalive 5", PEER),
        ("interface list", [TUNNEL]),
        ("content list", [TUNNEL]),
        ("interface create home", TUNNEL),
        ("peer list home", [PEER]),
        ("peer show home phone", PEER),
    ],
)
@pytest.mark.parametrize("format_", ["json", "yaml"])
def test_machines_get_the_objects_of_the_bus(
    run: Run, agent: FakeAgent, typed: str, result: object, format_: str
) -> None:
    import yaml

    printed = run(*typed.split(), "--format", format_)
    parse = json.loads if format_ == "json" else yaml.safe_load
    assert parse(printed.stdout) == result
    assert printed.stderr == ""


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ("interface list", ["home", "up", "wg-home", "51820", "10.13.13.1/24", "1 of 2"]),
        ("interface status home", ["vpn.example.org:51820", "kernel", KEY, "phone", "3.4 MiB"]),
        ("peer list home", ["phone", "online", "198.51.100.7:4711", "3.4 MiB", "120 B", " d ", " ago"]),
        ("peer show home phone", ["every 25 s", KEY, "held here"]),
        ("stats", ["home", "phone", "7.0 GiB", "5.0 GiB", "2.0 KiB/s", " 42 ", " 17", "up 1 m 12 s"]),
        ("stats", ["1.2 s of CPU, 0.31 % now, 40.0 MiB"]),
    ],
)
def test_people_get_text(run: Run, agent: FakeAgent, typed: str, parts: list[str]) -> None:
    printed = run(*typed.split()).stdout
    assert [part for part in parts if part not in printed] == []
    assert "\x1b" not in printed


def test_an_endpoint_without_an_address_is_marked(run: Run, agent: FakeAgent) -> None:
    peer = {**PEER, "endpoint": "vpn.example.org:51820", "unresolved": True}
    agent.result("peer.list", [peer])
    agent.result("peer.show", peer)
    for typed in ("peer list home", "peer show home phone"):
        assert "vpn.example.org:51820 (not resolved)" in run(*typed.split()).stdout


def test_a_config_goes_to_stdout_and_notes_to_stderr(run: Run, agent: FakeAgent) -> None:
    added = run("peer", "add", "home", "phone")
    assert added.stdout == CONFIG
    assert added.stderr == "note: the endpoint is a private address\n"


def test_a_qr_code_is_printed_with_blocks_and_without_colours(run: Run, agent: FakeAgent) -> None:
    drawn = run("peer", "config", "home", "phone", "--qr")
    assert drawn.returncode == 0
    assert len(drawn.stdout.splitlines()) > 15
    assert "▀" in drawn.stdout
    assert "PrivateKey" not in drawn.stdout


def test_a_preshared_key_comes_from_a_file_or_stdin_never_from_argv(
    run: Run, agent: FakeAgent, tmp_path: Path
) -> None:
    key = "B" * 43 + "="
    (tmp_path / "psk").write_text(f"{key}\n")
    run("peer", "add", "home", "phone", "--preshared-key-file", str(tmp_path / "psk"))
    run("peer", "add", "home", "phone", "--preshared-key-file", "-", stdin=f"{key}\n")
    assert agent.asked == [("peer.add", {**PHONE, "preshared_key": key})] * 2


def test_interface_status_tells_by_its_exit_code(run: Run, agent: FakeAgent) -> None:
    assert run("interface", "status", "home").returncode == 0
    agent.result("tunnel.show", {**TUNNEL, "state": "degraded", "drift": ["create address 10.0.0.1/24"]})
    degraded = run("interface", "status", "home")
    assert degraded.returncode == 1
    assert "still to be done: create address 10.0.0.1/24" in degraded.stdout


def test_a_plan_is_lines_and_an_empty_one_says_so_on_stderr(run: Run, agent: FakeAgent) -> None:
    empty = run("plan")
    assert (empty.returncode, empty.stdout, empty.stderr) == (0, "", "nothing to do\n")
    agent.result(
        "plan", {"actions": ["create interface wg-home"], "problems": [{"message": "no", "hint": "so"}]}
    )
    full = run("plan")
    assert (full.returncode, full.stdout) == (0, "create interface wg-home\n")
    assert full.stderr == "error: no\nhint: so\n"


def test_a_peer_with_its_own_keys_gets_no_config(run: Run, agent: FakeAgent) -> None:
    agent.result("peer.add", {"peer": PEER, "config": None, "notes": []})
    added = run("peer", "add", "home", "phone", "--public-key", KEY)
    assert (added.returncode, added.stdout) == (0, "")
    assert added.stderr == "peer 'phone' is added to tunnel 'home'\n"


def test_a_program_gets_config_and_peer_at_once(run: Run, agent: FakeAgent) -> None:
    added = run("peer", "add", "home", "phone", "--format", "json")
    assert json.loads(added.stdout) == {
        "peer": PEER,
        "config": CONFIG,
        "notes": ["the endpoint is a private address"],
    }
