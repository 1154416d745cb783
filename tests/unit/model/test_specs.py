"""Specs find what is asked for by name, and answer a slip of the finger with the nearest name."""

import pytest

from resource_wireguard.errors import NotFound
from resource_wireguard.model.keys import PrivateKey, PublicKey
from resource_wireguard.model.specs import PeerSpec, Specs, TunnelSpec

KEY = PrivateKey(bytes(range(32)))
PHONE = PeerSpec(name="phone", public_key=PublicKey(b"p" * 32))
HOME = TunnelSpec(
    name="home",
    number=1,
    interface="wg-home",
    private_key=KEY,
    public_key=PublicKey(b"h" * 32),
    listen_port=51820,
    addresses=("10.13.13.1/24",),
    peers=(PHONE,),
)
SPECS = Specs({"tunnel": (HOME,)})


def test_tunnels_and_peers_are_found_by_name() -> None:
    assert SPECS.tunnel("home") is HOME
    assert HOME.peer("phone") is PHONE
    assert Specs().tunnels == ()


def test_an_unknown_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(NotFound) as refused:
        SPECS.tunnel("hoem")
    assert refused.value.hint == "did you mean 'home'?"
    with pytest.raises(NotFound, match="no peer named 'fone'") as refused:
        HOME.peer("fone")
    assert refused.value.hint == "did you mean 'phone'?"


def test_a_spec_in_a_log_does_not_show_its_key() -> None:
    assert KEY.reveal() not in repr(SPECS)
    assert str(bytes(KEY)) not in repr(SPECS)
