"""Names of tunnels and peers, and the interface names made from them."""

import hashlib
import re

from resource_wireguard.errors import InvalidInput, NotFound

NAME_MAX = 63
"""Characters of a tunnel or peer name: a DNS label (RFC 1035), so that names can be published later."""

INTERFACE_MAX = 15
"""Bytes of a Linux interface name: IFNAMSIZ without its NUL."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)


def check_name(name: str, noun: str) -> str:
    """The name itself; InvalidInput unless it is short, ASCII and free of shell and path signs."""
    shown = name if len(name) <= 40 else f"{name[:40]}…"
    if len(name) > NAME_MAX:
        raise InvalidInput(f"{noun} name '{shown}' has {len(name)} characters", f"use at most {NAME_MAX}")
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{noun} name {shown!r} is not allowed",
            "start with a letter or digit, then letters, digits, '-', '_' and '.'",
        )
    return name


def check_interface(name: str) -> str:
    """An interface name a user chose; InvalidInput where Linux or wg-quick(8) would refuse it."""
    if not _NAME.fullmatch(name) or len(name) > INTERFACE_MAX or name in {"all", "default"}:
        raise InvalidInput(
            f"interface name {name[:40]!r} is not allowed",
            f"use at most {INTERFACE_MAX} letters, digits, '-', '_' and '.'",
        )
    return name


def interface_name(tunnel: str) -> str:
    """The interface of a tunnel: 'home' → 'wg-home', 'wg0' → 'wg0'; long names end in a hash."""
    return _fitting(tunnel if tunnel.startswith("wg") else f"wg-{tunnel}", tunnel)


def bridge_name(prefix: str, namespace: str) -> str:
    """The bridge of a namespace: 'private' → 'wgn-private'; long names end in a hash."""
    return _fitting(f"{prefix}{namespace}", namespace)


def _fitting(plain: str, name: str) -> str:
    if len(plain) <= INTERFACE_MAX:
        return plain
    digest = hashlib.blake2s(name.encode(), digest_size=3).hexdigest()
    return f"{plain[: INTERFACE_MAX - len(digest) - 1]}-{digest}"


def netns_name(namespace: str) -> str:
    """The Linux network namespace of a namespace: 'work' → 'wg-work'."""
    return f"wg-{namespace}"


def not_found(noun: str, name: str, known: list[str], list_command: str) -> NotFound:
    """The error for an unknown name, with the nearest known one as its hint."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"see 'resource-wireguard {list_command}'"
    return NotFound(f"no {noun} named '{name[:NAME_MAX]}'", hint)
