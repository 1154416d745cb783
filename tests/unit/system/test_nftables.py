"""Reading what nft prints."""

from resource_wireguard.host.state import Chain, Table
from resource_wireguard.system.nftables import parse

LISTING = """\
table inet resource-wireguard {
	chain postrouting {
		type nat hook postrouting priority 100; policy accept;
		iifname "wg-home" oifname != "wg-home" masquerade
	}

	chain forward {
		type filter hook forward priority -10; policy accept;
		iifname "wg-home" accept
		iifname { "a",
				"b" } reject
	}
}
table ip resource-wireguard { # progname nft
	set strange {
		type ipv4_addr
	}

	chain plain {
	}
}
"""


def test_tables_have_their_chains_by_name_and_rules_in_order() -> None:
    inet, ip = parse(LISTING)
    assert inet == Table(
        "inet",
        (
            (
                Chain("forward", "type filter hook forward priority -10; policy accept;"),
                ('iifname "wg-home" accept', 'iifname { "a", "b" } reject'),
            ),
            (
                Chain("postrouting", "type nat hook postrouting priority 100; policy accept;"),
                ('iifname "wg-home" oifname != "wg-home" masquerade',),
            ),
        ),
    )
    assert ip == Table("ip", ((Chain("plain", ""), ()), (Chain("set strange", ""), ())))


def test_nothing_is_no_table() -> None:
    assert parse("") == ()
