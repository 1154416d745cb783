"""The peers of a tunnel that was made elsewhere: names for them, and claims that cannot stand together."""

import re
from collections.abc import Sequence

from resource_wireguard.errors import ConflictError
from resource_wireguard.model.formats.config import PeerSection
from resource_wireguard.model.keys import PublicKey
from resource_wireguard.model.names import NAME_MAX

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


def unique_names(peers: Sequence[PeerSection]) -> tuple[str, ...]:
    """A name for each peer that check_name() takes: from its comment, else from its key."""
    given: dict[str, int] = {}
    for peer in peers:
        name = _allowed(peer.name) or name_of_key(peer.public_key)
        given[_first_free(name, given)] = 1
    return tuple(given)


def name_of_key(key: PublicKey) -> str:
    """'peer-xTIBA5rb': the first eight letters and digits of the key."""
    return f"peer-{''.join(filter(str.isalnum, str(key)))[:8]}"


def refuse_twice(own: PublicKey, peers: Sequence[PeerSection]) -> None:
    """ConflictError where a peer has the tunnel's own key, or two peers the very same allowed IPs.

    A network within another peer's network is fine: the longest prefix wins (WireGuard paper, section 2).
    """
    names = unique_names(peers)
    holders: dict[str, str] = {}
    for name, peer in zip(names, peers, strict=True):
        if peer.public_key == own:
            raise ConflictError(
                f"peer '{name}' has the public key of the tunnel itself", "give the key of the other side"
            )
        for prefix in peer.allowed_ips:
            held = holders.setdefault(prefix, name)
            if held != name:
                raise ConflictError(
                    f"AllowedIPs {prefix} is both of peer '{held}' and of peer '{name}'",
                    "only the last would get its packets: remove it from one of them",
                )


def _allowed(name: str) -> str:
    """What names may have of a comment: 'Anna (phone)' → 'Anna-phone'."""
    return _NOT_IN_NAMES.sub("-", name).strip("-_.")[:NAME_MAX]


def _first_free(name: str, given: dict[str, int]) -> str:
    """The name, or it with the next number that makes it unique: 'phone', 'phone-2', 'phone-3'.

    given has the latest number of each name, so that thousands of one name take no search.
    """
    candidate = name
    while candidate in given:
        given[name] += 1
        ending = f"-{given[name]}"
        candidate = name[: NAME_MAX - len(ending)] + ending
    return candidate
