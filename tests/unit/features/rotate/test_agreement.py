"""What a peer's statements come to, in whatever order, as often as they come, and however many are lost."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.worlds import key_of

from resource_wireguard.features.rotate.agreement import Known, Verdict, judge
from resource_wireguard.model.keys import PublicKey

OLD, NEW, NEXT, OURS, THIRD = (key_of(name) for name in ("old", "new", "next", "ours", "third"))
NOBODYS: frozenset[PublicKey] = frozenset({OURS, THIRD})


def stated(*keys: PublicKey) -> dict[PublicKey, int]:
    return dict.fromkeys(keys, 51820)


def heard(known: Known, *keys: PublicKey) -> Verdict:
    return judge(known, stated(*keys), NOBODYS)


def test_a_new_key_beside_the_known_one_is_taken_in() -> None:
    assert heard(Known(OLD), OLD, NEW) == Verdict(take_in=NEW)


def test_the_same_again_changes_nothing() -> None:
    assert heard(Known(OLD, {NEW}), OLD, NEW).nothing
    assert heard(Known(OLD), OLD).nothing
    assert heard(Known(NEW, {NEW}, {NEW}), NEW).nothing


def test_a_key_alone_takes_the_known_ones_place_once_it_has_shaken_hands() -> None:
    assert heard(Known(OLD, {NEW}), NEW).why == "the key that is to stay has not shaken hands yet"
    assert heard(Known(OLD, {NEW}, {NEW}), NEW) == Verdict(promote=NEW)


def test_what_is_no_longer_stated_is_sent_away() -> None:
    assert heard(Known(OLD, {NEW}, {NEW}), OLD) == Verdict(send_away=frozenset({NEW}))
    assert heard(Known(NEW, {NEW, NEXT}, {NEW}), NEW) == Verdict(send_away=frozenset({NEXT}))


def test_the_next_rotation_may_begin_while_the_last_ones_guest_still_sits_on_its_side() -> None:
    assert heard(Known(NEW, {NEW}, {NEW}), NEW, NEXT) == Verdict(take_in=NEXT)
    verdict = heard(Known(NEW, {NEW, NEXT}, {NEW, NEXT}), NEXT)
    assert verdict == Verdict(promote=NEXT, send_away=frozenset({NEW}))


def test_a_stranger_among_keys_is_refused_unless_it_comes_beside_a_known_one() -> None:
    assert heard(Known(OLD), NEW).why == "none of these keys is known here"
    assert heard(Known(OLD), NEW, NEXT).why == "none of these keys is known here"
    assert heard(Known(OLD, {NEW}, {NEW}), NEW, NEXT).why


def test_keys_of_others_are_refused() -> None:
    for key in NOBODYS:
        assert heard(Known(OLD), OLD, key).why == "one of these keys is in use already"


class Host:
    """The side that hears: does what it is told to, as exchange.hear() does."""

    def __init__(self) -> None:
        self.official, self.guests = OLD, set[PublicKey]()

    def hear(self, keys: Sequence[PublicKey], alive: set[PublicKey]) -> bool:
        verdict = heard(Known(self.official, frozenset(self.guests), self.guests & alive), *keys)
        if verdict.take_in:
            self.guests.add(verdict.take_in)
        self.official = verdict.promote or self.official
        self.guests -= verdict.send_away
        return not verdict.why


steps = st.lists(st.sampled_from(["rotate", "end", "back", "lose", "lose answer", "again"]), max_size=40)


@given(steps)
def test_both_sides_agree_in_the_end_whatever_is_lost_or_comes_twice(life: list[str]) -> None:
    """The speaker ends or goes back only when it likes; what it says is always the keys it has."""
    host, fresh = Host(), iter(key_of(f"key{number}") for number in range(100))
    keys: list[PublicKey] = [OLD]
    for step in life:
        known = host.guests | {host.official}
        if step == "rotate" and len(keys) == 1 and host.official == keys[0]:
            keys.append(next(fresh))
        elif step == "end" and len(keys) == 2 and keys[1] in known:
            del keys[0]
        elif step == "back" and len(keys) == 2 and host.official == keys[0]:
            del keys[1]
        if step not in ("lose",):
            host.hear(keys, set(keys))
    assert host.hear(keys, set(keys))
    assert host.official in keys
    assert host.guests <= set(keys)
    if len(keys) == 1:
        assert host.official == keys[0]
