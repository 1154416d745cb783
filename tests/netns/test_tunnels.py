"""Tunnels come, change and go, and the kernel shows it each time."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from tests.netns.harness import Agent, Lab, Refused, new_name, run, wait_until


@contextlib.contextmanager
def tunnel(server: Agent, **request) -> Iterator[dict]:
    """A tunnel for one test."""
    made = server.make_tunnel(**request)
    try:
        yield made
    finally:
        server.call("tunnel.delete", name=made["name"])


def test_a_created_tunnel_is_in_the_kernel_as_it_is_told(server: Agent, lab: Lab, engine: str) -> None:
    with tunnel(server) as made:
        assert (made["state"], made["engine"], made["drift"]) == ("up", engine, [])
        link = lab.server.link(made["interface"])
        assert link and "UP" in link["flags"]
        assert link["ifalias"] == f"resource-wireguard:{made['name']}"
        assert link["mtu"] == made["mtu"]
        assert lab.server.addresses(made["interface"]) == set(made["addresses"])
        assert any(":" in address for address in made["addresses"]), "a v6 prefix lies beside the v4 one"
        device = lab.server.wg(made["interface"])
        assert (device.listen_port, device.public_key) == (made["listen_port"], made["public_key"])


def test_a_deleted_tunnel_leaves_nothing_behind(server: Agent, lab: Lab) -> None:
    with tunnel(server, exit=True) as made:
        pass
    assert lab.server.link(made["interface"]) is None
    assert made["name"] not in [t["name"] for t in server.call("tunnel.list")]
    assert "resource-wireguard" not in lab.server.nft("list", "ruleset")
    assert not run("ip", "-n", lab.server.name, "route", "show", "table", "all", "proto", "157").stdout
    assert not [pid for pid in lab.server.pids() if made["interface"] in command_line(pid)]
    with pytest.raises(Refused) as refused:
        server.call("tunnel.show", name=made["name"])
    assert refused.value.exit_code == 2


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline") as file:
        return file.read()
    return ""


def test_a_stored_tunnel_comes_up_and_goes_down_and_keeps_its_key(server: Agent, lab: Lab) -> None:
    with tunnel(server, activate=False) as made:
        assert made["state"] == "inactive"
        assert lab.server.link(made["interface"]) is None
        assert server.call("tunnel.activate", name=made["name"])["state"] == "up"
        assert lab.server.wg(made["interface"]).public_key == made["public_key"]
        assert server.call("tunnel.deactivate", name=made["name"])["state"] == "inactive"
        assert lab.server.link(made["interface"]) is None
        again = server.call("tunnel.activate", name=made["name"])
        assert again["public_key"] == made["public_key"]
        assert again["addresses"] == made["addresses"]


def test_several_tunnels_share_neither_port_nor_network_nor_interface(server: Agent, lab: Lab) -> None:
    with tunnel(server) as a, tunnel(server) as b, tunnel(server, activate=False) as c:
        for field in ("listen_port", "interface", "public_key"):
            assert len({made[field] for made in (a, b, c)}) == 3, field
        addresses = [address for made in (a, b, c) for address in made["addresses"]]
        assert len(set(addresses)) == len(addresses) == 6
        listed = {made["name"]: made["state"] for made in server.call("tunnel.list")}
        assert [listed[made["name"]] for made in (a, b, c)] == ["up", "up", "inactive"]
        only = server.call("tunnel.list", filter=f"*{b['name'][-3:]}")
        assert [made["name"] for made in only] == [b["name"]]
        assert {a["interface"], b["interface"]} <= set(
            lab.server.exec("wg", "show", "interfaces").stdout.split()
        )


def test_a_tunnel_is_changed_while_it_runs(server: Agent, lab: Lab) -> None:
    with tunnel(server) as made:
        index = lab.server.link(made["interface"])["ifindex"]
        port = made["listen_port"] + 1000
        changed = server.call("tunnel.change", name=made["name"], port=port, mtu=1300)
        assert (changed["listen_port"], changed["mtu"], changed["drift"]) == (port, 1300, [])
        link = lab.server.link(made["interface"])
        assert (link["mtu"], link["ifindex"]) == (1300, index), "changed in place, not made anew"
        assert lab.server.wg(made["interface"]).listen_port == port
        assert set(made["addresses"]) == lab.server.addresses(made["interface"])


def test_an_interface_name_fits_whatever_the_tunnel_is_called(server: Agent, lab: Lab) -> None:
    with tunnel(server, name=f"{new_name()}-headquarters-of-the-company") as made:
        assert len(made["interface"].encode()) <= 15
        assert lab.server.link(made["interface"])


def test_a_foreign_interface_of_the_wanted_name_is_left_alone(server: Agent, lab: Lab) -> None:
    name = new_name()
    lab.server.ip(f"link add wg-{name} type bridge", f"address add 203.0.113.1/24 dev wg-{name}")
    try:
        with contextlib.suppress(Refused), tunnel(server, name=name, interface=f"wg-{name}") as made:
            assert made["state"] != "up"
            assert f"wg-{name}" in str(made["problems"])
        link = lab.server.link(f"wg-{name}")
        assert link["linkinfo"]["info_kind"] == "bridge"
        assert lab.server.addresses(f"wg-{name}") == {"203.0.113.1/24"}
    finally:
        lab.server.ip(f"link delete wg-{name}")


def test_a_port_that_somebody_uses_is_not_chosen_and_not_accepted(server: Agent, lab: Lab) -> None:
    with lab.server.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", 51820))
        with tunnel(server) as made:
            assert made["listen_port"] != 51820
            assert made["state"] == "up"
        with pytest.raises(Refused, match="51820"):
            server.make_tunnel(port=51820)
    with tunnel(server) as made, pytest.raises(Refused, match=made["name"]):
        server.make_tunnel(port=made["listen_port"])


def test_a_network_in_use_on_the_host_is_not_chosen(server: Agent, lab: Lab) -> None:
    lab.server.ip("route add 10.13.13.0/24 via 192.0.2.2")
    try:
        with tunnel(server) as made:
            assert not made["addresses"][0].startswith("10.13.13.")
    finally:
        lab.server.ip("route delete 10.13.13.0/24")


def test_the_mtu_follows_the_path_to_the_peer(server: Agent, lab: Lab) -> None:
    with tunnel(server) as made:
        assert made["mtu"] == 1420, "1500 less 80 bytes of IPv6, UDP and WireGuard headers"
        server.call("peer.add", tunnel=made["name"], name="far", endpoint="192.0.2.2:1")
        try:
            lab.server.ip("link set eth0 mtu 1400")
            wait_until(lambda: lab.server.link(made["interface"])["mtu"] == 1320, what="mtu 1400 - 80")
        finally:
            lab.server.ip("link set eth0 mtu 1500")
        wait_until(lambda: lab.server.link(made["interface"])["mtu"] == 1420, what="mtu 1500 - 80")


def test_a_tunnels_config_is_one_that_wg_quick_reads(server: Agent, tmp_path) -> None:
    with tunnel(server) as made:
        peer = server.call("peer.add", tunnel=made["name"], name="phone")["peer"]
        masked = server.call("tunnel.config", name=made["name"])["config"]
        whole = server.call("tunnel.config", name=made["name"], show_secrets=True)["config"]
        path = tmp_path / f"{made['interface']}.conf"
        path.write_text(whole)
        path.chmod(0o600)
        stripped = run("wg-quick", "strip", str(path)).stdout
        assert f"ListenPort = {made['listen_port']}" in stripped
        assert peer["public_key"] in stripped
        key = next(line for line in whole.splitlines() if line.startswith("PrivateKey"))
        assert key not in masked
        assert run("wg", "pubkey", stdin=key.partition(" = ")[2]).stdout.strip() == made["public_key"]


def test_auto_takes_the_kernels_wireguard_where_there_is_one(lab: Lab, engine: str) -> None:
    has_kernel = (
        engine == "kernel"
        or run("unshare", "--net", "ip", "link", "add", "probe", "type", "wireguard", check=False).returncode
        == 0
    )
    agent = lab.agent(lab.internet, settings={"WIREGUARD_ENGINE": "auto"}).start()
    made = agent.make_tunnel()
    assert made["engine"] == ("kernel" if has_kernel else "userspace")
    agent.call("agent.stop")


def test_status_says_of_every_tunnel_how_it_is(server: Agent) -> None:
    with tunnel(server) as made:
        status = server.call("status")
        assert set(status["service"]) >= {"state", "health", "checks"}
        shown = next(t for t in status["tunnels"] if t["name"] == made["name"])
        keys = {
            "name",
            "interface",
            "engine",
            "state",
            "listen_port",
            "public_key",
            "addresses",
            "peers",
            "drift",
        }
        assert keys <= set(shown)


def test_the_registry_of_ports_of_a_vrooli_checkout_is_respected(lab: Lab, tmp_path) -> None:
    script = tmp_path / "scripts" / "resources" / "port_registry.sh"
    script.parent.mkdir(parents=True)
    script.write_text(
        "#!/usr/bin/env bash\ncase $1 in\n"
        '--export-json) echo \'{"resource_ports":{"wireguard":51820,"other":51821}}\' ;;\n'
        "--get-all-allocated) printf '51820\\n51821\\n51822\\n' ;;\nesac\n"
    )
    script.chmod(0o755)
    agent = lab.agent(lab.internet, settings={"APP_ROOT": str(tmp_path)}).start()
    ports = {agent.make_tunnel(activate=False)["listen_port"] for _ in range(2)}
    assert not ports & {51821, 51822}
    agent.terminate()
