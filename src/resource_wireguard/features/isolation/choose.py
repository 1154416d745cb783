"""What a new namespace may have: the next free number and prefixes, or wanted ones that nobody uses."""

import ipaddress
from collections.abc import Iterable

from resource_wireguard.errors import AlreadyExists, ConflictError, InvalidInput
from resource_wireguard.features.isolation.compile import bridge_of
from resource_wireguard.host.facts import Survey
from resource_wireguard.host.ipam import allocate_prefix, ula_prefix
from resource_wireguard.model.net import is_v6, network_of, overlaps, parse_prefix
from resource_wireguard.model.specs import NamespaceSpec, Specs

FIRST = "10.113.0.0/24"
"""Where the search for a network's prefix begins: up to 253 containers, and far from 10.13.13.0/24."""

ULA_FIRST = 0x8000
"""Subnet numbers of the site's own IPv6 prefix from here on are for namespaces; those below, for tunnels."""

LONGEST = {4: 29, 6: 124}
"""Prefix lengths that still leave room for Docker's address, for ours and for some containers."""


def refuse_taken_name(specs: Specs, name: str) -> None:
    """AlreadyExists where a namespace has the name."""
    if any(spec.name == name for spec in specs.namespaces):
        raise AlreadyExists(
            f"namespace '{name}' exists already",
            f"see 'resource-wireguard namespace status {name}', or choose another name",
        )


def refuse_taken_network(spec: NamespaceSpec, survey: Survey) -> None:
    """ConflictError where Docker has a network of its name, or the host a link of its bridge's."""
    if spec.network in survey.docker_networks:
        raise ConflictError(
            f"Docker has a network '{spec.network}' that is not ours",
            f"choose another name, or remove it: docker network rm {spec.network}",
        )
    if bridge_of(spec) in survey.interfaces:
        raise ConflictError(
            f"interface {bridge_of(spec)} exists on this host and is not ours", "choose another name"
        )


def number(specs: Specs) -> int:
    """The lowest free one, from 1."""
    taken = {spec.number for spec in specs.namespaces}
    return next(n for n in range(1, len(taken) + 2) if n not in taken)


def prefixes(
    subnet: str | None, subnet6: str | None, seed: bytes, number: int, specs: Specs, survey: Survey
) -> tuple[str, ...]:
    """One prefix of IPv4 and, where the host has IPv6, one of it."""
    used = [*survey.prefixes, *_claimed(specs)]
    chosen = [_wanted(subnet, 4, used) if subnet else _free(FIRST, used, "--subnet")]
    if subnet6:
        chosen.append(_wanted(subnet6, 6, used))
    elif survey.ipv6:
        chosen.append(_free(ula_prefix(seed, ULA_FIRST + number), used, "--subnet6"))
    return tuple(chosen)


def _free(first: str, used: Iterable[str], option: str) -> str:
    try:
        return allocate_prefix(first, used)
    except ConflictError as error:
        raise ConflictError(f"{error.message} is left for a namespace", f"name one with {option}") from None


def _wanted(text: str, version: int, used: Iterable[str]) -> str:
    prefix = parse_prefix(text, "subnet")
    if is_v6(prefix) != (version == 6):
        raise InvalidInput(f"subnet {prefix} is not IPv{version}", "--subnet is for IPv4, --subnet6 for IPv6")
    if ipaddress.ip_network(prefix).prefixlen > LONGEST[version]:
        raise InvalidInput(f"subnet {prefix} is too small", f"use /{LONGEST[version]} or larger")
    held = overlaps(prefix, used)
    if held:
        raise ConflictError(f"subnet {prefix} overlaps {held}, which is in use", "choose another, or none")
    return prefix


def _claimed(specs: Specs) -> set[str]:
    """What our specs claim, whether or not it runs: default routes are no claim on a prefix."""
    claimed = {prefix for spec in specs.namespaces for prefix in spec.prefixes}
    for tunnel in specs.tunnels:
        claimed.update(map(network_of, tunnel.addresses))
        claimed.update(prefix for peer in tunnel.peers for prefix in peer.allowed_ips)
    return {prefix for prefix in claimed if not prefix.endswith("/0")}
