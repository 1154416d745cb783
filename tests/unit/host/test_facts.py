"""What is said of a peer follows from its latest handshake and nothing else."""

import pytest
from tests.unit.worlds import key_of

from resource_wireguard.host.facts import Facts, Observation, PeerFacts, peer_state

NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("age", "state"),
    [(None, "never"), (0, "online"), (179, "online"), (180, "idle"), (3599, "idle"), (3600, "offline")],
)
def test_a_peer_ages_from_online_over_idle_to_offline(age: float | None, state: str) -> None:
    peer = PeerFacts("192.0.2.1:1", None if age is None else NOW - age)
    assert peer_state(True, peer, NOW) == state


def test_a_disabled_or_unseen_peer_has_its_own_words() -> None:
    assert peer_state(False, PeerFacts(latest_handshake=NOW), NOW) == "disabled"
    assert peer_state(True, None, NOW) == "never"


def test_fresh_traffic_is_as_good_as_a_handshake() -> None:
    assert peer_state(True, PeerFacts(latest_handshake=NOW - 1000), NOW, fresh_traffic=True) == "online"


def test_a_clock_that_was_set_back_does_not_make_ages_negative() -> None:
    key = key_of("phone")
    facts = Facts(NOW, Observation(peers={("wg-a", key): PeerFacts(latest_handshake=NOW + 50)}))
    assert facts.handshake_age("wg-a", key) == 0.0
