"""Links and the engines behind them: made, changed, removed, adopted after a crash; never foreign ones."""

from collections.abc import Iterator

import pytest
from tests.netns import drivers
from tests.netns.harness import in_namespace

from resource_wireguard.host.diff import Action
from resource_wireguard.host.ownership import LINK_GROUP
from resource_wireguard.host.state import Link
from resource_wireguard.system import netlink
from resource_wireguard.system.messages import NetlinkSocket


@pytest.fixture
def box(engine: str) -> Iterator[drivers.Box]:
    with drivers.box(engine) as box:
        yield box


def test_a_link_is_made_changed_and_removed(box: drivers.Box) -> None:
    assert box.observe().state.objects == {}
    box.settle(box.link())
    shown = box.namespace.link(box.interface)
    assert shown is not None
    assert (shown["ifalias"], shown["mtu"], shown["group"]) == ("resource-wireguard:t", 1420, "default")
    assert "UP" in shown["flags"]

    (changed,) = box.settle(box.link(mtu=1300))
    assert changed.verb == "change"
    assert box.namespace.link(box.interface)["mtu"] == 1300

    box.settle(box.link(mtu=1300, up=False))
    assert "UP" not in box.namespace.link(box.interface)["flags"]

    box.settle()
    assert box.namespace.link(box.interface) is None


def test_what_others_changed_on_a_link_is_seen(box: drivers.Box) -> None:
    box.settle(box.link())
    box.namespace.ip(f"link set {box.interface} mtu 1234 down")
    (change,) = box.plan(box.link())
    assert (change.before.mtu, change.before.up) == (1234, False)
    box.settle(box.link())


def test_a_foreign_link_of_that_name_is_left_alone(box: drivers.Box) -> None:
    box.namespace.ip(f"link add {box.interface} type veth peer name {box.interface[3:]}")
    before = box.namespace.link(box.interface)
    (problem,) = box.refused(box.link(), drivers.device(box.interface))
    assert "is not ours" in problem.message
    assert problem.interface == box.interface
    assert problem.hint
    (problem,) = box.apply(Action("delete", before=box.link()))
    assert "is not ours" in problem.message
    assert box.namespace.link(box.interface) == before


def test_another_agent_knows_the_link(box: drivers.Box) -> None:
    box.settle(box.link())
    box.again()
    assert box.plan(box.link()) == ()
    box.settle()
    assert box.namespace.link(box.interface) is None


def test_a_link_whose_making_was_cut_off_is_adopted(box: drivers.Box) -> None:
    half_make(box)
    assert box.observe().state.of(Link)[box.interface].tunnel == ""
    (change,) = box.settle(box.link())
    assert change.verb == "change"
    assert box.namespace.link(box.interface)["ifalias"] == "resource-wireguard:t"


def test_a_link_whose_making_was_cut_off_is_removed_as_an_orphan(box: drivers.Box) -> None:
    half_make(box)
    (delete,) = box.settle()
    assert delete.verb == "delete"
    assert box.namespace.link(box.interface) is None


def half_make(box: drivers.Box) -> None:
    """What a SIGKILL leaves between the two messages that make a link, or after an engine's start."""
    if box.engine == "kernel":
        kernel = in_namespace(box.namespace.name, lambda: NetlinkSocket(netlink.NETLINK_ROUTE))
        netlink.create_wireguard(kernel, box.interface)
        kernel.close()
        assert box.namespace.link(box.interface)["group"] == str(LINK_GROUP)
        return
    in_namespace(box.namespace.name, lambda: box.host._engines.start(box.interface, "t", lambda: True))
    box.again()
    assert "ifalias" not in box.namespace.link(box.interface)


def test_the_engine_for_new_links_is_told(box: drivers.Box) -> None:
    assert box.observe().engine == box.engine


def test_a_closed_kernel_socket_is_an_incomplete_look(box: drivers.Box) -> None:
    box.settle(box.link())
    box.host._kernel.close()
    seen = box.observe()
    assert not seen.complete
    assert seen.problems
    box.again()


def test_a_link_that_the_kernel_refuses_to_size_is_one_problem_and_mended_later(box: drivers.Box) -> None:
    problems = box.refused(box.link(mtu=2**31 - 1), drivers.device(box.interface))
    assert [problem.interface for problem in problems] == [box.interface]
    box.settle(box.link())
