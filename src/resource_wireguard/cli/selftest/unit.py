"""The functions under it all, in this process: keys, addresses, names, configs, sealed secrets."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resource_wireguard.cli.selftest.runner import Check, Outcome, Unavailable, expect, run_checks

if TYPE_CHECKING:
    from resource_wireguard.store.secrets import FileSecrets

ALICE_PRIVATE = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="
ALICE_PUBLIC = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
"""The key pair of RFC 7748, section 6.1."""

CONFIG = f"""\
[Interface]
PrivateKey = {ALICE_PRIVATE}
Address = 10.13.13.1/24, fd00:1::1/64
ListenPort = 51820
MTU = 1420

[Peer]
PublicKey = {ALICE_PUBLIC}
AllowedIPs = 10.13.13.2/32, fd00:1::2/128
Endpoint = [2001:db8::7]:51820
PersistentKeepalive = 25
"""


def unit_phase() -> list[Outcome]:
    """The checks of 'test unit'."""
    with _scratch() as folder:
        checks: list[Check] = [
            ("key-vector", _vector),
            ("key-generation", lambda: _fresh(folder)),
            ("key-masking", _masking),
            ("addresses", _addresses),
            ("interface-names", _names),
            ("config-round-trip", _round_trip),
            ("config-wg-quick", lambda: _wg_quick(folder)),
            ("sealed-secrets", lambda: _sealed(folder)),
        ]
        return run_checks(checks)


@contextmanager
def _scratch() -> Iterator[str]:
    """A folder in TMPDIR for as long as it is needed."""
    from tempfile import TemporaryDirectory

    place = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - the folder made in it is private
    try:
        folder = TemporaryDirectory(prefix="resource-wireguard-", dir=place)
    except OSError as error:
        message = f"no scratch space in {place}: {error.strerror}"
        raise Unavailable(message, "set TMPDIR to a folder you can write to") from None
    with folder as path:
        yield path


def _vector() -> str:
    from resource_wireguard.model.keys import parse_private_key

    found = str(parse_private_key(ALICE_PRIVATE).public())
    expect(found == ALICE_PUBLIC, f"the public key of RFC 7748 came out as {found}")
    return "public keys come out as in RFC 7748"


def _fresh(folder: str) -> str:
    """Keys of the store's own making; wg(8), where it is installed, must agree on their public half."""
    from shutil import which

    with _secrets(folder) as secrets:
        keys = {secrets.new_private_key() for _ in range(16)}
    expect(len(keys) == 16, "two fresh keys are the same")
    expect(all(key[0] & 7 == 0 and key[31] & 192 == 64 for key in keys), "a fresh key is not clamped")
    if not which("wg"):
        return "fresh keys differ and are clamped"
    from resource_wireguard.system.process import run

    key = keys.pop()
    agreed = run(["wg", "pubkey"], stdin=key.reveal()).stdout.strip() == str(key.public())
    expect(agreed, "wg(8) makes another public key of a fresh key", "see 'wg --version', and reinstall")
    return "fresh keys differ and are clamped, and wg(8) agrees on their public half"


def _masking() -> str:
    from resource_wireguard.model.keys import parse_private_key

    key = parse_private_key(ALICE_PRIVATE)
    shown = f"{key} {key!r} {key:>44}"
    expect(key.reveal() not in shown, "a private key prints itself")
    return "keys do not print themselves"


def _addresses() -> str:
    from resource_wireguard.host.ipam import allocate_address, allocate_prefix

    first = allocate_address("10.13.13.0/24", ["10.13.13.1/24", "10.13.13.3/32"])
    expect(first == "10.13.13.2/24", f"the lowest free address came out as {first}")
    prefix = allocate_prefix("10.13.13.0/24", ["10.13.12.0/23"])
    expect(prefix == "10.13.14.0/24", f"the next free network came out as {prefix}")
    return "free addresses and networks are found"


def _names() -> str:
    from resource_wireguard.model.names import INTERFACE_MAX, interface_name

    names = {interface_name(f"{'headquarters' * 4}{number}") for number in range(50)}
    expect(
        len(names) == 50 and max(map(len, names)) <= INTERFACE_MAX, "interface names clash or are too long"
    )
    return "long tunnel names make short interface names that differ"


def _round_trip() -> str:
    from resource_wireguard.model.formats.wgquick import parse, render

    config = parse(CONFIG)
    expect(parse(render(config)) == config, "a config changes when it is written and read again")
    return "a config that is written and read again is the same"


def _wg_quick(folder: str) -> str:
    """wg-quick(8) is an independent reader, but not one that this program needs."""
    from shutil import which

    from resource_wireguard.model.formats.wgquick import parse, render
    from resource_wireguard.system.process import run

    if not which("wg-quick"):
        return "wg-quick is not installed; this program does not need it"
    path = f"{folder}/selftest.conf"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(render(parse(CONFIG)))
    stripped = run(["wg-quick", "strip", path]).stdout
    expect(
        ALICE_PUBLIC in stripped and "ListenPort = 51820" in stripped, "wg-quick does not read our configs"
    )
    return "wg-quick reads our configs"


def _sealed(folder: str) -> str:
    from resource_wireguard.model.keys import parse_private_key

    key = bytes(parse_private_key(ALICE_PRIVATE))
    with _secrets(folder) as secrets:
        secrets.put("selftest", key)
        expect(secrets.get("selftest") == key, "a sealed secret does not come back")
    for name in ("state.db", "master.key"):
        with open(f"{folder}/store/{name}", "rb") as file:
            expect(key not in file.read(), f"a key lies open in {name}")
    return "secrets come back, and lie sealed on the disk"


@contextmanager
def _secrets(folder: str) -> "Iterator[FileSecrets]":
    """The product's own store of secrets, over a database in the folder."""
    from pathlib import Path

    from resource_wireguard.store.migrations import migrate
    from resource_wireguard.store.secrets import FileSecrets
    from resource_wireguard.store.sqlite import SqliteStore

    store = SqliteStore(Path(folder) / "store" / "state.db")
    try:
        migrate(store, [])
        yield FileSecrets(store, Path(folder) / "store" / "master.key")
    finally:
        store.close()
