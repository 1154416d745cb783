"""What an engine is told: no more than what changes, and so that no session and no packet is lost."""

from resource_wireguard.host.diff import Action
from resource_wireguard.host.state import Device, Peer, PeerEndpoint
from resource_wireguard.model.keys import PresharedKey, PrivateKey, PublicKey
from resource_wireguard.system.transaction import NO_KEY, DeviceChange, PeerChange, transaction_of

A, B = PublicKey(b"a" * 32), PublicKey(b"b" * 32)
SECRET = PresharedKey(b"s" * 32)


def peer(key: PublicKey, *allowed_ips: str, secret: PresharedKey | None = None, keepalive: int = 0) -> Peer:
    return Peer("wg0", key, secret, keepalive, frozenset(allowed_ips))


def change(before: Peer, after: Peer) -> Action:
    return Action("change", before, after)


def test_a_new_peer_takes_its_endpoint_along() -> None:
    actions = [
        Action("create", after=peer(A, "10.0.0.1/32", keepalive=25)),
        Action("create", after=PeerEndpoint("wg0", A, "192.0.2.1:1")),
    ]
    assert list(transaction_of(actions).peers) == [
        PeerChange(
            A, keepalive=25, endpoint="192.0.2.1:1", replace_allowed_ips=True, allowed_ips=["10.0.0.1/32"]
        )
    ]


def test_an_endpoint_alone_touches_nothing_else() -> None:
    action = Action("change", PeerEndpoint("wg0", A, "192.0.2.1:1"), PeerEndpoint("wg0", A, "192.0.2.2:1"))
    assert list(transaction_of([action]).peers) == [PeerChange(A, update_only=True, endpoint="192.0.2.2:1")]


def test_only_the_changed_field_of_a_peer_is_told() -> None:
    plain = peer(A, "10.0.0.1/32")
    told = transaction_of([change(plain, peer(A, "10.0.0.1/32", secret=SECRET))]).peers
    assert list(told) == [PeerChange(A, update_only=True, preshared_key=SECRET, allowed_ips=[])]
    told = transaction_of([change(peer(A, secret=SECRET), peer(A))]).peers
    assert list(told) == [PeerChange(A, update_only=True, preshared_key=NO_KEY, allowed_ips=[])]


def test_more_allowed_ips_are_added_and_fewer_replace_the_list() -> None:
    one, two = peer(A, "10.0.0.1/32"), peer(A, "10.0.0.1/32", "10.0.0.2/32")
    (grown,) = transaction_of([change(one, two)]).peers
    assert (grown.replace_allowed_ips, grown.allowed_ips) == (False, ["10.0.0.2/32"])
    (shrunk,) = transaction_of([change(two, one)]).peers
    assert (shrunk.replace_allowed_ips, shrunk.allowed_ips) == (True, ["10.0.0.1/32"])


def test_a_prefix_that_moves_is_only_given_and_never_taken() -> None:
    """Taking it first would leave a moment in which its packets have nowhere to go."""
    moves = [
        change(peer(A, "10.0.0.1/32", "10.0.0.9/32"), peer(A, "10.0.0.1/32")),
        change(peer(B), peer(B, "10.0.0.9/32")),
    ]
    loser, winner = transaction_of(moves).peers
    assert (loser.replace_allowed_ips, loser.allowed_ips) == (False, [])
    assert (winner.replace_allowed_ips, winner.allowed_ips) == (False, ["10.0.0.9/32"])


def test_a_devices_changed_fields_alone_are_told() -> None:
    before = Device("wg0", PrivateKey(b"k" * 32), 51820, 7)
    after = Device("wg0", PrivateKey(b"k" * 32), 51821, 0)
    assert transaction_of([Action("change", before, after)]).device == DeviceChange(None, 51821, 0)
    created = transaction_of([Action("create", after=after)]).device
    assert created == DeviceChange(after.private_key, 51821, 0)


def test_a_peer_that_goes_is_only_named() -> None:
    assert list(transaction_of([Action("delete", before=peer(A, secret=SECRET))]).peers) == [
        PeerChange(A, remove=True)
    ]
