"""What is free, and whose a taken one is: the quick answers against slow and obvious ones."""

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.unit.features.tunnel.test_compile import peer, tunnel

from resource_wireguard.errors import ConflictError
from resource_wireguard.features.tunnel import choose
from resource_wireguard.host.facts import Survey
from resource_wireguard.model.net import covers, network_of, overlaps, range_of


@st.composite
def prefixes(draw: st.DrawFn) -> str:
    """Prefixes close to each other, so that they do meet; both families, hosts and defaults among them."""
    v6 = draw(st.booleans())
    base, bits = (0xFD << 120, 128) if v6 else (0x0A000000, 32)
    length = draw(st.sampled_from([0, bits - 8, bits - 4, bits - 2, bits - 1, bits]))
    number = (base + draw(st.integers(0, 300))) >> (bits - length) << (bits - length)
    kind = ipaddress.IPv6Address if v6 else ipaddress.IPv4Address
    return f"{kind(number)}/{length}"


@given(a=prefixes(), b=prefixes())
def test_ranges_agree_with_the_standard_library(a: str, b: str) -> None:
    one, two = ipaddress.ip_network(a), ipaddress.ip_network(b)
    same_family = one.version == two.version
    assert range_of(a) == (one.version, int(one.network_address), int(one.broadcast_address))
    assert covers(a, b) == (same_family and two.subnet_of(one))  # type: ignore[arg-type]
    meet = a == b or (same_family and one.overlaps(two) and one.prefixlen > 0 and two.prefixlen > 0)
    assert (overlaps(a, [b]) is not None) == meet


@given(held=st.lists(st.lists(prefixes(), min_size=1, max_size=3), max_size=5), wanted=prefixes())
def test_a_taken_prefix_is_refused_and_a_free_one_is_not(held: list[list[str]], wanted: str) -> None:
    """Whether a prefix is a peer's address or lies behind it makes no difference."""
    spec = tunnel(
        *(
            peer(
                f"p{n}",
                *some,
                addresses=tuple(p for p in some if p.endswith(("/128", ".1/32"))),
            )
            for n, some in enumerate(held)
        )
    )
    taken = any(overlaps(wanted, some) for some in held)
    try:
        choose.refuse_taken_prefixes(spec, "new", [wanted])
    except ConflictError as refused:
        assert taken
        assert "'new'" in refused.message
        assert "'p" in refused.message
    else:
        assert not taken


@hypothesis_settings(deadline=None)
@given(held=st.lists(prefixes().filter(lambda p: not p.endswith("/0")), max_size=6))
def test_a_free_address_is_the_lowest_that_nobody_has(held: list[str]) -> None:
    network = "10.0.0.0/24"
    spec = tunnel(
        *(peer(f"p{n}", prefix) for n, prefix in enumerate(held)), addresses=("10.0.0.1/24", "10.0.0.9/24")
    )
    free = [
        f"{address}/32"
        for address in ipaddress.ip_network(network).hosts()
        if str(address) not in ("10.0.0.1", "10.0.0.9") and not overlaps(f"{address}/32", held)
    ]
    assume(free)
    assert choose.peer_addresses(spec) == (free[0],)


@given(
    used=st.lists(st.integers(0, 60), max_size=20),
    foreign=st.sampled_from(
        [frozenset(), frozenset({"10.0.0.0/9"}), frozenset({"0.0.0.0/0", "10.0.3.0/24"})]
    ),
)
def test_a_chosen_network_meets_nothing(used: list[int], foreign: frozenset[str]) -> None:
    tunnels = [
        tunnel(name=f"t{n}", number=n + 1, addresses=(f"10.0.{third}.1/24",)) for n, third in enumerate(used)
    ]
    pools = choose.Pools("10.0.0.0/24", "fd00::/64")
    v4, v6 = choose.addresses(None, None, pools, tunnels, Survey(prefixes=foreign))
    network = network_of(v4)
    assert network.endswith("/24")
    assert ipaddress.ip_network(network).is_private
    assert not overlaps(network, [network_of(t.addresses[0]) for t in tunnels])
    assert not overlaps(network, [prefix for prefix in foreign if not prefix.endswith("/0")])
    assert v6 == "fd00::1/64"


def test_networks_behind_peers_are_not_given_to_tunnels() -> None:
    site = tunnel(peer("site", "10.0.0.0/23"), addresses=("10.5.0.1/24",))
    v4, _ = choose.addresses(None, None, choose.Pools("10.0.0.0/24", "fd00::/64"), [site], Survey())
    assert v4 == "10.0.2.1/24"
    with pytest.raises(ConflictError, match=r"10\.0\.0\.0/23 of tunnel 'home'"):
        choose.addresses(None, "10.0.1.0/24", choose.Pools("", ""), [site], Survey())


def test_what_the_host_uses_because_of_us_is_not_foreign() -> None:
    spec = tunnel(peer("site", "192.168.0.0/16"), addresses=("10.5.0.1/24",))
    survey = Survey(prefixes=frozenset({"10.5.0.0/24", "192.168.0.0/16", "0.0.0.0/0"}))
    assert choose.addresses(None, "10.6.0.0/24", choose.Pools("", "fd00::/64"), [spec], survey)


def test_numbers_are_the_lowest_free_ones() -> None:
    assert choose.number([]) == 1
    assert choose.number([tunnel(number=1), tunnel(number=3)]) == 2


def test_the_ports_may_run_out() -> None:
    with pytest.raises(ConflictError, match="no UDP port from 65535"):
        choose.port(None, 65535, [tunnel(listen_port=65535)], Survey())


def test_a_choice_among_ten_thousand_peers_parses_no_address_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work may grow with the peers, but not by an ipaddress object for each."""
    first = int(ipaddress.ip_address("10.0.0.2"))
    members = []
    for n in range(10_000):
        address = f"{ipaddress.ip_address(first + n)}/32"
        members.append(peer(f"p{n}", address, addresses=(address,)))
    spec = tunnel(*members, addresses=("10.0.0.1/16",))
    choose.peer_addresses(spec)
    choose.refuse_taken_prefixes(spec, "new", ["10.0.39.18/32", "10.2.0.0/16"])
    made: list[object] = []
    for name in ("ip_network", "ip_interface", "ip_address"):
        make = getattr(ipaddress, name)
        monkeypatch.setattr(ipaddress, name, lambda *a, make=make, **k: made.append(a) or make(*a, **k))
    assert choose.peer_addresses(spec) == ("10.0.39.18/32",)
    choose.refuse_taken_prefixes(spec, "new", ["10.0.39.18/32", "10.1.0.0/16"])
    assert len(made) < 50
