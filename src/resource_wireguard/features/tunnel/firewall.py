"""Forwarding and firewall of a tunnel, for all its interfaces, in nft's own words. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from resource_wireguard.host.state import Chain, NftRule, Sysctl
from resource_wireguard.model.net import is_v6, network_of
from resource_wireguard.model.specs import TunnelSpec

CLAMP = Chain("clamp", "type filter hook forward priority -150; policy accept;")
FORWARD = Chain("forward", "type filter hook forward priority 0; policy accept;")
MASQUERADE = Chain("source-nat", "type nat hook postrouting priority 100; policy accept;")
SPOOFED = Chain("spoofed", "type filter hook prerouting priority -300; policy accept;")
MARK_IN = Chain("mark-in", "type filter hook prerouting priority -150; policy accept;")
MARK_OUT = Chain("mark-out", "type filter hook postrouting priority -150; policy accept;")


def sysctls(tunnel: TunnelSpec, families: Iterable[int]) -> Iterator[Sysctl]:
    """What the kernel must be told to forward, and to judge replies to the engine by their mark."""
    if tunnel.exit:
        yield Sysctl("net.ipv4.ip_forward", "1")
        if any(map(is_v6, tunnel.addresses)):
            yield Sysctl("net.ipv6.conf.all.forwarding", "1")
    if 4 in families:
        yield Sysctl("net.ipv4.conf.all.src_valid_mark", "1")


def exit_rules(tunnel: TunnelSpec, interfaces: Sequence[str]) -> Iterator[NftRule]:
    """An exit forwards for its peers, under its own address outside, in segments that fit both ways."""
    if not tunnel.exit:
        return
    for interface in interfaces:
        for way in ("iifname", "oifname"):
            yield NftRule(CLAMP, f'{way} "{interface}" tcp flags syn tcp option maxseg size set rt mtu')
            yield NftRule(FORWARD, f'{way} "{interface}" accept')
    outside = _none_of("oifname", interfaces)
    for network in map(network_of, tunnel.addresses):
        source = _without_host_length(network)
        yield NftRule(MASQUERADE, f"{_protocol(network)} saddr {source} {outside} masquerade")


def default_route_rules(
    tunnel: TunnelSpec, interfaces: Sequence[str], families: Sequence[int], fwmark: int
) -> Iterator[NftRule]:
    """The rest of wg-quick's way: replies to the engine keep its mark (so that strict reverse path
    filters let them in), and nobody beside the tunnel may speak to our address in it."""
    if not families:
        return
    mark = f"0x{fwmark:08x}"
    yield NftRule(MARK_IN, f"meta l4proto 17 ct mark {mark} meta mark set ct mark")
    yield NftRule(MARK_OUT, f"meta l4proto 17 meta mark {mark} ct mark set meta mark")
    outside = _none_of("iifname", interfaces)
    for address in tunnel.addresses:
        if (6 if is_v6(address) else 4) in families:
            ip = address.partition("/")[0]
            yield NftRule(SPOOFED, f"{outside} {_protocol(ip)} daddr {ip} fib saddr type != local drop")


def _none_of(way: str, interfaces: Sequence[str]) -> str:
    """One match for each: nft would print a set in an order of its own."""
    return " ".join(f'{way} != "{interface}"' for interface in interfaces)


def _protocol(text: str) -> str:
    return "ip6" if is_v6(text) else "ip"


def _without_host_length(network: str) -> str:
    """nft(8) lists '10.0.0.1/32' as '10.0.0.1'."""
    return network.removesuffix("/128" if is_v6(network) else "/32")
