"""A real engine on a real store with a tunnel that runs, over a host in memory whose peers shake hands."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.worlds import StoppedClock

from resource_wireguard.engine.commands import feature as own_commands
from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Resources
from resource_wireguard.features.monitor import feature as monitor
from resource_wireguard.features.rotate import feature as rotate
from resource_wireguard.features.rotate.limits import Limits
from resource_wireguard.features.rotate.watch import LINGER, Watch
from resource_wireguard.features.tunnel import feature as tunnel
from resource_wireguard.host.facts import PeerFacts
from resource_wireguard.model.settings import Settings
from resource_wireguard.store.migrations import migrate
from resource_wireguard.store.secrets import FileSecrets
from resource_wireguard.store.sqlite import SqliteStore
from resource_wireguard.system.fake import FakeHost

Call = Callable[..., Any]


class Stage:
    """A host with an agent's engine, and the words to play peers with."""

    def __init__(self, store: SqliteStore, key_path: Path) -> None:
        self.store, self.key_path = store, key_path
        self.host, self.clock = FakeHost(), StoppedClock()
        self.begin_anew()

    def begin_anew(self) -> None:
        """A new agent where another one was killed."""
        features = [own_commands(), tunnel(), monitor(), rotate()]
        migrate(self.store, features)
        secrets = FileSecrets(self.store, self.key_path)
        resources = Resources(self.store, secrets, self.host, self.clock, Settings())
        self.engine, self.watch = Engine(resources, features), Watch()
        self.limits = Limits(self.clock.now)
        self.engine.settle("start")

    def call(self, command: str, /, **request: Any) -> Any:
        """One command as the bus runs it; the answer as its reader sees it."""
        known = self.engine.commands[command]
        answer = known.run(self.engine, msgspec.convert(request, known.request))
        return msgspec.json.decode(msgspec.json.encode(answer))

    def shake(self, peer: str, place: int) -> None:
        """A peer shakes hands at one of its places, by number."""
        self.clock.time += 1
        specs = self.engine.specs()
        home = specs.tunnel("home")
        interface, key = specs.places(home, home.peer(peer))[place]
        learned = self.host.interfaces[interface].learned
        before = learned.get(key, PeerFacts())
        learned[key] = msgspec.structs.replace(
            before, latest_handshake=self.clock.time, rx_bytes=before.rx_bytes + 100
        )

    def look(self, after: float = 0.0) -> bool:
        """The source's turn, some seconds later; whether something is being rotated."""
        self.clock.time += after
        return self.watch.look(self.engine)

    def settle_down(self) -> None:
        """Long enough for a rotation that all have taken part in to end."""
        for _ in range(3):
            self.look(LINGER + 1)

    def route_to(self, prefix: str) -> str | None:
        """The interface that a prefix is routed to by us."""
        found = [route for route in self.host.routes.values() if route.prefix == prefix]
        return found[0].interface if found else None

    def holders(self, prefix: str) -> set[tuple[str, str]]:
        """Interfaces and keys that hold a prefix."""
        return {
            (there.link.name, str(peer.public_key))
            for there in self.host.interfaces.values()
            for peer in there.peers.values()
            if prefix in peer.allowed_ips
        }


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Tunnel home (10.13.13.1/24, port 51820) with the peers phone and laptop."""
    store = SqliteStore(tmp_path / "state.db")
    stage = Stage(store, tmp_path / "master.key")
    stage.call("tunnel.create", name="home", endpoint="vpn.example.org")
    for name in ("phone", "laptop"):
        stage.call("peer.add", tunnel="home", name=name)
    yield stage
    store.close()
