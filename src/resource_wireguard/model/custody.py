"""Where the keys of a host lie, and what opens them: told to people, and free of keys."""

import msgspec

from resource_wireguard.model.vault import VaultPlace


class VaultCustody(msgspec.Struct, frozen=True):
    """Secrets in a Vault: where, whether new ones go there too ('vault') or not any more ('file').

    inside and outside count the secrets there and here: both at once while they move. trouble and hint say
    why the Vault gives nothing now; '' while it does.
    """

    place: VaultPlace
    keys_in: str
    inside: int
    outside: int
    trouble: str = ""
    hint: str = ""


class Custody(msgspec.Struct, frozen=True):
    """source is 'file', 'credential', 'passphrase' …; place is where the master key lies, for people.

    made_at is when the master key was made (Unix seconds), None where that is not known. unavailable and
    hint say why no key can be had, and the way out; '' while they can. vault is None where none is used.
    """

    source: str
    place: str
    made_at: float | None
    secrets: int
    unavailable: str = ""
    hint: str = ""
    vault: VaultCustody | None = None
