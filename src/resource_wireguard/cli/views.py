"""Tunnels and peers of the bus (docs/bus.md) as text."""

from collections.abc import Iterator, Sequence
from typing import Any

from resource_wireguard.cli import output, placement


def show_tunnel(tunnel: dict[str, Any], format_: str) -> None:
    """Print one tunnel in the form that was asked for."""
    output.show(placement.placed([tunnel])[0], format_, tunnel_lines)


def tunnel_table(tunnels: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One line a tunnel."""
    if not tunnels:
        output.note("no tunnels yet: make one with 'resource-wireguard interface create home'")
        return
    head = ("TUNNEL", "STATE", "INTERFACE", "PORT", "ENDPOINT", "ADDRESSES", "ONLINE")
    yield from output.table(head, [_tunnel_row(tunnel) for tunnel in tunnels])


def peer_table(peers: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One line a peer."""
    if not peers:
        output.note("no peers yet: add one with 'resource-wireguard peer add TUNNEL NAME'")
        return
    head = ("PEER", "STATE", "ADDRESSES", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT")
    yield from output.table(head, [_peer_row(peer) for peer in peers])


def tunnel_lines(tunnel: dict[str, Any]) -> Iterator[str]:
    """One tunnel in full."""
    yield from output.fields(
        [
            ("tunnel", tunnel["name"]),
            ("state", tunnel["state"]),
            ("interface", _interface(tunnel)),
            ("engine", tunnel["engine"] or ""),
            ("listen port", str(tunnel["listen_port"])),
            ("beside it", ", ".join(map(_device_words, tunnel.get("further", ())))),
            ("endpoint", tunnel["endpoint"] or ""),
            ("public key", tunnel["public_key"]),
            ("addresses", ", ".join(tunnel["addresses"])),
            ("mtu", str(tunnel["mtu"] or "auto")),
            ("dns", ", ".join(tunnel["dns"])),
            ("exit", "yes" if tunnel["exit"] else ""),
            ("peers", f"{_online(tunnel)} online"),
        ]
    )
    for problem in tunnel["problems"]:
        yield f"problem: {output.one_line(problem['message'])}"
        if problem["hint"]:
            yield f"  hint: {output.one_line(problem['hint'])}"
    for line in tunnel["drift"]:
        yield f"still to be done: {line}"
    placement.note_closed_ports([tunnel])


def peer_lines(peer: dict[str, Any]) -> Iterator[str]:
    """One peer in full."""
    keepalive = peer["keepalive"]
    return output.fields(
        [
            ("peer", peer["name"]),
            ("state", peer["state"]),
            ("public key", peer["public_key"]),
            ("preshared key", "yes" if peer["preshared_key"] else "no"),
            ("private key", "held here" if peer["config_held"] else "with the peer alone"),
            ("addresses", ", ".join(peer["addresses"])),
            ("allowed IPs", ", ".join(peer["allowed_ips"])),
            ("endpoint", endpoint_words(peer)),
            ("keepalive", f"every {keepalive} s" if keepalive else "off"),
            ("handshake", output.ago(peer["latest_handshake"])),
            ("received", output.size(peer["rx_bytes"])),
            ("sent", output.size(peer["tx_bytes"])),
        ]
    )


def endpoint_words(peer: dict[str, Any]) -> str:
    """Where a peer is, or would be if its name had an address; nothing where it has to call."""
    return f"{peer['endpoint'] or ''}{' (not resolved)' if peer.get('unresolved') else ''}"


def _device_words(device: dict[str, Any]) -> str:
    what = "new keys" if device["successor"] else "the same key"
    return f"{device['interface']} with {what}, UDP port {device['listen_port']}, {device['state']}"


def _tunnel_row(tunnel: dict[str, Any]) -> tuple[str, ...]:
    return (
        tunnel["name"],
        tunnel["state"],
        _interface(tunnel),
        str(tunnel["listen_port"]),
        tunnel["endpoint"] or "-",
        ", ".join(tunnel["addresses"]),
        _online(tunnel),
    )


def _peer_row(peer: dict[str, Any]) -> tuple[str, ...]:
    return (
        peer["name"],
        peer["state"],
        ", ".join(peer["addresses"]) or "-",
        endpoint_words(peer) or "-",
        output.ago(peer["latest_handshake"]),
        output.size(peer["rx_bytes"]),
        output.size(peer["tx_bytes"]),
    )


def _interface(tunnel: dict[str, Any]) -> str:
    """Its name, and where it lies if that is not where one would look."""
    return f"{tunnel['interface']} in {tunnel['netns']}" if tunnel.get("netns") else str(tunnel["interface"])


def _online(tunnel: dict[str, Any]) -> str:
    return f"{tunnel['peers_online']} of {tunnel['peers']}"
