"""A new preshared key between two hosts with our agent: both kernels end with it, and no packet is lost."""

import contextlib
import signal
from collections.abc import Iterator

from tests.netns.harness import Lab, Pinger, wait_until
from tests.netns.test_exchange import A_INSIDE, B_INSIDE, PORT, Site, two_sites

AGREED_WITHIN = 30.0
ASKED, ALONE = "its agent is asked", "in use here; its agent has not answered"
OFFERED, BOTH = "its agent may use it at any time", "both have it, in use with the next handshake"


def in_kernel(site: Site) -> str | None:
    """The preshared key as the device of a site has it."""
    (peer,) = site.namespace.wg(site.shown()["interface"]).peers.values()
    return peer.preshared_key


def states(site: Site) -> list[str]:
    """What has come of each rotation, the latest first."""
    return [past["outcome"] for past in site.agent.call("rotate.history", tunnel=site.tunnel)]


def is_open(site: Site, state: str) -> bool:
    return states(site)[:1] == [state]


def agree(a: Site, b: Site) -> bool:
    """Whether both kernels have one key, and neither agent anything else to do."""
    return bool(in_kernel(a)) and in_kernel(a) == in_kernel(b) and a.agent.settled() and b.agent.settled()


def shake_anew(site: Site, other: Site) -> None:
    """The device of a site is taken away, and its sessions with it: what it is then takes a handshake."""
    site.namespace.ip(f"link delete {site.shown()['interface']}")
    wait_until(lambda: site.namespace.ping(other.inside), AGREED_WITHIN, "a handshake with the new key")


@contextlib.contextmanager
def silenced(site: Site) -> Iterator[None]:
    """Nothing that the agent of a site is told inside the tunnel gets to it."""
    rules = f"table inet deaf {{ chain in {{ type filter hook input priority -300; udp dport {PORT} drop; }}; }}"
    site.namespace.nft(rules)
    try:
        yield
    finally:
        site.namespace.nft("delete table inet deaf")


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
        shake_anew(b, a)
        wait_until(lambda: is_open(a, "complete") and is_open(b, "complete"), 60, "the handshake to be seen")
