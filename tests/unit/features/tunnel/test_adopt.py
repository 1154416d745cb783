"""tunnel.adopt: one named interface becomes ours as it runs, and nothing else does."""

from typing import Any

import pytest
from tests.unit.features.conftest import Call

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import ConflictError, HostError, InvalidInput, NotFound
from resource_wireguard.host.state import Address, Device, Link, Peer, PeerEndpoint, Record, Route, Rule
from resource_wireguard.model.keys import PrivateKey, PublicKey
from resource_wireguard.model.specs import NO_TABLE
from resource_wireguard.system.fake import FakeHost

KEY = PrivateKey(b"a" * 31 + b"\x40")
SITE, PHONE = PublicKey(b"s" * 32), PublicKey(b"p" * 32)


def peer(key: PublicKey, *allowed_ips: str) -> Peer:
    return Peer("wg0", key, None, 25, frozenset(allowed_ips))


def by_hand(*more: Record, fwmark: int = 0) -> list[Any]:
    """An interface as 'wg-quick up' leaves it."""
    device = Device("wg0", KEY, 4500, fwmark)
    return [Link("wg0", "", "kernel", 1380), device, Address("wg0", "10.1.0.1/24"), *more]


SITES = by_hand(
    peer(SITE, "10.1.0.2/32", "192.168.7.0/24"),
    PeerEndpoint("wg0", SITE, "198.51.100.7:51820"),
    peer(PHONE, "10.1.0.3/32"),
    Route("192.168.7.0/24", "wg0"),
)


def test_it_goes_on_as_it_is(call: Call, engine: Engine, host: FakeHost) -> None:
    host.place_foreign(*SITES)
    host.handshake("wg0", SITE, "198.51.100.8:4711", engine.resources.clock.now() - 20)
    adopted = call("tunnel.adopt", interface="wg0")["tunnel"]
    assert (adopted["name"], adopted["state"], adopted["drift"]) == ("wg0", "up", [])
    assert host.applied == [], "nothing was to be changed"
    assert host.foreign() == {}
    spec = engine.specs().tunnel("wg0")
    site = spec.peers[0]
    assert (spec.private_key, spec.listen_port, spec.mtu, spec.table) == (KEY, 4500, 1380, None)
    assert (site.addresses, site.keepalive) == (("10.1.0.2/32",), 25)
    assert str(site.endpoint) == "198.51.100.8:4711"
    assert spec.peers[1].endpoint is None
    call("tunnel.delete", name="wg0")
    assert not any(host.observe().state.objects.values())


def test_wg_quicks_way_to_everywhere_stays_beside_ours(call: Call, host: FakeHost) -> None:
    default, rule = Route("0.0.0.0/0", "wg0", 51820), Rule(32764, 4, 51820, fwmark=51820, invert=True)
    host.place_foreign(*by_hand(peer(SITE, "0.0.0.0/0"), default, fwmark=51820), rule)
    answer = call("tunnel.adopt", interface="wg0", name="home")
    assert (answer["tunnel"]["name"], answer["tunnel"]["state"]) == ("home", "up")
    assert {action.verb for action in host.applied if isinstance(action.record, Route | Rule)} == {"create"}
    assert not [a for a in host.applied if isinstance(a.record, Link | Device | Peer | Address)]
    assert set(host.foreign().values()) == {default, rule}
    assert any("routing table 51820" in note for note in answer["notes"])


@pytest.mark.parametrize(
    ("more", "table"),
    [
        ([peer(SITE, "0.0.0.0/0")], NO_TABLE),
        ([peer(SITE, "0.0.0.0/0", "10.9.0.0/16"), Route("10.9.0.0/16", "wg0")], NO_TABLE),
        ([peer(SITE, "10.9.0.0/16"), Route("10.9.0.0/16", "wg0", metric=50)], NO_TABLE),
        ([peer(SITE, "10.9.0.0/16"), Route("10.9.0.0/16", "wg0", 1234)], 1234),
        ([peer(SITE, "0.0.0.0/0"), Route("0.0.0.0/0", "wg0", 1234)], 1234),
        ([peer(SITE, "0.0.0.0/0"), Route("0.0.0.0/0", "wg0")], 254),
        ([peer(SITE, "10.9.0.0/16"), Route("10.9.0.0/16", "wg0")], None),
        ([peer(SITE, "10.1.0.0/25")], None),
    ],
)
def test_nothing_is_routed_into_it_that_was_not(
    call: Call, engine: Engine, host: FakeHost, more: list[Record], table: int | None
) -> None:
    host.place_foreign(*by_hand(*more))
    assert call("tunnel.adopt", interface="wg0")["tunnel"]["state"] == "up"
    assert engine.specs().tunnel("wg0").table == table
    assert not [action for action in host.applied if isinstance(action.record, Route)]


def test_names_come_from_the_file_and_all_else_from_the_device(
    call: Call, engine: Engine, host: FakeHost
) -> None:
    host.place_foreign(*SITES)
    text = (
        f"[Interface]\nPrivateKey = {KEY.reveal()}\nMTU = 1200\nDNS = 10.1.0.53\nPostUp = reboot\n"
        f"[Peer] # office\nPublicKey = {SITE}\nEndpoint = office.example.org:51820\nAllowedIPs = ::/0\n"
    )
    adopted = call("tunnel.adopt", interface="wg0", text=text)["tunnel"]
    assert (adopted["state"], host.applied) == ("up", [])
    spec = engine.specs().tunnel("wg0")
    office, phone = spec.peers
    assert (office.name, phone.name) == ("office", f"peer-{str(PHONE)[:8]}")
    assert str(office.endpoint) == "office.example.org:51820"
    assert (office.allowed_ips, spec.mtu) == ({"10.1.0.2/32", "192.168.7.0/24"}, 1380)
    assert spec.host_dns == ("10.1.0.53",)


def test_a_file_of_another_interface_is_refused(call: Call, engine: Engine, host: FakeHost) -> None:
    host.place_foreign(*SITES)
    other = PrivateKey(b"b" * 31 + b"\x40").reveal()
    with pytest.raises(InvalidInput, match="its PrivateKey is another") as refused:
        call("tunnel.adopt", interface="wg0", text=f"[Interface]\nPrivateKey = {other}\n")
    assert other not in f"{refused.value.message} {refused.value.hint}"
    assert (engine.specs().tunnels, "wg0" in host.foreign()) == ((), True)


def test_a_refused_resumption_keeps_the_tunnel(
    call: Call, engine: Engine, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.place_foreign(*SITES)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(host, "take_over", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        call("tunnel.adopt", interface="wg0")
    host.refuse(Link, "wg0")
    with pytest.raises(HostError):
        call("tunnel.adopt", interface="wg0")
    assert [tunnel.name for tunnel in engine.specs().tunnels] == ["wg0"]


def test_only_the_one_that_is_named(call: Call, host: FakeHost) -> None:
    others = {Link("wg1", "", "kernel", 1420), Route("10.77.0.0/16", "wg1"), Route("10.78.0.0/16", "wg0")}
    host.place_foreign(*SITES, *sorted(others, key=lambda thing: isinstance(thing, Route)))
    notes = call("tunnel.adopt", interface="wg0")["notes"]
    assert {thing for thing in host.foreign().values() if isinstance(thing, Link | Route)} == others
    assert any("10.78.0.0/16" in note for note in notes)


def test_a_crash_before_the_mark_loses_nothing_and_is_resumed(
    call: Call, engine: Engine, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    host.place_foreign(*SITES)
    with monkeypatch.context() as patch:
        patch.setattr(host, "take_over", die)
        with pytest.raises(Killed):
            call("tunnel.adopt", interface="wg0")
    assert engine.settle().drift, "stored, and not ours yet"
    assert "wg0" in host.foreign()
    assert call("tunnel.adopt", interface="wg0")["tunnel"]["state"] == "up"


def test_a_refusal_leaves_no_specs(call: Call, engine: Engine, host: FakeHost) -> None:
    host.place_foreign(*SITES)
    host.refuse(Link, "wg0")
    with pytest.raises(HostError):
        call("tunnel.adopt", interface="wg0")
    assert engine.specs().tunnels == ()
    assert "wg0" in host.foreign()


def test_refused_before_anything_happens(call: Call, engine: Engine, host: FakeHost, home: Any) -> None:
    with pytest.raises(NotFound):
        call("tunnel.adopt", interface="wg9")
    with pytest.raises(ConflictError, match="that of tunnel 'home'"):
        call("tunnel.adopt", interface="wg-home")
    host.place_foreign(Link("wg0", "", "kernel", 1420))
    with pytest.raises(InvalidInput, match="no private key"):
        call("tunnel.adopt", interface="wg0")
    host.place_foreign(Device("wg0", KEY, 51820))
    with pytest.raises(ConflictError, match="51820 is taken by tunnel 'home'"):
        call("tunnel.adopt", interface="wg0")
    host.place_foreign(Device("wg0", KEY, 4500))
    with pytest.raises(InvalidInput, match="tunnel name"):
        call("tunnel.adopt", interface="wg0", name="no/name")
    assert [tunnel.name for tunnel in engine.specs().tunnels] == ["home"]
