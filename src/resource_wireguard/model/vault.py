"""Where a Vault is and what in it is ours: what a user says once, checked. No secret is in it."""

import re
from urllib.parse import urlsplit

import msgspec

from resource_wireguard.errors import InvalidInput

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

CREDENTIAL = "credential:"
"""Before the name of a file that systemd hands over (systemd.exec(5), LoadCredential=)."""

_SEGMENTS = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


class VaultPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Vault or OpenBao, the way in, and our place in it.

    The way in is a token in a file, or an AppRole's role id with its secret id in a file; the name of a file
    may be 'credential:NAME', one that systemd hands the agent. ca is a file with the certificates that are
    trusted, '' for those of the system. mount and path say where a KV version 2 engine keeps our entries.
    """

    address: str
    token_file: str = ""
    role_id: str = ""
    secret_id_file: str = ""
    role_mount: str = "approle"
    namespace: str = ""
    ca: str = ""
    mount: str = "secret"
    path: str = "resource-wireguard"

    def __str__(self) -> str:
        return f"{self.mount}/{self.path} at {self.address}"


class TransitKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key of a transit engine, which never leaves its Vault; of the place, only the way in matters."""

    vault: VaultPlace
    name: str = "resource-wireguard"
    mount: str = "transit"


def checked(place: VaultPlace) -> VaultPlace:
    """The same in its canonical form; InvalidInput names what is wrong."""
    paths = {
        name: _path(getattr(place, name), f"--{name.replace('_', '-')}")
        for name in ("mount", "path", "role_mount")
    }
    namespace = _path(place.namespace, "--namespace") if place.namespace.strip("/") else ""
    _check_way_in(place)
    for name in ("token_file", "secret_id_file", "ca"):
        file = getattr(place, name)
        if file and not file.startswith(("/", CREDENTIAL)):
            raise InvalidInput(f"--{name.replace('_', '-')} '{file[:60]}' is no absolute path", "/etc/…")
    return msgspec.structs.replace(place, address=_address(place.address), namespace=namespace, **paths)


def checked_key(key: TransitKey) -> TransitKey:
    """The same in its canonical form; InvalidInput names what is wrong."""
    name, mount = _path(key.name, "--transit-key"), _path(key.mount, "--transit-mount")
    return TransitKey(checked(key.vault), name, mount)


def _path(text: str, option: str) -> str:
    bare = text.strip("/")
    if not _SEGMENTS.fullmatch(bare) or {".", ".."} & set(bare.split("/")) or len(bare) > 255:
        raise InvalidInput(
            f"{option} '{text[:60]}' is no path in a Vault",
            "letters, digits, '-', '_' and '.', parted by '/': wireguard/gateway",
        )
    return bare


def _address(text: str) -> str:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query or url.fragment:
        raise InvalidInput(
            f"--address '{text[:60]}' is no address of a Vault", "https://vault.example.net:8200"
        )
    if url.scheme == "http" and url.hostname not in LOOPBACK:
        raise InvalidInput(
            f"--address '{text[:60]}' would send keys in clear over the network",
            "use https://, and --ca FILE where its certificate is not publicly trusted",
        )
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"{url.scheme}://{host}" + (f":{port}" if port else "") + url.path.rstrip("/")


def _check_way_in(place: VaultPlace) -> None:
    role = bool(place.role_id or place.secret_id_file)
    if role == bool(place.token_file):
        raise InvalidInput(
            "the way into the Vault is not clear",
            "--token-file FILE, or --role-id ID with --secret-id-file FILE",
        )
    if role and not (place.role_id and place.secret_id_file):
        raise InvalidInput("an AppRole is two things", "--role-id ID with --secret-id-file FILE")
