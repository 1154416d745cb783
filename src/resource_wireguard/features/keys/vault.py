"""Keys and a Vault: keys.migrate, and what keys.rekey is told of a transit key."""

from typing import Literal

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.views import ProblemView
from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.custody import VaultCustody
from resource_wireguard.model.vault import TransitKey, VaultPlace, checked, checked_key


class PlaceGiven(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request says of a Vault: the fields of VaultPlace, each of them only if it is to be changed.

    Names of files are absolute, or 'credential:NAME'. No secret is in it.
    """

    address: str | None = None
    token_file: str | None = None
    role_id: str | None = None
    secret_id_file: str | None = None
    role_mount: str | None = None
    namespace: str | None = None
    ca: str | None = None
    mount: str | None = None
    path: str | None = None


class Migrate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Move all keys into a Vault, or out of it; without a place, into the one in use."""

    to: Literal["vault", "file"]
    place: PlaceGiven = PlaceGiven()


class VaultView(msgspec.Struct, frozen=True):
    """The Vault that keys lie in, how many, and how many are not there; new ones go where keys_in says.

    way_in is 'token' or 'approle'. problem is why it gives nothing now.
    """

    address: str
    namespace: str
    mount: str
    path: str
    way_in: str
    keys_in: str
    inside: int
    outside: int
    problem: ProblemView | None


def move(engine: Engine, request: Migrate) -> int:
    """Move the keys; how many were moved. Going on where another call broke off is the same call."""
    secrets, told = engine.resources.secrets, engine.resources.secrets.custody()
    if request.to == "file":
        moved = secrets.migrate_back(engine.progress)
        engine.journal("", f"keys moved out of the Vault: {moved}")
        return moved
    place = _place(request.place, told.vault.place if told.vault else None)
    moved = secrets.migrate(place, engine.progress)
    custody = secrets.custody().vault
    engine.journal("", f"keys moved to the Vault, {custody.place if custody else ''}: {moved}")
    return moved


def transit_key(given: PlaceGiven, name: str | None, mount: str | None) -> TransitKey | None:
    """The transit key that a request names; None where it says nothing, and the one in use is meant."""
    place = _place(given, None)
    if place is None:
        if name or mount:
            raise InvalidInput("which Vault has the transit key is not said", "name it: --address")
        return None
    named = {key: value for key, value in (("name", name), ("mount", mount)) if value is not None}
    return checked_key(TransitKey(place, **named))


def vault_view(vault: VaultCustody) -> VaultView:
    """For people and programs."""
    place = vault.place
    return VaultView(
        address=place.address,
        namespace=place.namespace,
        mount=place.mount,
        path=place.path,
        way_in="approle" if place.role_id else "token",
        keys_in=vault.keys_in,
        inside=vault.inside,
        outside=vault.outside,
        problem=ProblemView(vault.trouble, vault.hint) if vault.trouble else None,
    )


def _place(given: PlaceGiven, known: VaultPlace | None) -> VaultPlace | None:
    """What was given over what is known; another way in replaces the one there was."""
    fields = {name: value for name, value in msgspec.structs.asdict(given).items() if value is not None}
    if not fields:
        return None
    if known is None and "address" not in fields:
        raise InvalidInput("which Vault is meant is not said", "name it: --address https://HOST:8200")
    if "token_file" in fields:
        fields = {"role_id": "", "secret_id_file": "", **fields}
    elif "role_id" in fields or "secret_id_file" in fields:
        fields = {"token_file": "", **fields}
    return checked(msgspec.structs.replace(known or VaultPlace(""), **fields))
