"""What to make of a peer's statement about its keys. Pure, and the same however often it is made.

A key is taken in beside the known one first (a guest, on a device of its own), and only when it has shaken
hands, which proves that the speaker holds its private half, can it take the known one's place.
"""

from collections.abc import Mapping, Set

import msgspec

from resource_wireguard.model.keys import PublicKey


class Known(msgspec.Struct, frozen=True):
    """A peer's key by our spec, its guests, and those guests whose session lives."""

    official: PublicKey
    guests: Set[PublicKey] = frozenset()
    proven: Set[PublicKey] = frozenset()


class Verdict(msgspec.Struct, frozen=True):
    """What is to be done: a key to take in, one to make the peer's own, guests to send away. why: refused.

    waits: nothing, but the peer has a new key to tell when ours is settled with it.
    """

    take_in: PublicKey | None = None
    promote: PublicKey | None = None
    send_away: frozenset[PublicKey] = frozenset()
    why: str = ""
    waits: bool = False

    @property
    def nothing(self) -> bool:
        """Whether all is so already."""
        return not (self.take_in or self.promote or self.send_away)


def judge(known: Known, stated: Mapping[PublicKey, int], ours: Set[PublicKey]) -> Verdict:
    """stated: the key that is to stay comes last. ours are keys that can be nobody's new one: our own, and
    those of the tunnel's other peers."""
    listed, last = frozenset(stated), list(stated)[-1]
    new = listed - {known.official} - known.guests
    if listed & ours:
        return Verdict(why="one of these keys is in use already")
    if len(new) == len(listed):
        return Verdict(why="none of these keys is known here")
    if new and known.official == last:
        return Verdict(why="the key of before stays for now", waits=True)
    if known.official in listed:
        return Verdict(
            take_in=next(iter(new), None), send_away=frozenset(known.guests - listed - {known.official})
        )
    proven = [key for key in listed & known.guests if key in known.proven]
    if new or len(proven) != 1:
        return Verdict(why="the key that is to stay has not shaken hands yet")
    return Verdict(promote=proven[0], send_away=frozenset(known.guests - listed))
