"""New keys for tunnels and peers, while their packets go on.

    tables.py    the only SQL: rotations that run and that were, further devices and keys
    keys.py      a tunnel's keys: a second generation, which takes over or is withdrawn
    peers.py     a peer's key beside its old one; preshared keys
    progress.py  who has moved, and what is left to do: what the bus shows
    commands.py  the rotate.* commands
    watch.py     the source that sees peers move, and ends rotations
    cli.py       the pages of the command line

Schedules:
    schedule.py         when keys are due; pure
    schedule_tables.py  schedules and their counts in the store
    scheduling.py       the rotate.schedule commands, and the source that starts what is due

Between two agents (docs/exchange.md):
    messages.py      what is said, as bytes
    agreement.py     what a peer's statement comes to; pure
    known_keys.py    what each peer's agent knows of our keys, where both ends may change theirs at once
    limits.py        how much of it is done
    guest_tables.py  what peers have said, in the store
    wishes.py        a peer's agent asked to make the peer's new key
    wish_tables.py   what comes of that, in the store
    offers.py        a new preshared key offered to a peer's agent
    offered.py       one that a peer's agent offers
    trials.py        what handshakes and time make of either
    preshared.py     what these three share; preshared_tables.py: in the store
    exchange.py      what is done about it, and what is to be said
    conversation.py  the source that listens, asks and repeats

Where a peer's packets go meanwhile is compiled with its tunnel: see Further in model/specs.py.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resource_wireguard.engine.feature import Feature

NAME = "rotate"

GROUPS = {"rotate": "New keys for tunnels and peers, without losing a packet."}


def feature() -> "Feature":
    """Rotation, as the registry lists it."""
    from resource_wireguard.engine.feature import Feature
    from resource_wireguard.features.rotate import (
        commands,
        guest_tables,
        preshared_tables,
        schedule_tables,
        scheduling,
        tables,
    )
    from resource_wireguard.features.rotate.conversation import converse
    from resource_wireguard.features.rotate.watch import follow

    return Feature(
        name=NAME,
        migrations=(
            *tables.MIGRATIONS,
            schedule_tables.MIGRATION,
            guest_tables.MIGRATION,
            guest_tables.MIGRATION_SETTLED,
            preshared_tables.MIGRATION,
        ),
        load=tables.FurtherCache().load,
        commands=(*commands.COMMANDS, *scheduling.COMMANDS),
        sources=(follow, scheduling.run_schedules, converse),
        recorded=(schedule_tables.COUNTS, *guest_tables.LEARNED),
    )
