"""The keys of wg(8) and wg-quick(8): where each may stand, and how its value reads.

Readers take the text after '=' and raise InvalidInput. What they raise is never shown, because it repeats
the value, and a value on the wrong line may be a private key; the field's own words are shown instead.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.formats.config import AUTO, OFF
from resource_wireguard.model.keys import (
    PresharedKey,
    parse_preshared_key,
    parse_private_key,
    parse_public_key,
)
from resource_wireguard.model.net import (
    Endpoint,
    parse_address,
    parse_endpoint,
    parse_interface_address,
    parse_mtu,
    parse_prefix,
)

UINT16, UINT32 = 2**16 - 1, 2**32 - 1

_NUMBER = re.compile(r"0x[0-9a-f]{1,8}|[0-9]{1,10}", re.IGNORECASE)
_TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", re.ASCII)
_SCOPE = re.compile(r"[A-Za-z0-9_.-]{1,15}", re.ASCII)
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z)~?(\.|{_LABEL}(\.{_LABEL})*\.?)")
_DNS_ADDRESS = re.compile(r"[0-9.]*[0-9][0-9.]*|.*:.*")
"""What wg-quick(8) takes for a server; any other word is a search domain."""


class Field(NamedTuple):
    """One key as the man pages spell it; lists may repeat, and whatever wg-quick reads may be empty."""

    key: str
    read: Callable[[str], Any]
    wants: str
    hint: str
    repeats: bool = False
    may_be_empty: bool = False


def _invalid() -> InvalidInput:
    return InvalidInput("not understood")


def _number(text: str, least: int, most: int) -> int:
    """A decimal or 0x number as wg(8) writes them; stricter than int(), which takes '1_0' and '+5'."""
    if not _NUMBER.fullmatch(text):
        raise _invalid()
    number = int(text, 16) if text[:2].lower() == "0x" else int(text)
    if not least <= number <= most:
        raise _invalid()
    return number


def _number_or_off(most: int) -> Callable[[str], int]:
    return lambda text: 0 if text.lower() == OFF else _number(text, 0, most)


def _preshared_key(text: str) -> PresharedKey | None:
    key = parse_preshared_key(text)
    return key if any(key) else None  # zeros are how the kernel says "no key"


def _addresses(text: str) -> tuple[str, ...]:
    words = text.replace(",", " ").split()
    if any("%" in word for word in words):
        raise _invalid()
    return tuple(parse_interface_address(word) for word in words)


def _dns(text: str) -> tuple[str, ...]:
    return tuple(_dns_word(word) for word in text.replace(",", " ").split())


def _dns_word(word: str) -> str:
    if is_dns_address(word):
        if "%" in word:
            raise _invalid()
        return parse_address(word)
    if not _DOMAIN.fullmatch(word):
        raise _invalid()
    return word


def is_dns_address(word: str) -> bool:
    """Whether wg-quick(8) takes a word of DNS for a server rather than for a search domain."""
    return bool(_DNS_ADDRESS.fullmatch(word))


def _allowed_ips(text: str) -> tuple[str, ...]:
    """Prefixes in the order of the file; '-' in front is kept, it takes an earlier one back (wg(8), 2025)."""
    words = "".join(text.split()).split(",")
    return tuple(_allowed_ip(word) for word in words if word)


def _allowed_ip(word: str) -> str:
    sign, word = (word[0], word[1:]) if word[0] in "+-" else ("", word)
    address, slash, length = word.partition("/")
    if "%" in address or (slash and not _NUMBER.fullmatch(length)):
        raise _invalid()  # ipaddress would take netmasks and scopes, which wg does not
    try:
        network = ipaddress.ip_network(word, strict=False)
    except ValueError:
        raise _invalid() from None
    return f"{sign.strip('+')}{parse_prefix(str(network))}"


def fold_allowed_ips(words: Iterable[str]) -> tuple[str, ...]:
    """What is left of a peer's prefixes when all its lines are applied, each once."""
    kept: dict[str, None] = {}
    for word in words:
        if word.startswith("-"):
            kept.pop(word[1:], None)
        else:
            kept[word] = None
    return tuple(kept)


def _endpoint(text: str) -> Endpoint:
    """As wg(8): the port follows the last colon, so a bare IPv6 host is understood too."""
    host, _, port = "".join(text.split()).rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    scope = host.partition("%")
    if scope[1] and not _SCOPE.fullmatch(scope[2]):
        raise _invalid()
    number = _number(port, 1, UINT16)
    return parse_endpoint(f"[{host}]:{number}" if ":" in host else f"{host}:{number}")


def _table(text: str) -> str:
    if text.lower() in (AUTO, OFF):
        return text.lower()
    if text[0].isdigit():
        return str(_number(text, 1, UINT32))
    if not _TABLE_NAME.fullmatch(text):
        raise _invalid()
    return text


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise _invalid()
    return text.lower() == "true"


_KEY_HINT = "a key is 44 characters of base64, ending in '='"


def _hook(key: str) -> Field:
    return Field(key, str, "is not a command", "write one shell command", repeats=True, may_be_empty=True)


def _by_lower(*fields: Field) -> dict[str, Field]:
    return {field.key.lower(): field for field in fields}


HOOKS = ("PreUp", "PostUp", "PreDown", "PostDown")

INTERFACE = _by_lower(
    Field("PrivateKey", parse_private_key, "is not a WireGuard key", _KEY_HINT),
    Field(
        "ListenPort",
        lambda text: _number(text, 0, UINT16) or None,
        "is not a UDP port",
        "use a number from 1 to 65535",
    ),
    Field(
        "FwMark",
        _number_or_off(UINT32),
        "is not a mark of 32 bits",
        "write a number, hexadecimal after 0x, or 'off'",
    ),
    Field(
        "Address",
        _addresses,
        "is not an address that an interface can have",
        "write it as 10.13.13.1/24, several with commas",
        repeats=True,
        may_be_empty=True,
    ),
    Field(
        "DNS",
        _dns,
        "is neither an address nor a domain",
        "write servers and search domains with commas, as 10.13.13.1, example.org",
        repeats=True,
        may_be_empty=True,
    ),
    Field(
        "MTU",
        lambda text: parse_mtu(_number(text, 0, UINT16)),
        "is not a size of packets",
        "use 576 to 65535 bytes, or remove the line to have it found",
        may_be_empty=True,
    ),
    Field(
        "Table",
        _table,
        "is not a routing table",
        "use 'auto', 'off', a table's number or its name in rt_tables",
        may_be_empty=True,
    ),
    Field("SaveConfig", _truth, "is neither true nor false", "write 'true' or 'false'"),
    *(_hook(key) for key in HOOKS),
)

PEER = _by_lower(
    Field("PublicKey", parse_public_key, "is not a WireGuard key that can be used", _KEY_HINT),
    Field("PresharedKey", _preshared_key, "is not a WireGuard key", _KEY_HINT),
    Field(
        "AllowedIPs",
        _allowed_ips,
        "is not a list of IP prefixes",
        "write it as 10.13.13.2/32, fd00::2/128",
        repeats=True,
        may_be_empty=True,
    ),
    Field(
        "Endpoint",
        _endpoint,
        "is not a host and a port",
        "write it as vpn.example.org:51820 or [fd00::1]:51820",
    ),
    Field(
        "PersistentKeepalive",
        _number_or_off(UINT16),
        "is not a number of seconds",
        "use 1 to 65535, or 'off'; 25 keeps most NATs open",
    ),
)
