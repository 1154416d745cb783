"""Where the keys of a host lie, and what opens them: told to people, and free of keys."""

import msgspec


class Custody(msgspec.Struct, frozen=True):
    """source is 'file', 'credential', 'passphrase' …; place is where the master key lies, for people.

    made_at is when the master key was made (Unix seconds), None where that is not known. unavailable and
    hint say why no key can be had, and the way out; '' while they can.
    """

    source: str
    place: str
    made_at: float | None
    secrets: int
    unavailable: str = ""
    hint: str = ""
