"""Sees peers take up new keys, and ends rotations: a source that looks often, and only while one runs.

All it knows is in the store and in the devices, so whoever kills it loses nothing but time.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import ResourceError
from resource_wireguard.features.rotate import keys, known_keys, peers, tables, trials, wishes
from resource_wireguard.features.rotate.progress import who_moved
from resource_wireguard.features.rotate.tables import Rotation
from resource_wireguard.host.facts import Facts
from resource_wireguard.model.keys import PublicKey
from resource_wireguard.model.specs import Specs, TunnelSpec

log = logging.getLogger(__name__)

LOOK_EVERY = 0.1
"""Seconds between two looks at devices on which a peer may appear: what it misses until then is lost."""

SETTLED_EVERY = 1.0
"""Seconds between two looks while peers only sit on a side device: one goes back if its host starts anew."""

SHARE = 50
"""A look costs at most one part in this many of the time: large devices are looked at less often."""

IDLE = 30.0
"""Seconds between two looks at the store while nothing is rotated, and after something was refused."""

LINGER = 2.0
"""Seconds for which all peers have moved, and are silent on the old device, before that goes: another
agent looks for our handshakes as we look for its own, and sends to the old device until then."""

LINGER_MOST = 30.0
"""Seconds after which it goes anyway: a far end may keep its old session alive without a use for it."""

ANSWER_WITHIN = 30.0
"""Seconds after the overlap in which another agent that knows the new key may still say that it is ready."""

Place = tuple[str, PublicKey]

T = TypeVar("T")


class Listener(Protocol):
    """What a source works with: the agent."""

    async def ask(self, work: Callable[[Engine], T]) -> T:
        """Work in the engine's thread."""

    async def wait(self, seconds: float) -> None:
        """Until the next report, at most some seconds."""


async def follow(agent: Listener) -> None:
    """Look, as often as it is worth it, for ever."""
    watch = Watch()
    while True:
        rotating = False
        with contextlib.suppress(ResourceError):  # of the store: the pass tells of it
            rotating = await agent.ask(watch.look)
        if rotating:
            await asyncio.sleep(watch.pause)
        else:
            await agent.wait(IDLE)


class Watch:
    """What is remembered between two looks: since when all have moved, and the old devices are silent; and
    by which facts they have not, which need not be gone through again."""

    def __init__(self) -> None:
        self._moved: dict[int, float] = {}
        self._silent: dict[int, tuple[float, int]] = {}
        self._waiting: dict[int, Facts] = {}
        self._told: set[int] = set()
        self.pause = LOOK_EVERY

    def look(self, engine: Engine) -> bool:
        """Bring every rotation as far as it can go now; whether one is running."""
        if engine.stopping or engine.last is None:
            return False
        self._forget_aged(engine)
        specs = engine.specs()
        rotating = any(_is_rotating(specs, tunnel) for tunnel in specs.tunnels)
        begun = time.monotonic()
        moved = rotating and (engine.pass_is_due() or _has_moved(engine, specs))
        every = LOOK_EVERY if any(_is_open(specs, tunnel) for tunnel in specs.tunnels) else SETTLED_EVERY
        self.pause = max(every, SHARE * (time.monotonic() - begun))
        if moved:
            engine.settle("rotate")
        running = tables.rotations(engine.resources.store, running=True)
        for rotation in reversed(running):
            begun = time.monotonic()
            try:
                if self._advanced(engine, rotation):
                    engine.settle("rotate")
                elif rotation.what == peers.PRESHARED:
                    self.pause = max(self.pause, SHARE * (time.monotonic() - begun))
                self._told.discard(rotation.id)
            except ResourceError as error:
                self._tell(rotation, error)
        return bool(running) or any(specs.further(tunnel.name).devices for tunnel in specs.tunnels)

    def _tell(self, rotation: Rotation, error: ResourceError) -> None:
        """Once for each time that a rotation is held up, as while another change waits to be confirmed."""
        if rotation.id not in self._told:
            log.warning("rotation %s of '%s' is held up: %s", rotation.id, rotation.tunnel, error.message)
        self._told.add(rotation.id)

    def _advanced(self, engine: Engine, rotation: Rotation) -> bool:
        if rotation.peer is not None:
            return _advanced_peer(engine, rotation)
        outcome = self._outcome(engine, rotation)
        if outcome:
            self._forget(rotation)
            with engine.change():
                keys.finish(engine, rotation, outcome)
        return bool(outcome)

    def _outcome(self, engine: Engine, rotation: Rotation) -> str:
        """How a rotation of a tunnel's keys ends now; '' where it does not."""
        assert engine.last is not None
        specs, facts = engine.last_specs, engine.last.facts
        over = rotation.deadline is not None and engine.resources.clock.now() >= rotation.deadline
        if self._waiting.get(rotation.id) is facts and not over:
            return ""
        moved = who_moved(specs, facts, specs.tunnel(rotation.tunnel), rotation)
        late = engine.resources.clock.now() - (rotation.deadline or math.inf)
        if known_keys.waiting_for(engine, rotation.tunnel, rotation.new_key) and late < ANSWER_WITHIN:
            return ""
        agreed = known_keys.knowing(engine, rotation.tunnel, rotation.new_key)
        if all(has or name in agreed for name, has in moved.items()):
            return "complete" if agreed >= moved.keys() or self._is_silent(engine, rotation) else ""
        self._forget(rotation)
        self._waiting[rotation.id] = facts
        if over:
            left = ", ".join(name for name, has in moved.items() if not has)
            return f"overlap over, not moved: {left}"
        return ""

    def _is_silent(self, engine: Engine, rotation: Rotation) -> bool:
        """Whether nothing came in on the old device for a while; it takes a whole look to know."""
        tunnel = engine.last_specs.tunnel(rotation.tunnel)
        if not tunnel.active or not tunnel.peers:
            return True
        facts = engine.report().facts
        received = _received(facts, tunnel)
        since, before = self._silent.get(rotation.id, (facts.now, -1))
        if received != before or facts.now < since:
            since = facts.now
        self._silent[rotation.id] = since, received
        moved = min(self._moved.setdefault(rotation.id, facts.now), facts.now)
        return facts.now - since >= LINGER or facts.now - moved >= LINGER_MOST

    def _forget(self, rotation: Rotation) -> None:
        self._waiting.pop(rotation.id, None)
        self._moved.pop(rotation.id, None)
        self._silent.pop(rotation.id, None)

    def _forget_aged(self, engine: Engine) -> None:
        """Remove retired keys that were kept long enough."""
        resources = engine.resources
        for rotation, tunnel in tables.aged(resources.store, resources.clock.now()):
            with resources.store.transaction():
                tables.forget_retired(resources, rotation, tunnel)
                engine.journal("", f"the key that rotation {rotation} retired is removed for good")


def _advanced_peer(engine: Engine, rotation: Rotation) -> bool:
    """Give the old key its grace once the new one is taken up, then forget it."""
    assert engine.last is not None
    if rotation.what == peers.PRESHARED:
        return trials.advanced(engine, rotation)
    if peers.is_wish(rotation):
        return wishes.advanced(engine, rotation)
    specs, facts, now = engine.last_specs, engine.last.facts, engine.resources.clock.now()
    if peers.seat_of(specs, rotation) is None:
        with engine.change():
            peers.withdraw(engine, rotation, "its peer is gone")
        return True
    tunnel = specs.tunnel(rotation.tunnel)
    if not who_moved(specs, facts, tunnel, rotation).get(rotation.peer or ""):
        return False
    if rotation.deadline is None:
        tables.set_deadline(engine.resources.store, rotation.id, now + rotation.grace)
    elif now >= rotation.deadline:
        with engine.change():
            peers.finish(engine, rotation)
        return True
    return False


def _is_rotating(specs: Specs, tunnel: TunnelSpec) -> bool:
    further = specs.further(tunnel.name)
    return tunnel.active and bool(further.devices or further.seats)


def _is_open(specs: Specs, tunnel: TunnelSpec) -> bool:
    """Whether a peer may still take up a new key or device; one that sits on a side under its own key has."""
    further = specs.further(tunnel.name)
    own = {(peer.name, peer.public_key) for peer in tunnel.peers}
    seats = [seat for device in further.devices for seat in device.seats or ()]
    return bool(further.successor or further.seats or any((s.peer, s.public_key) not in own for s in seats))


def _interfaces(specs: Specs) -> Iterator[str]:
    for tunnel, interface, _ in specs.devices():
        if _is_rotating(specs, tunnel):
            yield interface


def _has_moved(engine: Engine, specs: Specs) -> bool:
    """Whether a peer shook hands at another place than the one it was last seen at."""
    assert engine.last is not None
    facts = engine.last.facts
    seen = engine.resources.host.handshakes(_interfaces(specs))
    newer = {place: at for place, at in seen.items() if at > facts.latest_handshake(place)}
    if not newer:
        return False
    for tunnel in specs.tunnels:
        for peer in tunnel.peers if _is_rotating(specs, tunnel) else ():
            places = specs.places(tunnel, peer)
            if any(place in newer for place in places) and _latest(places, newer, facts) != facts.latest(
                places
            ):
                return True
    return False


def _latest(places: Sequence[Place], newer: Mapping[Place, float], facts: Facts) -> int:
    """As Facts.latest, with what was seen since."""
    times = [newer.get(place) or facts.latest_handshake(place) for place in places]
    return times.index(max(times))


def _received(facts: Facts, tunnel: TunnelSpec) -> int:
    """Bytes that came in on a tunnel's first device."""
    peers_there = (facts.observation.peers.get((tunnel.interface, p.public_key)) for p in tunnel.peers)
    return sum(seen.rx_bytes for seen in peers_there if seen)
