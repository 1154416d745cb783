"""An engine that dies takes what it had learned along; the pass that restores it gives it back."""

import pytest
from tests.unit.worlds import StoppedClock, key_of, private_key_of

from resource_wireguard.engine.feature import Feature
from resource_wireguard.engine.reconcile import Report, World, reconcile
from resource_wireguard.features.tunnel.compile import compile_tunnels, questions
from resource_wireguard.host.facts import SESSION_LIFETIME
from resource_wireguard.host.state import PeerEndpoint
from resource_wireguard.model.specs import PeerSpec, Specs, TunnelSpec
from resource_wireguard.system.fake import FakeHost

PHONE = key_of("phone")
HOME = TunnelSpec(
    name="home",
    number=1,
    interface="wg-home",
    private_key=private_key_of("home"),
    public_key=key_of("home"),
    listen_port=51820,
    addresses=("10.13.13.1/24",),
    active=True,
    peers=(PeerSpec(name="phone", public_key=PHONE, allowed_ips=frozenset({"10.13.13.2/32"})),),
)
CALLED_FROM = "198.51.100.7:40000"


class Stage:
    """A host with one tunnel of a userspace engine, and passes over it that share their memory."""

    def __init__(self) -> None:
        self.host, self.clock = FakeHost("userspace"), StoppedClock()
        features = (Feature("tunnel", compile=compile_tunnels, questions=questions),)
        self.world = World(features, self.host, self.clock)
        self.run()

    def run(self) -> Report:
        report = reconcile(self.world, Specs({"tunnel": (HOME,)}), {})
        assert report.drift == ()
        return report

    def endpoint(self) -> str | None:
        record = self.host.observe().state.of(PeerEndpoint).get(("wg-home", PHONE))
        return record.endpoint if record else None


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.host.handshake("wg-home", PHONE, CALLED_FROM, at=stage.clock.time)
    stage.run()
    return stage


def test_a_new_engine_is_told_where_its_peers_were_heard(stage: Stage) -> None:
    stage.host.kill_engine("wg-home")
    assert stage.endpoint() is None
    stage.run()
    assert stage.endpoint() == CALLED_FROM


def test_also_when_the_first_attempts_fail(stage: Stage) -> None:
    stage.host.kill_engine("wg-home")
    stage.host.engine = None
    reconcile(stage.world, Specs({"tunnel": (HOME,)}), {})
    stage.host.engine = "userspace"
    stage.run()
    assert stage.endpoint() == CALLED_FROM


def test_but_not_of_a_session_that_is_over_anyway(stage: Stage) -> None:
    stage.clock.time += SESSION_LIFETIME + 1
    stage.host.kill_engine("wg-home")
    stage.run()
    assert stage.endpoint() is None


def test_a_living_engine_is_never_told_what_it_has_learned(stage: Stage) -> None:
    stage.host.handshake("wg-home", PHONE, "198.51.100.8:1", at=stage.clock.time)
    assert stage.run().done == ()
    assert stage.endpoint() == "198.51.100.8:1"
