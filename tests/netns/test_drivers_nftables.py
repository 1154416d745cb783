"""Our nftables tables, looked at with nft(8): what is written is read back as the same text."""

import os
from collections.abc import Iterator

import pytest
from tests.netns import drivers

from resource_wireguard.host.state import Chain, Table
from resource_wireguard.system import process

NAT = Chain("postrouting", "type nat hook postrouting priority 100; policy accept;")
FORWARD = Chain("forward", "type filter hook forward priority -10; policy accept;")
MANGLE = Chain("mangle", "type filter hook forward priority -150; policy accept;")
RAW = Chain("mark-in", "type filter hook prerouting priority -150; policy accept;")

CANONICAL = {
    NAT: (
        'iifname "wg-home" oifname != "wg-home" masquerade',
        'ip saddr 10.13.13.0/24 oifname != "wg-home" masquerade',
        'ip6 saddr fd00::/64 oifname != "wg-home" masquerade',
        'meta nfproto ipv6 iifname "wg-home" masquerade',
        'ip saddr 10.13.13.0/24 oifname "eth0" snat ip to 192.0.2.1',
    ),
    FORWARD: (
        'iifname "wg-home" accept',
        'iifname "wg-home" oifname "wg-home" drop',
        'oifname "wg-home" ct state established,related accept',
        'iifname "br-0123456789ab" oifname "wg-home" accept',
        'iifname "br-0123456789ab" drop',
        'oifname "wg-home" reject',
        "ip daddr { 10.0.0.0/8, 192.168.0.0/16 } accept",
        "udp dport { 53, 67 } accept",
        "tcp dport 22 ct state new drop",
        "ip saddr 10.13.13.2 ip daddr 10.13.13.3 accept",
    ),
    MANGLE: (
        'oifname "wg-home" tcp flags syn tcp option maxseg size set rt mtu',
        'iifname "wg-home" tcp flags syn tcp option maxseg size set rt mtu',
    ),
    RAW: (
        "meta mark 0x00000010 accept",
        "meta mark set 0x00efb0b1",
        "ct mark set meta mark",
        "meta l4proto 17 ct mark 0x00ef91a1 meta mark set ct mark",
        'iifname != "wg-home" ip daddr 10.13.13.1 fib saddr type != local drop',
    ),
}


@pytest.fixture
def box(engine: str) -> Iterator[drivers.Box]:
    with drivers.box(engine) as box:
        yield box


def table(rules: dict[Chain, tuple[str, ...]], family: str = "inet") -> Table:
    return Table(family, tuple(sorted(rules.items(), key=lambda item: item[0].name)))


def test_canonical_rules_are_read_back_as_written(box: drivers.Box) -> None:
    box.settle(table(CANONICAL))
    box.again()
    assert box.plan(table(CANONICAL)) == ()
    listed = box.namespace.nft("list", "table", "inet", "resource-wireguard")
    assert 'iifname "wg-home" oifname != "wg-home" masquerade' in listed


def test_a_set_of_many_elements_is_read_back_as_written(box: drivers.Box) -> None:
    many = ", ".join(f"10.{n}.0.0/16" for n in range(0, 80, 2))
    box.settle(table({FORWARD: (f"ip saddr {{ {many} }} accept",)}))


def test_a_table_is_replaced_and_deleted_and_foreign_ones_stay(box: drivers.Box) -> None:
    theirs = (
        "table inet somebody {\n chain forward { type filter hook forward priority 0; counter drop\n}\n}\n"
    )
    box.namespace.exec("nft", "-f", "-", stdin=theirs)
    before = box.namespace.nft("list", "table", "inet", "somebody")
    box.settle(table(CANONICAL))
    box.settle(table({FORWARD: ('iifname "wg-home" drop',)}), table({NAT: ("masquerade",)}, "ip"))
    listed = box.namespace.nft("list", "ruleset")
    assert "table ip resource-wireguard" in listed
    assert 'iifname "wg-home" drop' in listed
    assert "established" not in listed
    (delete,) = box.settle(table({NAT: ("masquerade",)}, "ip"))
    assert delete.verb == "delete"
    box.settle()
    assert box.namespace.nft("list", "ruleset") == before


@pytest.mark.parametrize(
    "tampering",
    [
        "flush ruleset",
        'add rule inet resource-wireguard forward iifname "evil" accept',
        "add chain inet resource-wireguard aside",
        "add set inet resource-wireguard extra { type ipv4_addr; }",
        "add table inet resource-wireguard { flags dormant; }",
    ],
)
def test_tampering_is_seen_and_mended(box: drivers.Box, tampering: str) -> None:
    ours = table({FORWARD: ('iifname "wg-home" accept',)})
    box.settle(ours)
    box.namespace.exec("nft", "-f", "-", stdin=tampering)
    (action,) = box.settle(ours)
    assert action.record == ours


def test_nft_is_not_started_without_need(box: drivers.Box, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    real = process.run
    monkeypatch.setattr(process, "run", lambda *argv: started.append(argv) or real(*argv))
    box.namespace.nft("add", "table", "inet", "somebody")
    box.observe()
    assert started == []
    ours = table({FORWARD: ('iifname "wg-home" accept',)})
    box.settle(ours)
    started.clear()
    for _ in range(3):
        assert box.plan(ours) == ()
    assert started == []
    box.namespace.nft("add", "table", "inet", "somebody-else")
    assert box.plan(ours) == ()
    assert len(started) == 1


def test_a_rule_that_nft_refuses_is_a_problem_with_its_words(box: drivers.Box) -> None:
    (problem,) = box.refused(table({FORWARD: ("no such words",)}))
    assert "nft failed" in problem.message
    assert "syntax error" in problem.message
    assert box.plan() == ()


def test_without_the_program_only_a_wanted_table_is_a_problem(
    box: drivers.Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "PATH", "/nonexistent")
    assert box.plan() == ()
    (problem,) = box.refused(table({FORWARD: ('iifname "wg-home" accept',)}))
    assert "nft is missing" in problem.message
    assert "install nftables" in problem.hint
