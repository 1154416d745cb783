"""The tunnel feature's pages of the command line."""

from resource_wireguard.features.tunnel.cli.peers import peer
from resource_wireguard.features.tunnel.cli.tunnels import content, interface

__all__ = ["content", "interface", "peer"]
