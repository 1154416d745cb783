"""Two that claim one thing are stopped before anything is applied, and both are named."""

import pytest
from tests.unit.worlds import POSTROUTING, full_tunnel, peer_of, private_key_of, tunnel_piece

from resource_wireguard.errors import ConflictError
from resource_wireguard.host.state import (
    Address,
    Device,
    Link,
    NftRule,
    Piece,
    Route,
    Rule,
    Sysctl,
    Table,
    build,
    state_of,
)

TABLE_RULE = NftRule(POSTROUTING, "masquerade")


def refusal(*pieces: Piece) -> str:
    with pytest.raises(ConflictError) as refused:
        build(pieces)
    assert refused.value.hint
    return refused.value.message


def test_two_tunnels_on_one_port_are_both_named() -> None:
    message = refusal(tunnel_piece("a", 1, port=51820), tunnel_piece("b", 2, port=51820))
    assert message == "tunnels 'a' and 'b' both listen on UDP port 51820"


def test_two_tunnels_with_one_address_are_both_named() -> None:
    message = refusal(
        tunnel_piece("a", 1, addresses=("10.0.0.1/24",)), tunnel_piece("b", 2, addresses=("10.0.0.1/16",))
    )
    assert "'a' and 'b' both have the address 10.0.0.1" in message


def test_two_peers_with_one_allowed_ip_are_both_named() -> None:
    peers = [peer_of("wg-a", "phone", "10.0.0.2/32"), peer_of("wg-a", "tablet", "10.0.0.2/32")]
    message = refusal(tunnel_piece("a", 1, peers=peers))
    assert f"{peers[0].public_key.short} and {peers[1].public_key.short} of tunnel 'a'" in message
    assert "10.0.0.2/32" in message


def test_one_allowed_ip_on_two_tunnels_is_nobodys_conflict() -> None:
    pieces = [
        tunnel_piece(n, i, peers=[peer_of(f"wg-{n}", "p", "10.9.0.2/32")]) for i, n in enumerate("ab", 1)
    ]
    assert len(build(pieces).of(Link)) == 2


@pytest.mark.parametrize(
    ("first", "second", "noun"),
    [
        (Route("10.9.0.0/16", "wg-a"), Route("10.9.0.0/16", "wg-b"), "route"),
        (Link("wg-a", "a", "kernel", 1420), Link("wg-a", "b", "kernel", 1420), "link"),
        (Sysctl("net.ipv4.ip_forward", "1"), Sysctl("net.ipv4.ip_forward", "0"), "sysctl"),
        (Device("wg-a", private_key_of("a"), 1), Device("wg-a", private_key_of("b"), 2), "device"),
    ],
    ids=["route", "link", "sysctl", "device"],
)
def test_two_owners_of_one_object_are_both_named(first, second, noun) -> None:
    assert f"a and b claim the same {noun}" in refusal(Piece("a", [first]), Piece("b", [second]))


def test_two_owners_who_want_the_same_share_it() -> None:
    forwarding, rule = Sysctl("net.ipv4.ip_forward", "1"), Rule(15700, 4, 254)
    state = build(
        [Piece("a", [forwarding, rule], [TABLE_RULE]), Piece("b", [forwarding, rule], [TABLE_RULE])]
    )
    assert state.of(Sysctl) == {"net.ipv4.ip_forward": forwarding}
    assert state.of(Table)["inet"].chains == ((POSTROUTING, ("masquerade",)),)


def test_rules_of_all_owners_make_one_table_a_family_with_sorted_chains() -> None:
    forward = POSTROUTING.__class__("forward", "type filter hook forward priority 0; policy accept;")
    state = build(
        [
            Piece("a", rules=[NftRule(POSTROUTING, "one")]),
            Piece("b", rules=[NftRule(forward, "two"), NftRule(POSTROUTING, "three")]),
        ]
    )
    (table,) = state.of(Table).values()
    assert [(chain.name, texts) for chain, texts in table.chains] == [
        ("forward", ("two",)),
        ("postrouting", ("one", "three")),
    ]


def test_every_record_knows_whom_it_serves() -> None:
    state = build([full_tunnel("a", 1), tunnel_piece("b", 2)])
    for records in state.objects.values():
        for record in records.values():
            if isinstance(record, Table):
                assert state.owner_of(record) == "", "a table serves all of them"
            else:
                assert state.owner_of(record) in {"a", "b"}, record
    assert state_of([Address("eth0", "10.0.0.1/8")]).owner_of(Address("eth0", "10.0.0.1/8")) == ""
