"""Views: the states of tunnels and peers, and the fields that docs/bus.md promises."""

import msgspec
import pytest

from resource_wireguard.engine.reconcile import Report
from resource_wireguard.engine.views import PeerView, TunnelView, peer_view, tunnel_view
from resource_wireguard.host.diff import diff
from resource_wireguard.host.facts import Facts, Observation, PeerFacts, Problem
from resource_wireguard.host.state import HostState, Link, state_of
from resource_wireguard.model.keys import PresharedKey, PrivateKey, PublicKey
from resource_wireguard.model.net import Endpoint
from resource_wireguard.model.specs import PeerSpec, TunnelSpec

NOW = 1_750_000_000.0
PHONE = PublicKey(b"\x07" * 32)
PEER = PeerSpec(
    name="phone",
    public_key=PHONE,
    addresses=("10.13.13.2/32",),
    allowed_ips=frozenset({"10.13.13.2/32", "10.0.0.0/24"}),
    preshared_key=PresharedKey(b"\x01" * 32),
    endpoint=Endpoint("192.0.2.1", 51820),
)
TUNNEL = TunnelSpec(
    name="home",
    number=1,
    interface="wg-home",
    private_key=PrivateKey(b"\x02" * 32),
    public_key=PublicKey(b"\x03" * 32),
    listen_port=51820,
    addresses=("10.13.13.1/24",),
    active=True,
    peers=(PEER,),
)
LINK = Link("wg-home", "home", "kernel", 1420)


def report(
    actual: HostState,
    peer: PeerFacts | None = None,
    problems: tuple[Problem, ...] = (),
) -> Report:
    seen = Observation(actual, {("wg-home", PHONE): peer} if peer else {}, "kernel")
    desired = state_of([LINK])
    return Report(Facts(NOW, seen), desired, drift=diff(desired, actual), problems=problems)


@pytest.mark.parametrize(
    ("active", "actual", "problems", "state"),
    [
        (True, [LINK], (), "up"),
        (True, [], (), "down"),
        (True, [msgspec.structs.replace(LINK, mtu=1300)], (), "degraded"),
        (True, [LINK], (Problem("port 51820 is taken", "", "wg-home"),), "degraded"),
        (True, [LINK], (Problem("elsewhere", "", "wg-other"),), "up"),
        (False, [LINK], (), "inactive"),
    ],
)
def test_state_of_a_tunnel(
    active: bool, actual: list[Link], problems: tuple[Problem, ...], state: str
) -> None:
    tunnel = msgspec.structs.replace(TUNNEL, active=active)
    assert tunnel_view(tunnel, report(state_of(actual), problems=problems)).state == state


def test_drift_is_told_in_the_words_of_plan() -> None:
    assert tunnel_view(TUNNEL, report(state_of([]))).drift == (
        "create interface wg-home: kernel, mtu 1420, up",
    )


def test_a_problem_that_came_in_two_rounds_is_told_once() -> None:
    twice = (Problem("no", "do", "wg-home"),) * 2
    assert len(tunnel_view(TUNNEL, report(state_of([LINK]), problems=twice)).problems) == 1


def test_a_learned_endpoint_comes_before_the_one_we_were_told() -> None:
    learned = PeerFacts("198.51.100.7:4711", NOW - 10, 5, 6)
    view = peer_view(TUNNEL, PEER, report(state_of([LINK]), peer=learned))
    assert (view.endpoint, view.state, view.latest_handshake) == (
        "198.51.100.7:4711",
        "online",
        "2025-06-15T15:06:30Z",
    )
    assert peer_view(TUNNEL, PEER, report(state_of([LINK]))).endpoint == "192.0.2.1:51820"


@pytest.mark.parametrize(
    ("tunnel", "seen", "resolved", "unresolved"),
    [
        (TUNNEL, None, {}, True),
        (TUNNEL, None, {"vpn.example.org": "192.0.2.9"}, False),
        (TUNNEL, PeerFacts("198.51.100.7:4711"), {}, False),
        (msgspec.structs.replace(TUNNEL, active=False), None, {}, False),
    ],
    ids=["no address", "an address", "heard from elsewhere", "not wanted"],
)
def test_a_name_without_an_address_shows(
    tunnel: TunnelSpec, seen: PeerFacts | None, resolved: dict[str, str], unresolved: bool
) -> None:
    named = msgspec.structs.replace(PEER, endpoint=Endpoint("vpn.example.org", 51820))
    found = report(state_of([LINK]), peer=seen)
    found = msgspec.structs.replace(found, facts=msgspec.structs.replace(found.facts, resolved=resolved))
    assert peer_view(tunnel, named, found).unresolved is unresolved
    assert not peer_view(tunnel, PEER, report(state_of([LINK]))).unresolved


def test_online_peers_are_counted() -> None:
    tunnel = msgspec.structs.replace(
        TUNNEL, peers=(PEER, msgspec.structs.replace(PEER, public_key=PublicKey(b"\x09" * 32)))
    )
    view = tunnel_view(tunnel, report(state_of([LINK]), peer=PeerFacts(latest_handshake=NOW - 1)))
    assert (view.peers_online, view.peers) == (1, 2)


def test_the_fields_are_those_of_the_bus() -> None:
    tunnel = "name interface active engine state listen_port public_key addresses mtu exit endpoint dns peers"
    assert set(tunnel.split()) | {"drift", "problems"} <= set(TunnelView.__struct_fields__)
    peer = "name public_key enabled state addresses allowed_ips endpoint keepalive latest_handshake"
    more = "rx_bytes tx_bytes preshared_key config_held unresolved"
    assert set(f"{peer} {more}".split()) == set(PeerView.__struct_fields__)


def test_no_key_material_is_shown() -> None:
    shown = repr(tunnel_view(TUNNEL, report(state_of([])))) + repr(
        peer_view(TUNNEL, PEER, report(state_of([])))
    )
    for secret in (TUNNEL.private_key, PEER.preshared_key):
        assert secret is not None
        assert secret.reveal() not in shown
