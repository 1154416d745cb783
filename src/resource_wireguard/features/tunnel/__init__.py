"""Tunnels and their peers: the noun that the other features share.

    tables.py    the only SQL: specs in and out of the store, loaded by what has changed
    compile.py   specs and facts → records of the host state; pure
    tunnels.py   the tunnel.* commands
    peers.py     the peer.* commands
    choose.py    which address, port, interface and prefix is free, and whose a taken one is
    config.py    a tunnel or a peer as a config file for other programs
    exchange.py  the tunnel.import command
    adopt.py     the tunnel.adopt command
    members.py   names for peers that come without, and claims that cannot stand together
    source.py    resolves DNS names of endpoints
    network.py   the network.* commands: all tunnels and peers as one document
    document.py  that document from and to plain values, with the place of each fault
    draft.py     from the document to specs

The commands are three files (and their text a fourth), because this feature has two nouns, and because
what is free and what a config looks like are each tested without a command around them.

This module is on the hot path of the CLI: it imports nothing until feature() is called.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resource_wireguard.engine.feature import Feature

NAME = "tunnel"

GROUPS = {
    "interface": "Tunnels as running interfaces: create, change, look, delete.",
    "peer": "The peers of a tunnel: phones, laptops, other sites.",
    "content": "Tunnels as stored content: add, execute, deactivate, get.",
}


def feature() -> "Feature":
    """Tunnels and peers, as the registry lists them."""
    from resource_wireguard.engine.feature import Feature
    from resource_wireguard.features.tunnel import (
        adopt,
        exchange,
        network,
        peer_changes,
        peers,
        tables,
        tunnels,
    )
    from resource_wireguard.features.tunnel.compile import compile_tunnels, questions
    from resource_wireguard.features.tunnel.source import resolve_endpoints
    from resource_wireguard.features.tunnel.tables import MIGRATIONS, SpecCache

    return Feature(
        name=NAME,
        migrations=MIGRATIONS,
        load=SpecCache().load,
        compile=compile_tunnels,
        questions=questions,
        commands=(
            *tunnels.COMMANDS,
            *exchange.COMMANDS,
            *adopt.COMMANDS,
            *peers.COMMANDS,
            *peer_changes.COMMANDS,
            *network.COMMANDS,
        ),
        sources=(resolve_endpoints,),
        tunnels=tables,
    )
