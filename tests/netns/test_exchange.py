"""Two hosts that both run our agent: keys change on either side, and no packet is lost."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.netns.harness import Agent, Lab, Namespace, Pinger, wait_until

PORT = 864
A_INSIDE, B_INSIDE = "10.97.0.1", "10.97.0.2"
MOVED_WITHIN = 30.0


@dataclass
class Site:
    """One end: its agent, its tunnel, and what it calls the other end."""

    agent: Agent
    tunnel: str
    peer: str
    inside: str

    @property
    def namespace(self) -> Namespace:
        return self.agent.namespace

    def shown(self) -> dict:
        return self.agent.call("tunnel.show", name=self.tunnel)

    def peer_key(self) -> str:
        return self.agent.call("peer.show", tunnel=self.tunnel, name=self.peer)["public_key"]

    def interfaces(self) -> set[str]:
        """All links of this tunnel, by our mark on them."""
        links = self.namespace.ip_json("link show")
        return {
            link["ifname"] for link in links if link.get("ifalias") == f"resource-wireguard:{self.tunnel}"
        }


@contextlib.contextmanager
def two_sites(lab: Lab, *, keepalive: int = 0, a_knows_where: bool = True) -> Iterator[tuple[Site, Site]]:
    """A at 192.0.2.1 and B at 192.0.2.2, each the other's peer; B always knows where A is."""
    sites = []
    for namespace, inside, peer in ((lab.server, A_INSIDE, "b"), (lab.laptop, B_INSIDE, "a")):
        agent = lab.agent(namespace).start()
        made = agent.make_tunnel(addresses=[f"{inside}/24"])
        sites.append(Site(agent, made["name"], peer, inside))
    a, b = sites
    for site, other, outside in ((a, b, "192.0.2.2"), (b, a, "192.0.2.1")):
        there = other.shown()
        told = {"endpoint": f"{outside}:{there['listen_port']}"} if site is b or a_knows_where else {}
        site.agent.call(
            "peer.add", tunnel=site.tunnel, name=site.peer, public_key=there["public_key"],
            addresses=[f"{other.inside}/32"], preshared_key="none", keepalive=keepalive, **told,
        )  # fmt: skip
    try:
        yield a, b
    finally:
        for site in sites:
            if site.agent.process.poll() is not None:
                site.agent.start()
            site.agent.end()


def agree(a: Site, b: Site) -> bool:
    """Whether each has the other's key, one key each, and the other nothing to do."""
    return (
        b.peer_key() == a.shown()["public_key"]
        and a.peer_key() == b.shown()["public_key"]
        and a.agent.settled()
        and b.agent.settled()
    )


@pytest.mark.parametrize("a_knows_where", [True, False], ids=["both dial", "only B dials"])
@pytest.mark.parametrize("turning", ["a", "b"])
def test_the_keys_of_a_tunnel_change_without_losing_a_packet(
    lab: Lab, turning: str, a_knows_where: bool
) -> None:
    with two_sites(lab, a_knows_where=a_knows_where) as (a, b):
        site = a if turning == "a" else b
        before = site.shown()["public_key"]
        with (
            Pinger(b.namespace, A_INSIDE, per_second=200) as there,
            Pinger(a.namespace, B_INSIDE, 200) as back,
        ):
            site.agent.call("rotate.keys", tunnel=site.tunnel, overlap=3600)
            wait_until(lambda: site.shown()["public_key"] != before, MOVED_WITHIN, "the new key")
            wait_until(lambda: agree(a, b), MOVED_WITHIN, "both sides to agree")
        assert (there.lost, back.lost) == (0, 0)
        assert len(site.interfaces()) == 1


def test_many_rotations_one_after_the_other_leave_nothing_behind(lab: Lab) -> None:
    with two_sites(lab) as (a, b):
        with Pinger(b.namespace, A_INSIDE, per_second=200) as ping:
            for _ in range(4):
                before = a.shown()["public_key"]
                a.agent.call("rotate.keys", tunnel=a.tunnel, overlap=3600)
                wait_until(lambda: a.shown()["public_key"] != before, MOVED_WITHIN, "the new key")  # noqa: B023
                wait_until(lambda: agree(a, b), MOVED_WITHIN, "both sides to agree")
        assert ping.lost == 0
        assert len(a.interfaces()) == 1
        assert len(b.interfaces()) <= 2  # its own, and one on which the peer sits till its session lapses
