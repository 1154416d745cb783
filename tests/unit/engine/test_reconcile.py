"""A pass converges, says what is left, keeps its hands off what is foreign, and may be killed anywhere."""

import errno
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.worlds import full_tunnel, key_of, peer_of, run_pass, tunnel_piece, world_of, worlds

from resource_wireguard.engine.reconcile import ROUNDS, look, reconcile
from resource_wireguard.errors import ConflictError
from resource_wireguard.host.diff import Plan
from resource_wireguard.host.facts import Problem
from resource_wireguard.host.render import lines_of
from resource_wireguard.host.state import Address, Device, Link, Peer, Piece, Route, Rule, Sysctl
from resource_wireguard.model.specs import Specs
from resource_wireguard.system.fake import FakeHost, Killed
from resource_wireguard.system.fake_kernel import ForeignTable, UdpSocket

FOREIGN = (
    Link("wg-theirs", "", "kernel", 1420),
    Address("wg-theirs", "10.200.0.1/24"),
    Route("10.201.0.0/16", "wg-theirs"),
    Rule(100, 4, 100),
    ForeignTable("inet", "filter"),
    UdpSocket(53),
)


def host_with_neighbours() -> FakeHost:
    host = FakeHost()
    host.place_foreign(*FOREIGN)
    return host


def test_the_first_pass_makes_everything_and_the_second_has_nothing_to_do() -> None:
    host = host_with_neighbours()
    first = run_pass(host, [full_tunnel("a", 1), full_tunnel("b", 2)])
    assert (first.drift, first.problems) == ((), ())
    host.applied.clear()
    assert run_pass(host, [full_tunnel("a", 1), full_tunnel("b", 2)]).done == ()
    assert host.applied == []


def test_looking_changes_nothing() -> None:
    host = host_with_neighbours()
    report = look(world_of(host), Specs({"pieces": (full_tunnel(),)}), {})
    assert "create interface wg-a: kernel, mtu 1420, up" in lines_of(report.drift)
    assert host.applied == []


def test_a_tunnel_that_is_refused_does_not_stop_the_others() -> None:
    host = FakeHost()
    host.refuse(Link, "wg-b")
    report = run_pass(host, [full_tunnel("a", 1), full_tunnel("b", 2), full_tunnel("c", 3)])
    assert set(host.observe().state.of(Link)) == {"wg-a", "wg-c"}
    assert report.drift_of("a") == report.drift_of("c") == ()
    assert "create interface wg-b: kernel, mtu 1420, up" in lines_of(report.drift_of("b"))
    assert report.problems_of("wg-b") == (Problem("interface wg-b: Operation not permitted", "", "wg-b"),)
    assert report.problems_of("wg-a") == ()


def test_one_refused_object_does_not_stop_the_others_of_its_tunnel() -> None:
    host = FakeHost()
    host.refuse(Route, "wg-a", errno.EINVAL)
    report = run_pass(host, [full_tunnel()])
    assert lines_of(report.drift) == ["create route 172.16.1.0/24 dev wg-a"]
    assert len(host.observe().state.of(Peer)) == 2
    host.relent()
    assert run_pass(host, [full_tunnel()]).drift == ()


def test_a_pass_gives_up_on_what_does_not_move_instead_of_hammering() -> None:
    host = FakeHost()
    host.refuse(Link)
    run_pass(host, [full_tunnel()])
    links = [action for action in host.applied if isinstance(action.record, Link)]
    assert len(links) < ROUNDS


def test_a_foreign_interface_of_the_wanted_name_is_left_alone_and_named() -> None:
    host = FakeHost()
    host.place_foreign(Link("wg-a", "", "kernel", 1400), Address("wg-a", "10.1.0.1/24"))
    before = host.foreign()
    report = run_pass(host, [full_tunnel("a", 1), full_tunnel("b", 2)])
    assert host.foreign() == before
    assert report.problems_of("wg-a")[0].hint == "it exists and is not ours"
    assert report.drift_of("b") == ()


def test_a_taken_port_is_a_problem_until_it_is_free() -> None:
    host = FakeHost()
    host.place_foreign(UdpSocket(51821))
    report = run_pass(host, [full_tunnel("a", 1), full_tunnel("b", 2)])
    assert [p.message for p in report.problems] == ["device wg-a: Address already in use"]
    assert report.drift_of("b") == ()


def test_an_incomplete_look_repairs_but_removes_nothing() -> None:
    host = FakeHost()
    run_pass(host, [full_tunnel("a", 1), full_tunnel("b", 2)])
    host.mute("wg-a")
    host.tamper(gone=Address("wg-b", "10.2.0.1/24"))
    report = run_pass(host, [full_tunnel("b", 2)])
    state = host.observe().state
    assert "wg-a" in state.of(Link)
    assert ("wg-b", "10.2.0.1/24") in state.of(Address)
    assert Problem("engine of wg-a does not answer", "", "wg-a") in report.problems
    host.relent()
    assert run_pass(host, [full_tunnel("b", 2)]).drift == ()
    assert set(host.observe().state.of(Link)) == {"wg-b"}


def test_two_that_claim_one_thing_stop_a_pass_before_it_begins() -> None:
    host = FakeHost()
    with pytest.raises(ConflictError):
        run_pass(host, [tunnel_piece("a", 1, port=1), tunnel_piece("b", 2, port=1)])
    assert host.applied == []


def test_roaming_is_not_drift() -> None:
    host = FakeHost()
    piece = full_tunnel()
    run_pass(host, [piece])
    host.handshake("wg-a", key_of("phone"), "198.51.100.7:40000", at=1_000_000.0)
    assert run_pass(host, [piece]).done == ()
    facts = look(world_of(host), Specs({"pieces": (piece,)}), {}).facts
    assert facts.handshake_age("wg-a", key_of("phone")) == 0.0
    assert facts.handshake_age("wg-a", key_of("site")) is None


def test_a_swap_of_allowed_ips_needs_one_round() -> None:
    host = FakeHost()
    before = [peer_of("wg-a", "ann", "10.1.0.2/32"), peer_of("wg-a", "ben", "10.1.0.3/32")]
    after = [peer_of("wg-a", "ann", "10.1.0.3/32"), peer_of("wg-a", "ben", "10.1.0.2/32")]
    run_pass(host, [tunnel_piece("a", 1, peers=before)])
    host.applied.clear()
    assert run_pass(host, [tunnel_piece("a", 1, peers=after)]).drift == ()
    assert len(host.applied) == 2


def test_an_address_that_replaces_the_first_of_its_subnet_survives() -> None:
    """Linux removes an address's secondaries with it: the next round has to see that, and does."""
    host = FakeHost()
    run_pass(host, [tunnel_piece("a", 1, addresses=("10.1.0.1/24",))])
    assert run_pass(host, [tunnel_piece("a", 1, addresses=("10.1.0.2/24",))]).drift == ()
    assert set(host.observe().state.of(Address)) == {("wg-a", "10.1.0.2/24")}
    assert Route("172.16.1.0/24", "wg-a").key in host.observe().state.of(Route)


def test_old_values_of_sysctls_are_told_before_they_are_overwritten() -> None:
    host = FakeHost()
    told: list[Plan] = []
    reconcile(world_of(host), Specs({"pieces": (full_tunnel(),)}), {}, before=told.append)
    overwritten = [a.before for plan in told for a in plan if isinstance(a.before, Sysctl)]
    assert overwritten == [Sysctl("net.ipv4.ip_forward", "0")]


def test_known_facts_stand_in_for_the_first_look_but_never_for_the_last() -> None:
    host = FakeHost()
    specs = Specs({"pieces": (full_tunnel(),)})
    facts = look(world_of(host), specs, {}).facts
    host.observations = 0
    report = reconcile(world_of(host), specs, {}, known=facts)
    assert report.drift == ()
    assert host.observations == 1


def test_stale_facts_cannot_turn_a_pass_into_a_lie() -> None:
    host = FakeHost()
    specs = Specs({"pieces": (full_tunnel(),)})
    run_pass(host, [full_tunnel()])
    facts = look(world_of(host), specs, {}).facts
    host.tamper(gone=host.observe().state.of(Link)["wg-a"])
    assert reconcile(world_of(host), specs, {}, known=facts).drift == ()
    assert "wg-a" in host.observe().state.of(Link)


# -- killed anywhere --


def steps_from(before: Sequence[Piece], after: Sequence[Piece]) -> int:
    host = prepared(before)
    run_pass(host, after)
    return len(host.applied)


def prepared(pieces: Sequence[Piece]) -> FakeHost:
    host = host_with_neighbours()
    run_pass(host, pieces)
    host.applied.clear()
    return host


def assert_a_kill_heals(before: Sequence[Piece], after: Sequence[Piece], position: int) -> None:
    """The next start converges, touches nothing foreign and leaves nothing that nobody wants."""
    host, whole = prepared(before), prepared(before)
    foreign = host.foreign()
    host.stop_after = position
    with pytest.raises(Killed):
        run_pass(host, after)
    host.stop_after = None
    report = run_pass(host, after)
    run_pass(whole, after)
    assert (report.drift, report.problems) == ((), ())
    assert host.observe().state.of(Device) == whole.observe().state.of(Device)
    for kind in (Link, Peer, Address, Route, Rule):
        assert set(host.observe().state.of(kind)) == set(whole.observe().state.of(kind))
    assert host.foreign() == foreign


BEFORE = [full_tunnel("a", 1), full_tunnel("b", 2)]
AFTER = [
    tunnel_piece("a", 1, addresses=("10.1.0.9/24",), mtu=1380, port=4000),
    full_tunnel("c", 3),
    tunnel_piece("d", 4, port=51822),
]


@pytest.mark.parametrize("position", range(1, 1 + steps_from([], BEFORE)))
def test_killed_after_any_action_of_a_first_start_the_next_start_converges(position: int) -> None:
    assert_a_kill_heals([], BEFORE, position)


@pytest.mark.parametrize("position", range(1, 1 + steps_from(BEFORE, AFTER)))
def test_killed_after_any_action_of_a_change_the_next_start_converges(position: int) -> None:
    assert_a_kill_heals(BEFORE, AFTER, position)


@pytest.mark.parametrize("position", range(1, 1 + steps_from(BEFORE, [])))
def test_killed_after_any_action_of_a_removal_the_next_start_converges(position: int) -> None:
    assert_a_kill_heals(BEFORE, [], position)


@settings(max_examples=40)
@given(worlds(), worlds(), st.data())
def test_killed_between_any_two_states_the_next_start_converges(
    before: list[Piece], after: list[Piece], data: st.DataObject
) -> None:
    steps = steps_from(before, after)
    if steps:
        assert_a_kill_heals(before, after, data.draw(st.integers(1, steps)))
