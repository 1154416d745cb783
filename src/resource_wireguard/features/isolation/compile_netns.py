"""Namespaces of kind 'netns' as records of the host state. Pure.

The tunnel of such a namespace puts its own interface and routes there (features/tunnel/compile.py). Nothing
has to keep a program in: but for the loopback there is nothing else.
"""

from collections.abc import Sequence

from resource_wireguard.errors import ConflictError
from resource_wireguard.host.state import NetNamespace, Piece
from resource_wireguard.model.specs import NamespaceSpec, Specs


def compile_netns(specs: Specs) -> Sequence[Piece]:
    """One piece for each; ConflictError where a tunnel would have to lie in two places."""
    wanted = [spec for spec in specs.namespaces if spec.kind == "netns"]
    for spec in wanted:
        _refuse_shared_tunnel(spec, specs)
    return [Piece(spec.owner, (NetNamespace(spec.network, spec.name),)) for spec in wanted]


def _refuse_shared_tunnel(spec: NamespaceSpec, specs: Specs) -> None:
    """An interface lies in one network namespace, and nothing outside of it gets to the tunnel."""
    for other in specs.namespaces:
        if spec.tunnel and spec is not other and spec.tunnel == other.tunnel:
            raise ConflictError(
                f"namespaces '{spec.name}' and '{other.name}' both want tunnel '{spec.tunnel}', whose "
                "interface can lie in one network namespace only",
                "make another tunnel for one of them",
            )
