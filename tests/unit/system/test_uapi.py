"""The UAPI text, both ways; and a socket whose other end misbehaves."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_wireguard.host.state import Peer
from resource_wireguard.model.keys import PresharedKey, PrivateKey, PublicKey
from resource_wireguard.system import uapi
from resource_wireguard.system.transaction import NO_KEY, DeviceChange, PeerChange, Transaction

# The example of the protocol's page, with the errno line that ends an answer.
ANSWER = """\
private_key=e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a
listen_port=12912
public_key=b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33
preshared_key=188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52
allowed_ip=192.168.4.4/32
endpoint=[abcd:23::33%2]:51820
public_key=58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376
tx_bytes=38333
rx_bytes=2224
allowed_ip=192.168.4.6/32
persistent_keepalive_interval=111
endpoint=182.122.22.19:3233
public_key=662e14fd594556f522604703340351258903b64f35553763f19426ab2a515c58
endpoint=5.152.198.39:51820
last_handshake_time_sec=1700000000
last_handshake_time_nsec=500000000
allowed_ip=192.168.4.10/32
allowed_ip=192.168.4.11/32
tx_bytes=1212111
rx_bytes=1929999999
protocol_version=1
errno=0

"""
FIRST, SECOND, THIRD = (
    PublicKey(bytes.fromhex(text))
    for text in (
        "b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33",
        "58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376",
        "662e14fd594556f522604703340351258903b64f35553763f19426ab2a515c58",
    )
)


def test_the_protocols_own_example_is_read() -> None:
    reading = uapi.parse(ANSWER, "wg0")
    assert reading.device is not None
    assert reading.device.listen_port == 12912
    assert reading.device.private_key.hex().startswith("e84b5a6d")
    assert set(reading.peers) == {("wg0", FIRST), ("wg0", SECOND), ("wg0", THIRD)}
    first = reading.peers["wg0", FIRST]
    assert isinstance(first.preshared_key, PresharedKey)
    assert first.keepalive == 0
    assert reading.peers["wg0", SECOND] == Peer("wg0", SECOND, None, 111, frozenset({"192.168.4.6/32"}))
    assert reading.peers["wg0", THIRD].allowed_ips == {"192.168.4.10/32", "192.168.4.11/32"}
    assert reading.endpoints["wg0", FIRST].endpoint == "[abcd:23::33%2]:51820"
    third = reading.facts["wg0", THIRD]
    assert (third.latest_handshake, third.rx_bytes, third.tx_bytes) == (1700000000.5, 1929999999, 1212111)
    assert reading.facts["wg0", SECOND].latest_handshake is None


def test_a_device_without_a_key_is_none_and_without_peers_is_empty() -> None:
    reading = uapi.parse("listen_port=7\nerrno=0\n\n", "wg0")
    assert reading.device is None
    assert not reading.peers


keys = st.binary(min_size=32, max_size=32)
prefixes = st.one_of(
    st.ip_addresses(v=4).map(lambda ip: f"{ip}/32"), st.ip_addresses(v=6).map(lambda ip: f"{ip}/128")
)
peer_changes = st.builds(
    PeerChange,
    public_key=keys.map(PublicKey),
    preshared_key=st.none() | keys,
    keepalive=st.none() | st.integers(0, 65535),
    endpoint=st.none() | st.just("192.0.2.1:9") | st.just("[2001:db8::1]:9"),
    allowed_ips=st.lists(prefixes, unique=True, max_size=5).map(tuple),
)
transactions = st.builds(
    Transaction,
    st.builds(DeviceChange, keys.map(PrivateKey), st.integers(0, 65535), st.integers(0, 2**32 - 1)),
    st.lists(peer_changes, unique_by=lambda peer: peer.public_key, max_size=5),
)


@given(transactions)
def test_what_is_rendered_for_new_peers_is_read_back(transaction: Transaction) -> None:
    reading = uapi.parse(uapi.render(transaction), "wg0")
    if transaction.device.private_key != NO_KEY:
        assert reading.device is not None
        assert reading.device.private_key == transaction.device.private_key
        assert reading.device.fwmark == transaction.device.fwmark
    assert [key for _, key in reading.peers] == [peer.public_key for peer in transaction.peers]
    for peer in transaction.peers:
        seen = reading.peers["wg0", peer.public_key]
        assert (seen.preshared_key or NO_KEY) == (peer.preshared_key or NO_KEY)
        assert seen.keepalive == (peer.keepalive or 0)
        assert seen.allowed_ips == set(peer.allowed_ips)
        assert reading.facts["wg0", peer.public_key].endpoint == peer.endpoint


def test_a_change_says_only_what_changes() -> None:
    change = PeerChange(FIRST, update_only=True, keepalive=0)
    assert uapi.render(Transaction(peers=[change])) == (
        f"set=1\npublic_key={FIRST.hex()}\nupdate_only=true\npersistent_keepalive_interval=0\n\n"
    )
    gone = PeerChange(FIRST, remove=True)
    assert uapi.render(Transaction(peers=[gone])) == f"set=1\npublic_key={FIRST.hex()}\nremove=true\n\n"


class Engine:
    """The other end of a control socket, which does what a test says."""

    def __init__(self, folder: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "wgx.sock"))
        self.listener.listen(1)

    def serve(self, *pieces: bytes) -> None:
        """Accept once in a thread, read the request, send the pieces and hang up."""
        threading.Thread(target=self._serve, args=pieces, daemon=True).start()

    def _serve(self, *pieces: bytes) -> None:
        connection, _ = self.listener.accept()
        with connection:
            connection.recv(65536)
            for piece in pieces:
                connection.sendall(piece)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setattr(uapi, "SOCKET_FOLDER", tmp_path)
    monkeypatch.setattr(uapi, "DEADLINE", 0.2)
    engine = Engine(tmp_path)
    yield engine
    engine.listener.close()


@pytest.mark.parametrize("cut", [1, 50, len(ANSWER) - 1])
def test_an_answer_may_come_in_pieces(engine: Engine, cut: int) -> None:
    engine.serve(ANSWER[:cut].encode(), ANSWER[cut:].encode())
    assert len(uapi.read("wgx").peers) == 3


def test_an_engine_that_dies_within_its_answer_is_silent(engine: Engine) -> None:
    engine.serve(ANSWER[:200].encode())
    with pytest.raises(uapi.EngineSilent, match="wgx ended"):
        uapi.read("wgx")


@pytest.mark.parametrize(
    "nonsense", ["public_key=xyz", "private_key=1", f"public_key={FIRST.hex()}\nrx_bytes=a"]
)
def test_nonsense_is_as_good_as_silence(engine: Engine, nonsense: str) -> None:
    engine.serve(f"{nonsense}\nerrno=0\n\n".encode())
    with pytest.raises(uapi.EngineSilent, match="not UAPI"):
        uapi.read("wgx")


def test_an_engine_that_hangs_is_silent(engine: Engine) -> None:
    with pytest.raises(uapi.EngineSilent, match="does not answer"):  # nobody accepts: the backlog does
        uapi.read("wgx")


def test_no_engine_is_said_so(engine: Engine) -> None:
    engine.listener.close()
    with pytest.raises(uapi.EngineSilent, match="not running"):
        uapi.read("wgx")


def test_a_refusal_carries_its_errno_and_no_secret(engine: Engine) -> None:
    engine.serve(b"errno=-98\n\n")
    secret = PrivateKey(os.urandom(32))
    with pytest.raises(uapi.EngineRefused) as refusal:
        uapi.write("wgx", Transaction(DeviceChange(private_key=secret)))
    assert refusal.value.number == 98
    assert secret.hex() not in str(refusal.value)
    assert secret.reveal() not in repr(Transaction(DeviceChange(private_key=secret)))
