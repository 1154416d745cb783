"""Which UDP ports and interface names are free, and whose a taken one is. Pure."""

from collections.abc import Iterable, Mapping, Set

from resource_wireguard.errors import ConflictError
from resource_wireguard.host.facts import Survey
from resource_wireguard.model.net import parse_port

REGISTERED_AS = "wireguard"
"""Our own name in Vrooli's port registry."""


def free_port(wanted: int | None, first: int, held: Mapping[int, str], survey: Survey) -> int:
    """The wanted UDP port, or the first free one from first on; ConflictError names who has it.

    held are our own devices' ports, running or not, each with who has it.
    """
    if wanted is not None:
        holder = _port_holder(parse_port(wanted), held, survey)
        if holder:
            raise ConflictError(f"UDP port {wanted} is taken by {holder}", "choose another with --port")
        return wanted
    for candidate in range(first, 65_536):
        if not _port_holder(candidate, held, survey):
            return candidate
    raise ConflictError(f"no UDP port from {first} on is free", "name one with --port")


def free_interface(candidates: Iterable[str], taken: Set[str]) -> str:
    """The first candidate that no interface is called; there are always more of them."""
    return next(name for name in candidates if name not in taken)


def _port_holder(candidate: int, held: Mapping[int, str], survey: Survey) -> str | None:
    if candidate in held:
        return held[candidate]
    if candidate in survey.udp_ports:
        return "another program on this host"
    registered = survey.reserved_ports.get(candidate)
    return f"'{registered}' in the port registry" if registered not in (None, REGISTERED_AS) else None
