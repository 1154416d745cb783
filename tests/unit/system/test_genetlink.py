"""The attributes of the kernel's WireGuard, both ways."""

from hypothesis import given
from hypothesis import strategies as st

from resource_wireguard.model.keys import PrivateKey, PublicKey
from resource_wireguard.system import genetlink
from resource_wireguard.system.messages import attributes, nested, walk
from resource_wireguard.system.transaction import NO_KEY, DeviceChange, PeerChange, Transaction

KEY = PublicKey(bytes(range(32)))
PEERS = 8
MOST = 65535 - 4

keys = st.binary(min_size=32, max_size=32)
prefixes = st.one_of(
    st.ip_addresses(v=4).map(lambda ip: f"{ip}/32"), st.ip_addresses(v=6).map(lambda ip: f"{ip}/128")
)
endpoints = st.one_of(
    st.builds("{}:{}".format, st.ip_addresses(v=4), st.integers(1, 65535)),
    st.builds("[{}]:{}".format, st.ip_addresses(v=6), st.integers(1, 65535)),
)
peer_changes = st.builds(
    PeerChange,
    public_key=keys.map(PublicKey),
    preshared_key=st.none() | keys,
    keepalive=st.none() | st.integers(0, 65535),
    endpoint=st.none() | endpoints,
    allowed_ips=st.lists(prefixes, unique=True, max_size=5).map(tuple),
)
transactions = st.builds(
    Transaction,
    st.builds(DeviceChange, keys.map(PrivateKey), st.integers(0, 65535), st.integers(0, 2**32 - 1)),
    st.lists(peer_changes, unique_by=lambda peer: peer.public_key, max_size=5),
)


@given(transactions)
def test_what_is_encoded_is_decoded(transaction: Transaction) -> None:
    reading = genetlink.decode(genetlink.encode("wg0", transaction), "wg0")
    if transaction.device.private_key != NO_KEY:
        assert reading.device is not None
        assert reading.device.private_key == transaction.device.private_key
        assert reading.device.listen_port == transaction.device.listen_port
        assert reading.device.fwmark == transaction.device.fwmark
    assert [key for _, key in reading.peers] == [peer.public_key for peer in transaction.peers]
    for peer in transaction.peers:
        seen = reading.peers["wg0", peer.public_key]
        assert (seen.preshared_key or NO_KEY) == (peer.preshared_key or NO_KEY)
        assert seen.keepalive == (peer.keepalive or 0)
        assert seen.allowed_ips == set(peer.allowed_ips)
        assert reading.facts["wg0", peer.public_key].endpoint == peer.endpoint


def test_many_peers_are_spread_over_messages_that_an_attribute_can_hold() -> None:
    peers = [
        PeerChange(PublicKey(i.to_bytes(32, "big")), allowed_ips=[f"10.{i >> 8}.{i & 255}.0/24"])
        for i in range(3000)
    ]
    messages = list(genetlink.encode("wg0", Transaction(DeviceChange(listen_port=7, fwmark=0), peers)))
    assert len(messages) > 3
    assert all(len(attributes(message)[PEERS]) <= MOST for message in messages)
    assert len(genetlink.decode(messages, "wg0").peers) == 3000


def test_a_peer_with_many_allowed_ips_is_replaced_once_and_then_added_to() -> None:
    prefixes = [f"10.{i >> 8}.{i & 255}.0/24" for i in range(5000)]
    change = PeerChange(KEY, replace_allowed_ips=True, allowed_ips=prefixes)
    messages = list(genetlink.encode("wg0", Transaction(peers=[change])))
    assert all(len(attributes(message)[PEERS]) <= MOST for message in messages)
    pieces = [attributes(raw) for m in messages for _, raw in walk(attributes(m)[PEERS])]
    assert [piece[3][0] for piece in pieces] == [2] + [4] * (len(pieces) - 1)
    assert genetlink.decode(messages, "wg0").peers["wg0", KEY].allowed_ips == set(prefixes)


def test_a_peer_that_is_continued_in_the_next_message_is_one_peer() -> None:
    first, second = (
        next(
            iter(genetlink.encode("wg0", Transaction(peers=[PeerChange(KEY, keepalive=k, allowed_ips=[ip])])))
        )
        for k, ip in ((25, "10.0.0.1/32"), (None, "10.0.0.2/32"))
    )
    reading = genetlink.decode([first, second], "wg0")
    assert reading.peers["wg0", KEY].allowed_ips == {"10.0.0.1/32", "10.0.0.2/32"}
    assert reading.peers["wg0", KEY].keepalive == 25


def test_a_removed_peer_is_only_named() -> None:
    (message,) = genetlink.encode("wg0", Transaction(peers=[PeerChange(KEY, remove=True)]))
    ((_, raw),) = walk(attributes(message)[PEERS])
    assert attributes(raw) == {1: KEY, 3: b"\1\0\0\0"}


def test_the_zone_of_a_link_local_endpoint_is_the_name_of_its_link() -> None:
    packed = genetlink.endpoint_bytes("[fe80::1%lo]:51820")
    assert genetlink.endpoint_text(packed) == "[fe80::1%lo]:51820"
    assert nested(1, [])[:2] == b"\4\0"
