"""Specs in the store: what is written comes back, the cache is never wrong, and no key lies in clear."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.unit.worlds import key_of

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Resources
from resource_wireguard.engine.site import site_seed
from resource_wireguard.errors import DamagedSecret
from resource_wireguard.features.tunnel.tables import (
    MANY,
    SpecCache,
    delete_peer,
    delete_tunnel,
    peer_private_key,
    put_peer,
    put_tunnel,
)
from resource_wireguard.model.keys import PresharedKey, PrivateKey
from resource_wireguard.model.net import Endpoint
from resource_wireguard.model.specs import PeerSpec, TunnelSpec

PRIVATE = PrivateKey(b"p" * 32)
TUNNEL = TunnelSpec(
    name="home",
    number=1,
    interface="wg-home",
    private_key=PRIVATE,
    public_key=PRIVATE.public(),
    listen_port=51820,
    addresses=("10.13.13.1/24", "fd00::1/64"),
    active=True,
    mtu=1300,
    exit=True,
    endpoint=Endpoint("2001:db8::1", 51820),
    dns=("9.9.9.9",),
    created_at=5.0,
)
SITE = PeerSpec(
    name="site",
    public_key=key_of("site"),
    enabled=False,
    addresses=("10.13.13.2/32",),
    allowed_ips=frozenset({"10.13.13.2/32", "192.168.7.0/24"}),
    preshared_key=PresharedKey(b"s" * 32),
    endpoint=Endpoint("vpn.example.org", 51820),
    endpoint_since=6.0,
    keepalive=25,
    config_allowed_ips=("0.0.0.0/0",),
    config_dns=("10.13.13.1",),
    config_keepalive=0,
    created_at=7.0,
)


@pytest.fixture
def resources(engine: Engine) -> Resources:
    return engine.resources


def numbered(number: int) -> PeerSpec:
    return PeerSpec(name=f"p{number}", public_key=key_of(f"p{number}"))


def fresh(resources: Resources) -> tuple[TunnelSpec, ...]:
    """As read without any cache."""
    return SpecCache().load(resources)


def test_everything_comes_back(resources: Resources) -> None:
    put_tunnel(resources, TUNNEL)
    put_peer(resources, "home", SITE)
    assert fresh(resources) == (msgspec.structs.replace(TUNNEL, peers=(SITE,)),)


def test_what_did_not_change_is_the_same_object(resources: Resources) -> None:
    cache = SpecCache()
    for name, number in (("a", 1), ("b", 2)):
        tunnel = msgspec.structs.replace(TUNNEL, name=name, number=number, interface=name, listen_port=number)
        put_tunnel(resources, tunnel)
        put_peer(resources, name, SITE)
    before = cache.load(resources)
    assert cache.load(resources) is before
    put_peer(resources, "b", numbered(1))
    after = cache.load(resources)
    assert after[0] is before[0]
    assert after[1].peers[0] is before[1].peers[0]
    assert [peer.name for peer in after[1].peers] == ["site", "p1"]


def test_a_change_keeps_a_peer_in_its_place(resources: Resources) -> None:
    put_tunnel(resources, TUNNEL)
    for number in range(3):
        put_peer(resources, "home", numbered(number))
    put_peer(resources, "home", msgspec.structs.replace(numbered(1), enabled=False))
    assert [(peer.name, peer.enabled) for peer in fresh(resources)[0].peers] == [
        ("p0", True),
        ("p1", False),
        ("p2", True),
    ]


def test_many_peers_are_read_at_once(resources: Resources) -> None:
    put_tunnel(resources, TUNNEL)
    with resources.store.transaction():
        for number in range(MANY + 1):
            put_peer(resources, "home", numbered(number))
    assert [peer.name for peer in fresh(resources)[0].peers] == [f"p{n}" for n in range(MANY + 1)]


class Undo(Exception):
    pass


steps = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "load", "undo", "keep"]), st.integers(0, 3)), max_size=25
)


@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(steps=steps)
def test_the_cache_is_right_after_any_changes_and_rollbacks(
    resources: Resources, steps: list[tuple[str, int]]
) -> None:
    """Transactions of random changes, looked at in between, kept or undone."""
    if not fresh(resources):
        put_tunnel(resources, TUNNEL)
    cache = SpecCache()
    remaining = iter(steps)
    for end in remaining:
        try:
            with resources.store.transaction():
                _one_transaction(resources, cache, end, remaining)
        except Undo:
            pass
        assert cache.load(resources) == fresh(resources)


def _one_transaction(resources: Resources, cache: SpecCache, step: tuple[str, int], more: Any) -> None:
    while step is not None:
        verb, number = step
        held = {peer.name for peer in fresh(resources)[0].peers}
        if verb == "put":
            flipped = f"p{number}" not in held
            put_peer(resources, "home", msgspec.structs.replace(numbered(number), enabled=flipped))
        elif verb == "delete" and f"p{number}" in held:
            delete_peer(resources, "home", f"p{number}")
        elif verb == "load":
            assert cache.load(resources) == fresh(resources)
        elif verb == "undo":
            raise Undo
        elif verb == "keep":
            return
        step = next(more, None)


def test_private_keys_are_kept_sealed_and_only_on_request(resources: Resources, tmp_path: Path) -> None:
    key = PrivateKey(b"k" * 32)
    put_tunnel(resources, TUNNEL)
    put_peer(resources, "home", msgspec.structs.replace(SITE, has_private_key=True), key)
    put_peer(resources, "home", numbered(1))
    put_peer(resources, "home", SITE)  # a later change without the key does not lose it
    assert peer_private_key(resources, "home", "site") == key
    assert peer_private_key(resources, "home", "p1") is None
    for file in tmp_path.iterdir():
        for secret in (key, PRIVATE, SITE.preshared_key):
            assert secret is not None
            assert bytes(secret) not in file.read_bytes(), file.name


def secret_names(resources: Resources) -> set[str]:
    return {name for (name,) in resources.store.query("SELECT name FROM secrets")} - {"proof"}


def test_keys_go_with_their_owner(resources: Resources) -> None:
    put_tunnel(resources, TUNNEL)
    for number in (1, 2):
        put_peer(
            resources,
            "home",
            msgspec.structs.replace(SITE, name=f"p{number}", public_key=key_of(f"{number}")),
        )
    delete_peer(resources, "home", "p1")
    assert secret_names(resources) == {"tunnel/1/private", "tunnel/1/preshared/2/key"}
    delete_tunnel(resources, "home")
    assert secret_names(resources) == set()
    assert resources.store.query("SELECT count(*) FROM peers") == [(0,)]


def test_a_key_that_was_taken_out_is_absent_and_says_so(resources: Resources) -> None:
    put_tunnel(resources, TUNNEL)
    resources.secrets.delete("tunnel/1/private")
    (tunnel,) = fresh(resources)
    assert tunnel.private_key.public() == TUNNEL.public_key
    with pytest.raises(DamagedSecret, match="'tunnel/1/private' of 'home'"):
        tunnel.private_key.reveal()


@pytest.mark.parametrize("peers", [3, MANY + 1])
def test_one_damaged_key_is_absent_and_the_others_are_there(resources: Resources, peers: int) -> None:
    put_tunnel(resources, TUNNEL)
    for number in range(peers):
        spec = msgspec.structs.replace(SITE, name=f"p{number}", public_key=key_of(f"{number}"))
        put_peer(resources, "home", spec)
    resources.store.execute(
        "UPDATE secrets SET sealed = substr(sealed, 1, 20) WHERE name = 'tunnel/1/preshared/2/key'"
    )
    (tunnel,) = fresh(resources)
    absent = [peer for peer in tunnel.peers if peer.preshared_key != SITE.preshared_key]
    assert [peer.name for peer in absent] == ["p1"]
    with pytest.raises(DamagedSecret, match=r"'tunnel/1/preshared/2/key' .* altered"):
        absent[0].preshared_key.reveal()
    before = resources.store.query("SELECT sealed FROM secrets WHERE name = 'tunnel/1/preshared/2/key'")
    put_peer(resources, "home", msgspec.structs.replace(absent[0], keepalive=7))
    assert before == resources.store.query(
        "SELECT sealed FROM secrets WHERE name = 'tunnel/1/preshared/2/key'"
    ), "what stands for a key is never kept as one"


def test_the_site_seed_is_drawn_once(resources: Resources) -> None:
    assert site_seed(resources.store) == site_seed(resources.store)
    assert len(site_seed(resources.store)) == 5
