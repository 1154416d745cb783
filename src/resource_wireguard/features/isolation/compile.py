"""Namespaces as records of the host state. Pure."""

from collections.abc import Sequence

from resource_wireguard.features.isolation import netns
from resource_wireguard.host.facts import Facts
from resource_wireguard.host.state import Piece
from resource_wireguard.model.specs import Specs


def compile_namespaces(specs: Specs, facts: Facts) -> Sequence[Piece]:
    """One piece for each namespace."""
    del facts
    return netns.pieces(specs)
