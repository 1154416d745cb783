"""Which of a tunnel's devices a namespace uses while there are several, and what is closed without a spec."""

from tests.unit.worlds import key_of, private_key_of

from resource_wireguard.features.isolation.compile import LEFT_OVER, compile_namespaces
from resource_wireguard.host.facts import DockerFacts, Facts, Observation, PeerFacts
from resource_wireguard.host.state import NftRule, Piece, Route
from resource_wireguard.model.specs import DeviceSpec, Further, NamespaceSpec, PeerSpec, Specs, TunnelSpec

PEER = PeerSpec(name="provider", public_key=key_of("provider"), allowed_ips=frozenset({"0.0.0.0/0"}))
TUNNEL = TunnelSpec(
    name="home",
    number=1,
    interface="wg-home",
    private_key=private_key_of("home"),
    public_key=key_of("home"),
    listen_port=51820,
    addresses=("10.66.0.2/24",),
    active=True,
    peers=(PEER,),
)
NAMESPACE = NamespaceSpec(name="private", number=1, kind="docker", tunnel="home", prefixes=("10.113.0.0/24",))
SECOND = DeviceSpec(
    interface="wg-home2", private_key=private_key_of("new"), public_key=key_of("new"), listen_port=51821
)


def piece_of(second_met: float) -> Piece:
    """With two devices, on the first of which the peer was met at 100 s."""
    specs = Specs({"tunnel": (TUNNEL,), "rotate": {"home": Further((SECOND,))}, "isolation": (NAMESPACE,)})
    met = {("wg-home", PEER.public_key): 100.0, ("wg-home2", PEER.public_key): second_met}
    peers = {place: PeerFacts(latest_handshake=at) for place, at in met.items()}
    (piece,) = compile_namespaces(specs, Facts(200.0, Observation(peers=peers)))
    return piece


def ways(piece: Piece) -> set[str | None]:
    return {r.interface for r in piece.records if isinstance(r, Route) and r.prefix == "0.0.0.0/0"}


def test_packets_go_where_the_peer_was_met_last() -> None:
    assert ways(piece_of(second_met=0.0)) == {"wg-home", None}
    assert ways(piece_of(second_met=150.0)) == {"wg-home2", None}


def test_answers_come_in_on_every_device() -> None:
    texts = [rule.text for rule in piece_of(0.0).rules if isinstance(rule, NftRule)]
    for interface in ("wg-home", "wg-home2"):
        assert any(text.startswith(f'iifname "{interface}" oifname "wgn-private"') for text in texts)


def test_a_bridge_that_only_looks_like_ours_is_let_be() -> None:
    seen = Observation(docker=DockerFacts(True, frozenset({"wgn-foreign"})))
    assert not compile_namespaces(Specs(), Facts(200.0, seen))


def test_a_bridge_without_a_spec_stays_closed() -> None:
    seen = Observation(docker=DockerFacts(False, frozenset({"wgn-gone"})))
    (piece,) = compile_namespaces(Specs(), Facts(200.0, seen))
    assert piece.owner == LEFT_OVER
    assert not piece.records
    assert [rule.text for rule in piece.rules][:2] == ['iifname "wgn-gone" drop', 'oifname "wgn-gone" drop']
