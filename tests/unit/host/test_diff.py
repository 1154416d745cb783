"""A diff is a plan that can be carried out: golden cases for its order, properties for its truth."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.worlds import full_tunnel, key_of, peer_of, private_key_of, run_pass, tunnel_piece, worlds

from resource_wireguard.engine.reconcile import ROUNDS
from resource_wireguard.host.diff import Action, diff
from resource_wireguard.host.render import line_of
from resource_wireguard.host.state import (
    KINDS,
    Device,
    HostState,
    Link,
    NetNamespace,
    Peer,
    Piece,
    Record,
    Sysctl,
    build,
    state_of,
)
from resource_wireguard.model.keys import PresharedKey
from resource_wireguard.system.fake import FakeHost

CASES = Path(__file__).resolve().parents[2] / "cases" / "diff"
KIND_OF = {kind.__name__.lower(): kind for kind in KINDS}


def _key(kind: type, name: str) -> Any:
    """Keys in the cases are plain words."""
    made = {"PublicKey": key_of, "PrivateKey": private_key_of}.get(kind.__name__)
    return made(name) if made else PresharedKey(name.encode().ljust(32, b"?"))


def read_records(path: Path) -> list[Record]:
    """A YAML list of one-word mappings: '- address: {interface: wg-a, address: 10.0.0.1/24}'."""
    return [
        msgspec.convert(fields, KIND_OF[kind], dec_hook=_key)
        for entry in yaml.safe_load(path.read_text()) or []
        for kind, fields in entry.items()
    ]


@pytest.mark.parametrize("case", sorted(CASES.iterdir()), ids=lambda case: case.name)
def test_golden(case: Path) -> None:
    """actual.yaml and desired.yaml make plan.txt; a folder named 'incomplete-…' is an incomplete look."""
    actual, desired = (
        state_of(read_records(case / "actual.yaml")),
        state_of(read_records(case / "desired.yaml")),
    )
    plan = diff(desired, actual, complete=not case.name.startswith("incomplete"))
    assert "".join(f"{line_of(action)}\n" for action in plan) == (case / "plan.txt").read_text()


@given(worlds())
def test_between_equal_states_there_is_nothing_to_do(pieces: list[Piece]) -> None:
    state = build(pieces)
    assert diff(state, state) == ()


@given(worlds())
def test_an_empty_world_is_reached_by_deleting_and_left_by_creating(pieces: list[Piece]) -> None:
    state = build(pieces)
    made, gone = diff(state, HostState()), diff(HostState(), state)
    assert {action.verb for action in made} <= {"create"}
    assert {action.verb for action in gone} <= {"delete"}
    assert len(made) == sum(map(len, state.objects.values()))


@given(worlds(), worlds())
def test_without_a_complete_look_nothing_is_deleted(before: list[Piece], after: list[Piece]) -> None:
    """But for a link that is made anew in another place."""
    plan = diff(build(after), build(before), complete=False)
    made = {
        action.record.key for action in plan if action.verb == "create" and isinstance(action.record, Link)
    }
    assert not [a for a in plan if a.verb == "delete" and a.record.key not in made]


@given(worlds(), worlds())
def test_no_object_is_acted_on_twice(before: list[Piece], after: list[Piece]) -> None:
    """But for a device that lets go of its port before it takes another's, and a link that is made anew."""
    plan = diff(build(after), build(before))
    freed = [a for a in plan if a.after and getattr(a.after, "listen_port", 1) == 0]
    freed += [a for a in plan if a.verb == "delete" and isinstance(a.record, Link)]
    touched = [(type(a.record), a.record.key) for a in plan if a not in freed]
    assert len(touched) == len(set(touched))


def test_a_link_that_is_to_lie_elsewhere_is_made_anew_there_with_all_that_lies_on_it() -> None:
    host = FakeHost()
    run_pass(host, [full_tunnel()])
    inside = tunnel_piece("a", 1, peers=[peer_of("wg-a", "phone", "10.1.0.2/32")], netns=True)
    report = run_pass(host, [inside])
    assert (report.drift, report.problems) == ((), ())
    words = [(action.verb, type(action.record)) for action in report.done]
    first = words.index(("create", NetNamespace))
    assert words[0] == ("delete", Link)
    assert words[first : first + 4] == [("create", kind) for kind in (NetNamespace, Link, Device, Peer)]
    assert run_pass(host, [full_tunnel()]).done[-1] == Action("delete", before=NetNamespace("wg-a", "a"))


def test_two_tunnels_swap_their_ports_in_one_pass() -> None:
    host = FakeHost()
    run_pass(host, [tunnel_piece("a", 1, port=2001), tunnel_piece("b", 2, port=2002)])
    host.applied.clear()
    report = run_pass(host, [tunnel_piece("a", 1, port=2002), tunnel_piece("b", 2, port=2001)])
    assert (report.drift, report.problems) == ((), ())
    assert len(host.applied) == 4


@settings(max_examples=60)
@given(worlds(), worlds())
def test_from_any_state_a_pass_reaches_any_other(before: list[Piece], after: list[Piece]) -> None:
    """Carried out under the kernel's rules, the plans of one pass leave no drift and no orphan."""
    host = FakeHost()
    assert run_pass(host, before).drift == ()
    report = run_pass(host, after)
    assert report.drift == ()
    assert report.problems == ()
    assert without_sysctls(host.observe().state) == without_sysctls(build(after))


@settings(max_examples=50)
@given(worlds(), st.data())
def test_whatever_a_person_removes_comes_back(pieces: list[Piece], data: st.DataObject) -> None:
    host = FakeHost()
    run_pass(host, pieces)
    records = [
        r for records in host.observe().state.objects.values() for r in records.values() if r.removable
    ]
    if records:
        host.tamper(gone=data.draw(st.sampled_from(records)))
    assert run_pass(host, pieces).drift == ()


def test_a_tunnel_is_made_in_one_round() -> None:
    """More rounds would mean that the order of the plan is wrong."""
    host = FakeHost()
    report = run_pass(host, [full_tunnel()])
    assert host.observations == 2 <= ROUNDS
    assert len(host.applied) == len(report.done)


def without_sysctls(state: HostState) -> dict[type[Record], set[Record]]:
    """Sets of records by kind; endpoints that are no longer wanted stay in the kernel, as do sysctls."""
    kinds = [kind for kind in KINDS if kind.removable and kind is not Sysctl]
    return {kind: set(state.of(kind).values()) for kind in kinds}
