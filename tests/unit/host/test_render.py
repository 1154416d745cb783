"""A plan reads as a person would say it, and a long one stays short."""

import pytest
from tests.unit.worlds import POSTROUTING, full_tunnel, key_of, peer_of, tunnel_piece

from resource_wireguard.host.diff import Action, diff
from resource_wireguard.host.render import FOLD_ABOVE, line_of, lines_of
from resource_wireguard.host.state import HostState, Peer, Record, Route, Rule, Table, build, state_of


def created(record: Record) -> str:
    return line_of(Action("create", after=record))


def test_every_kind_has_its_words() -> None:
    assert lines_of(diff(build([full_tunnel()]), HostState())) == [
        "create sysctl net.ipv4.ip_forward: 1",
        "create nft table inet resource-wireguard: 1 rules",
        "create rule 15701: inet not fwmark 15700001 lookup 15700001",
        "create interface wg-a: kernel, mtu 1420, up",
        "create device wg-a: port 51821, fwmark 15700001",
        "create peer phoneAAA… on wg-a: 10.1.0.2/32",
        "create peer siteAAAA… on wg-a: 10.1.0.3/32, 172.16.1.0/24",
        "create endpoint of peer siteAAAA… on wg-a: 192.0.2.1:51820",
        "create address 10.1.0.1/24 on wg-a",
        "create address fd00:1::1/64 on wg-a",
        "create route 172.16.1.0/24 dev wg-a",
    ]


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (Route("10.0.0.0/8", None, 15700001), "create route 10.0.0.0/8 unreachable table 15700001"),
        (
            Rule(15700, 6, 254, suppress_prefixlength=0, source="fd00::/64", input_interface="br0"),
            "create rule 15700: inet6 from fd00::/64 iif br0 lookup main suppress_prefixlength 0",
        ),
        (peer_of("wg-a", "phone"), "create peer phoneAAA… on wg-a: no allowed IPs"),
    ],
)
def test_the_rarer_words(record: Record, line: str) -> None:
    assert created(record) == line


def test_a_change_says_what_changes_from_what_to_what() -> None:
    before, after = peer_of("wg-a", "phone", "10.1.0.2/32"), peer_of("wg-a", "phone", keepalive=25)
    assert line_of(Action("change", before, after)) == (
        "change peer phoneAAA… on wg-a: keepalive 0 → 25, allowed ips 10.1.0.2/32 → none"
    )


def test_more_than_a_handful_of_one_kind_is_told_as_a_number() -> None:
    def plan(count: int) -> list[str]:
        peers = [peer_of("wg-a", f"p{n}", f"10.1.0.{n + 2}/32") for n in range(count)]
        return lines_of(diff(build([tunnel_piece("a", 1, peers=peers)]), HostState()))

    assert f"create {FOLD_ABOVE + 1} peers on wg-a" in plan(FOLD_ABOVE + 1)
    assert len([line for line in plan(FOLD_ABOVE) if "peer" in line]) == FOLD_ABOVE


def test_folding_keeps_the_order_and_the_rest() -> None:
    state = build([tunnel_piece("a", 1, peers=[peer_of("wg-a", f"p{n}") for n in range(20)])])
    lines = lines_of(diff(state, state_of(r for r in state.of(Peer).values() if r.key[1] == key_of("p0"))))
    assert lines.index("create 19 peers on wg-a") < lines.index("create address 10.1.0.1/24 on wg-a")


def test_a_change_of_a_table_is_told_without_its_rules() -> None:
    before, after = Table("inet", ()), Table("inet", ((POSTROUTING, ("masquerade",)),))
    assert line_of(Action("change", before, after)) == (
        "change nft table inet resource-wireguard: chains 0 rules → 1 rules"
    )
