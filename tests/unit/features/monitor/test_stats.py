"""status and stats on a real engine: totals, rates, errors; saved at most once a minute, and at the end."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.features.conftest import Call, ask
from tests.unit.worlds import StoppedClock

from resource_wireguard.engine.engine import Engine
from resource_wireguard.features.monitor.monitor import SAVE_EVERY
from resource_wireguard.host.facts import LinkFacts
from resource_wireguard.host.state import Link
from resource_wireguard.model.keys import PublicKey, parse_public_key
from resource_wireguard.system.fake import FakeHost


@pytest.fixture
def phone(call: Call) -> PublicKey:
    call("tunnel.create", name="home")
    return parse_public_key(call("peer.add", tunnel="home", name="phone")["peer"]["public_key"])


def home(stats: dict[str, Any]) -> dict[str, Any]:
    (tunnel,) = stats["tunnels"]
    return dict(tunnel)


def saved(engine: Engine) -> list[tuple[Any, ...]]:
    return engine.resources.store.query("SELECT rx_total, rx_seen FROM traffic")


def test_totals_and_rates_of_a_tunnel_and_its_peers(
    call: Call, host: FakeHost, clock: StoppedClock, phone: PublicKey
) -> None:
    call("stats")
    clock.time += 2
    host.handshake("wg-home", phone, "192.0.2.9:1", clock.time, size=4000)
    shown = call("stats")
    assert shown["rate_seconds"] == 2
    for thing in (home(shown), home(shown)["peers"][0], *call("status")["tunnels"]):
        assert (thing["rx_rate"], thing["tx_rate"]) == (2000, 2000)
    for thing in (home(shown), home(shown)["peers"][0]):
        assert (thing["rx_total"], thing["tx_total"], thing["rx_bytes"]) == (4000, 4000, 4000)


def test_rates_are_unknown_before_the_second_look(call: Call, phone: PublicKey) -> None:
    assert home(call("stats"))["peers"][0]["rx_rate"] is None
    assert call("stats")["agent"]["cpu_percent"] is None


def test_a_tunnel_without_peers_carries_nothing(call: Call) -> None:
    call("tunnel.create", name="home")
    assert home(call("stats"))["rx_rate"] == 0


def test_status_has_the_latest_handshake_of_a_tunnel(
    call: Call, host: FakeHost, clock: StoppedClock, phone: PublicKey
) -> None:
    assert call("status")["tunnels"][0]["latest_handshake"] is None
    host.handshake("wg-home", phone, "192.0.2.9:1", 1_000_000)
    assert call("status")["tunnels"][0]["latest_handshake"] == "1970-01-12T13:46:40Z"


def test_totals_outlive_engine_and_agent(
    call: Call, engine: Engine, host: FakeHost, clock: StoppedClock, phone: PublicKey,
    new_engine: Callable[[], Engine],
) -> None:  # fmt: skip
    host.handshake("wg-home", phone, "192.0.2.9:1", clock.time, size=4000)
    call("stats")
    call("tunnel.deactivate", name="home")
    call("tunnel.activate", name="home")
    host.handshake("wg-home", phone, "192.0.2.9:1", clock.time, size=5000)
    assert home(call("stats"))["rx_total"] == 9000
    engine.end()
    assert home(ask(new_engine(), "stats"))["rx_total"] == 9000


def test_an_agent_that_is_killed_loses_no_byte(
    call: Call, engine: Engine, host: FakeHost, clock: StoppedClock, phone: PublicKey,
    new_engine: Callable[[], Engine],
) -> None:  # fmt: skip
    """Nothing is saved of it; but the device still counts, and the next agent sees by how much it has."""
    host.handshake("wg-home", phone, "192.0.2.9:1", clock.time, size=4000)
    clock.time += SAVE_EVERY
    call("stats")
    host.handshake("wg-home", phone, "192.0.2.9:1", clock.time, size=500)
    call("stats")
    assert saved(engine) == [(4000, 4000)]
    assert home(ask(new_engine(), "stats"))["rx_total"] == 4500


def test_an_engine_and_then_an_agent_that_are_killed_lose_nothing_together(
    call: Call, host: FakeHost, clock: StoppedClock, phone: PublicKey, new_engine: Callable[[], Engine]
) -> None:
    """Between two savings: what the old engine carried is saved when it is seen to be gone."""
    host.handshake("wg-home", phone, "192.0.2.9:1", clock.time, size=4000)
    call("stats")
    host.tamper(gone=host.observe().state.of(Link)["wg-home"])
    call("status")
    call("tunnel.activate", name="home")
    host.handshake("wg-home", phone, "192.0.2.9:1", clock.time, size=500)
    assert home(ask(new_engine(), "stats"))["rx_total"] == 4500


def test_the_end_saves_what_is_not_saved_yet(
    call: Call, engine: Engine, host: FakeHost, clock: StoppedClock, phone: PublicKey
) -> None:
    host.handshake("wg-home", phone, "192.0.2.9:1", clock.time, size=4000)
    call("stats")
    assert saved(engine) == []
    engine.end()
    assert saved(engine) == [(4000, 4000)]


def test_saving_is_rare(
    call: Call, engine: Engine, host: FakeHost, clock: StoppedClock, phone: PublicKey
) -> None:
    def carried_and_saved() -> Any:
        host.handshake("wg-home", phone, "192.0.2.9:1", clock.time, size=1)
        call("stats")
        return saved(engine)

    clock.time += SAVE_EVERY
    assert carried_and_saved() == [(1, 1)]
    assert carried_and_saved() == [(1, 1)]
    clock.time += SAVE_EVERY
    assert carried_and_saved() == [(3, 3)]


def test_a_removed_peer_is_forgotten(
    call: Call, engine: Engine, host: FakeHost, clock: StoppedClock, phone: PublicKey
) -> None:
    host.handshake("wg-home", phone, "192.0.2.9:1", clock.time)
    call("stats")
    call("peer.remove", tunnel="home", name="phone")
    engine.end()
    assert saved(engine) == []


def test_stopping_forgets_nobody(
    call: Call, engine: Engine, host: FakeHost, clock: StoppedClock, phone: PublicKey
) -> None:
    host.handshake("wg-home", phone, "192.0.2.9:1", clock.time, size=7)
    engine.take_down()
    engine.end()
    assert saved(engine) == [(7, 0)], "seen before it was taken down, and counted from zero from then on"


def test_errors_and_drops_of_an_interface(call: Call, host: FakeHost) -> None:
    call("tunnel.create", name="home")
    host.counters["wg-home"] = LinkFacts(1, 2, 3, 4)
    shown = home(call("stats"))
    assert [shown[f"{way}_{kind}"] for kind in ("errors", "dropped") for way in ("rx", "tx")] == [1, 2, 3, 4]
