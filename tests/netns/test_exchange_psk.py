"""A new preshared key between two hosts with our agent: both kernels end with it, and no packet is lost."""

import contextlib
import time
from collections.abc import Iterator

import pytest
from tests.netns.harness import Lab, Pinger, PlainPeer, wait_until
from tests.netns.test_exchange import A_INSIDE, PORT, Site, two_sites

AGREED_WITHIN = 30.0
TRIED_WITHIN = 60.0  # 15 s with each key, and a handshake is tried every 5 s
SETTLED = 5.0
ASKED, ALONE = "its agent is asked", "in use here; its agent has not answered"
OFFERED, BOTH = "its agent may use it at any time", "both have it, in use with the next handshake"


def far_end(site: Site) -> PlainPeer:
    """The other site as the device of this one has it."""
    (peer,) = site.namespace.wg(site.shown()["interface"]).peers.values()
    return peer


def in_kernel(site: Site) -> str | None:
    return far_end(site).preshared_key


def states(site: Site) -> list[str]:
    """What has come of each rotation, the latest first."""
    return [past["outcome"] for past in site.agent.call("rotate.history", tunnel=site.tunnel)]


def is_open(site: Site, state: str) -> bool:
    return states(site)[:1] == [state]


def agree(a: Site, b: Site) -> bool:
    """Whether both kernels have one key, and neither agent anything else to do."""
    return bool(in_kernel(a)) and in_kernel(a) == in_kernel(b) and a.agent.settled() and b.agent.settled()


def shake_anew(site: Site) -> None:
    """The device of a site is taken away, and its sessions with it: the next one is made by a handshake."""
    interface = site.shown()["interface"]
    site.namespace.ip(f"link delete {interface}")
    wait_until(lambda: site.interfaces() == {interface}, AGREED_WITHIN, "a new device")
    wait_until(site.agent.settled, AGREED_WITHIN, "all that lies on it")

    def shook() -> bool:
        return site.namespace.ping(A_INSIDE) and far_end(site).latest_handshake > 0

    wait_until(shook, TRIED_WITHIN, "a handshake")


def complete(a: Site, b: Site) -> None:
    """A handshake is made, late enough not to be one with the key before, and both agents see it."""
    changed = time.monotonic()
    wait_until(lambda: time.monotonic() > changed + SETTLED + 1, what="a handshake that counts")
    shake_anew(b)
    wait_until(lambda: is_open(a, "complete") and is_open(b, "complete"), AGREED_WITHIN, "it to be seen")


@contextlib.contextmanager
def silenced(site: Site) -> Iterator[None]:
    """Nothing that the agent of a site is told inside the tunnel gets to it."""
    rules = (
        f"table inet deaf {{ chain in {{ type filter hook input priority -300; udp dport {PORT} drop; }}; }}"
    )
    site.namespace.nft(rules)
    try:
        yield
    finally:
        site.namespace.nft("delete table inet deaf")


@contextlib.contextmanager
def offered(a: Site, b: Site) -> Iterator[None]:
    """A's offer has got to B, whose answers do not get to A."""
    with silenced(a):
        assert a.agent.call("rotate.psk", tunnel=a.tunnel, peer=a.peer)["asking"]
        wait_until(lambda: is_open(b, OFFERED), AGREED_WITHIN, "the offer to be heard")
        yield


def test_both_kernels_have_the_new_key_and_no_packet_is_lost(lab: Lab) -> None:
    with two_sites(lab) as (a, b):
        assert b.namespace.ping(A_INSIDE)
        with Pinger(b.namespace, A_INSIDE, per_second=200) as ping:
            done = a.agent.cli("rotate", "psk", a.tunnel, a.peer)
            assert done.returncode == 0, done.stderr
            assert "note: the agent of 'b' has the new key too: nothing is left to do" in done.stderr
            assert BOTH in done.stdout
            assert agree(a, b)
        assert ping.lost == 0
        assert (states(a), states(b)) == ([BOTH], [BOTH])
        complete(a, b)
        assert agree(a, b)


def test_one_agent_holds_the_key_and_its_answers_are_lost(lab: Lab) -> None:
    with two_sites(lab) as (a, b):
        assert b.namespace.ping(A_INSIDE)
        with Pinger(b.namespace, A_INSIDE, per_second=200) as ping:
            with offered(a, b):
                assert is_open(a, ASKED)
            wait_until(lambda: is_open(a, BOTH) and agree(a, b), AGREED_WITHIN, "both to have it")
        assert ping.lost == 0
        assert (states(a), states(b)) == ([BOTH], [BOTH])


@pytest.mark.parametrize("killed", ["a", "b"])
def test_an_agent_is_killed_between_the_offer_and_the_use(lab: Lab, killed: str) -> None:
    with two_sites(lab) as (a, b):
        assert b.namespace.ping(A_INSIDE)
        with Pinger(b.namespace, A_INSIDE, per_second=200) as ping:
            with offered(a, b):
                (a if killed == "a" else b).agent.kill()
            (a if killed == "a" else b).agent.start()
            wait_until(lambda: is_open(b, BOTH) and agree(a, b), AGREED_WITHIN, "both to have it")
        assert ping.lost == 0
        wait_until(lambda: states(a) == states(b) == [BOTH], AGREED_WITHIN, "both to know")


def test_the_word_that_it_is_in_use_never_comes(lab: Lab) -> None:
    """A has decided, B has not heard of it, and their session is gone: B tries its two keys by turns."""
    with two_sites(lab) as (a, b):
        assert b.namespace.ping(A_INSIDE)
        with contextlib.ExitStack() as stack:
            with offered(a, b):
                stack.enter_context(silenced(b))
            wait_until(lambda: is_open(a, ALONE), AGREED_WITHIN, "A to decide")
            assert is_open(b, OFFERED)
            assert in_kernel(a) != in_kernel(b)
            shake_anew(b)
            assert in_kernel(a) == in_kernel(b)
            wait_until(lambda: is_open(a, "complete"), AGREED_WITHIN, "A to see it")
        complete(a, b)
        assert agree(a, b)


def test_both_begin_at_once(lab: Lab) -> None:
    with two_sites(lab) as (a, b):
        assert b.namespace.ping(A_INSIDE)
        with Pinger(b.namespace, A_INSIDE, per_second=200) as ping:
            with silenced(a), silenced(b):
                for site in (a, b):
                    assert site.agent.call("rotate.psk", tunnel=site.tunnel, peer=site.peer)["asking"]
            wait_until(lambda: agree(a, b), AGREED_WITHIN, "both to have one key")
            wait_until(lambda: is_open(a, BOTH) and is_open(b, BOTH), AGREED_WITHIN, "both to know")
        assert ping.lost == 0


def test_an_agent_that_does_not_answer_is_told_when_it_is_back(lab: Lab) -> None:
    with two_sites(lab) as (a, b):
        assert b.namespace.ping(A_INSIDE)
        b.agent.terminate()
        with Pinger(b.namespace, A_INSIDE, per_second=200) as ping:
            done = a.agent.cli("rotate", "psk", a.tunnel, a.peer)
            assert done.returncode == 0, done.stderr
            assert "note: the agent of 'b' has not answered; it is still told" in done.stderr
            assert "note: 'b' needs the new key by" in done.stderr
            assert ALONE in done.stdout
            refused = a.agent.cli("rotate", "psk", a.tunnel, a.peer)
            assert (refused.returncode, refused.stdout) == (1, "")
            assert "peer 'b' of tunnel" in refused.stderr
            b.agent.start()
            wait_until(lambda: is_open(a, BOTH) and agree(a, b), AGREED_WITHIN, "B to be told")
        assert ping.lost == 0
