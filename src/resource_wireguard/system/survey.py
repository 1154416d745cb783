"""What is in use on the host, by whomever: asked before a prefix, a port or a name is chosen."""

import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import Path

from resource_wireguard.host.facts import Survey
from resource_wireguard.system import netlink, routing, sysctl, uapi
from resource_wireguard.system.messages import NetlinkSocket
from resource_wireguard.system.places import Places

_UDP_TABLES = ("udp", "udp6", "udplite", "udplite6")


def survey(places: Places, reserved_ports: Mapping[int, str]) -> Survey:
    """Prefixes, UDP ports and interface names of this namespace, and the names of all engines' sockets."""
    kernel = places.here.kernel
    links = netlink.links(kernel)
    names = {link.index: link.name for link in links}
    addresses = [ipaddress.ip_interface(address.address) for address in netlink.addresses(kernel, names)]
    networks = {str(address.network) for address in addresses}
    inside = {link.name for place in places.ours for link in netlink.links(place.kernel)}
    return Survey(
        prefixes=frozenset(networks | set(routing.used_prefixes(kernel))),
        udp_ports=frozenset(udp_ports()),
        interfaces=frozenset({*names.values(), *inside, *_live_sockets()}),
        public_address=public_address(kernel, names),
        reserved_ports=reserved_ports,
        ipv6=sysctl.read("net.ipv6.conf.default.disable_ipv6") == "0",
    )


def udp_ports() -> Iterator[int]:
    """Local ports of all UDP sockets of this thread's namespace (proc_pid_net(5))."""
    for table in _UDP_TABLES:
        try:
            lines = Path(f"/proc/thread-self/net/{table}").read_text().splitlines()[1:]
        except FileNotFoundError:
            continue  # a kernel without IPv6 or UDP-Lite
        for line in lines:
            yield int(line.split()[1].rpartition(":")[2], 16)


def public_address(kernel: NetlinkSocket, names: dict[int, str]) -> str | None:
    """The source address of packets to the default route; behind NAT it is a private one."""
    way = routing.default_route(kernel)
    if way is None or way.index not in names:
        return None
    if way.source:
        return way.source
    on_link = netlink.addresses(kernel, {way.index: names[way.index]})
    found = [ipaddress.ip_interface(address.address).ip for address in on_link]
    return next((str(ip) for ip in sorted(found, key=lambda ip: ip.version) if not ip.is_link_local), None)


def _live_sockets() -> Iterator[str]:
    for path in uapi.SOCKET_FOLDER.glob("*.sock"):
        try:
            client = uapi.connect(path.stem)
        except uapi.EngineSilent:
            yield path.stem
            continue
        if client is not None:
            client.close()
            yield path.stem
