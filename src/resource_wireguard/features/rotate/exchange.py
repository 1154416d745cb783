"""What is done about what the agents of peers say, and what is to be said to them; in the engine's thread."""

import logging
from collections.abc import Iterator

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import ConflictError, ResourceError
from resource_wireguard.features.rotate import guest_tables as tables
from resource_wireguard.features.rotate import keys as own_keys
from resource_wireguard.features.rotate import offers, peers, wishes
from resource_wireguard.features.rotate import tables as own_tables
from resource_wireguard.features.rotate.agreement import Known, Verdict, judge
from resource_wireguard.features.rotate.guest_tables import Guest, HeardOf, Side
from resource_wireguard.features.rotate.known_keys import (
    LEASE,
    Keys,
    comes_first,
    crossed,
    doubt,
    is_ending,
    keys_now,
    knowing,
)
from resource_wireguard.features.rotate.limits import HISTORY_MOST, SIDES_MOST, Limits
from resource_wireguard.features.rotate.messages import (
    VERSION,
    Answer,
    Heard,
    KeyAt,
    NotYet,
    Request,
    Statement,
    Wish,
    keys_of,
)
from resource_wireguard.features.rotate.offers import Offer
from resource_wireguard.features.rotate.schedule import OVERLAP
from resource_wireguard.host.facts import SESSION_LIFETIME
from resource_wireguard.host.vacancy import free_interface, free_port
from resource_wireguard.model.keys import PublicKey, fingerprint
from resource_wireguard.model.names import INTERFACE_MAX
from resource_wireguard.model.net import Endpoint, host_prefix, is_v6, parse_endpoint
from resource_wireguard.model.specs import PeerSpec, Specs, TunnelSpec

log = logging.getLogger(__name__)

WISHES_EVERY = 60.0
"""Seconds in which a peer's second wish is taken for the first one, said again."""

Speaker = tuple[TunnelSpec, PeerSpec]


def speaker_of(specs: Specs, interface: str, address: str) -> Speaker | None:
    """Who speaks from an address inside a tunnel: cryptokey routing has proven it to be that peer.

    Only a peer's own addresses count: a packet from a network behind it may be anybody's there.
    """
    prefix = host_prefix(address)
    for tunnel, name, _ in specs.devices():
        if name != interface or not tunnel.active:
            continue
        for peer in tunnel.peers:
            if peer.enabled and prefix in peer.addresses and prefix in peer.allowed_ips:
                return tunnel, peer
    return None


# What a peer has said of its keys ------------------------------------------------------------------


def hear(engine: Engine, speaker: Speaker, statement: Statement, limits: Limits) -> Answer:
    """Make it so, and say so when the host shows it; the same statement again finds nothing to do."""
    tunnel, peer = speaker
    stated = keys_of(statement)
    if stated is None:
        return NotYet(VERSION, statement.id, "one of these is no key")
    verdict = judge(_known(engine, tunnel, peer), stated, _ours(engine, tunnel, peer))
    if verdict.waits:
        tables.hurry(engine.resources.store, tunnel.name, peer.name)
    if verdict.take_in and comes_first(engine, tunnel, peer):
        return NotYet(VERSION, statement.id, "the new key of this end comes first")
    if verdict.take_in and not limits.may_bring_key(tunnel.name, peer.name):
        return NotYet(VERSION, statement.id, "these are too many new keys")
    if verdict.why:
        return NotYet(VERSION, statement.id, verdict.why)
    try:
        _follow(engine, tunnel, peer, verdict, stated)
    except ResourceError as error:
        if verdict.take_in or limits.may_bring_key(tunnel.name, peer.name):
            log.warning("'%s' of '%s' has new keys, but: %s", peer.name, tunnel.name, error.message)
        return NotYet(VERSION, statement.id, "it cannot be done here now")
    if engine.last is None or engine.last.drift_of(tunnel.name):
        return NotYet(VERSION, statement.id, "it is not done yet")
    awaited = [guest for guest in _guests_of(engine, tunnel, peer) if guest.public_key in stated]
    return Heard(VERSION, statement.id, awaited[-1].side.listen_port if awaited else None)


def _follow(
    engine: Engine, tunnel: TunnelSpec, peer: PeerSpec, verdict: Verdict, stated: dict[PublicKey, int]
) -> None:
    store, now = engine.resources.store, engine.resources.clock.now()
    if verdict.nothing:
        tables.touch_guests(store, tunnel.name, peer.name, now)
        return
    if verdict.promote and engine.report().drift:
        engine.settle("exchange")  # what we send must go by the new key before the old one goes
    with engine.change():
        if verdict.take_in:
            port = stated[verdict.take_in]
            guest = Guest(
                *(tunnel.name, peer.name, verdict.take_in, _free_side(engine, tunnel, peer)),
                *(_endpoint(engine, tunnel, peer, port), now, now),
            )
            tables.put_guest(store, guest)
            wishes.grant(engine, tunnel.name, peer.name)
            engine.journal(tunnel.name, f"peer '{peer.name}' brings key {fingerprint(verdict.take_in)}")
        if verdict.promote:
            told = peer.endpoint and Endpoint(peer.endpoint.host, stated[verdict.promote])
            moved = msgspec.structs.replace(peer, endpoint=told, endpoint_since=now)
            wish = wishes.make_way(engine, tunnel.name, peer.name)
            peers.replace_now(engine, tunnel, moved, str(verdict.promote), keep=0.0, wish=wish)
            tables.forget_oldest(store, tunnel.name, peer.name, HISTORY_MOST)
        elif verdict.send_away and not verdict.take_in:
            wishes.take_back(engine, tunnel.name, peer.name)
        for key in verdict.send_away:
            tables.delete_guest(store, tunnel.name, peer.name, key)
    engine.settle("exchange")


def _known(engine: Engine, tunnel: TunnelSpec, peer: PeerSpec) -> Known:
    guests = _guests_of(engine, tunnel, peer)
    live = engine.resources.host.handshakes({guest.side.interface for guest in guests})
    oldest = engine.resources.clock.now() - SESSION_LIFETIME
    proven = {g.public_key for g in guests if live.get((g.side.interface, g.public_key), 0.0) > oldest}
    return Known(peer.public_key, frozenset(guest.public_key for guest in guests), proven)


def _ours(engine: Engine, tunnel: TunnelSpec, speaker: PeerSpec) -> frozenset[PublicKey]:
    others = (peer.public_key for peer in tunnel.peers if peer.name != speaker.name)
    further = engine.last_specs.further(tunnel.name)
    return frozenset((tunnel.public_key, *others, *(d.public_key for d in further.devices if d.public_key)))


def _guests_of(engine: Engine, tunnel: TunnelSpec, peer: PeerSpec) -> list[Guest]:
    every = tables.guests(engine.resources.store)
    return [guest for guest in every if (guest.tunnel, guest.peer) == (tunnel.name, peer.name)]


def _endpoint(engine: Engine, tunnel: TunnelSpec, peer: PeerSpec, port: int) -> Endpoint | None:
    """The same host as now, at the new port; None where it was never seen, and has to call us."""
    if peer.endpoint:
        return Endpoint(peer.endpoint.host, port)
    peers = engine.last.observation.peers if engine.last else {}
    seen = [peers[place] for place in engine.last_specs.places(tunnel, peer) if place in peers]
    latest = max(seen, key=lambda facts: facts.latest_handshake or 0.0, default=None)
    return Endpoint(parse_endpoint(latest.endpoint).host, port) if latest and latest.endpoint else None


def _free_side(engine: Engine, tunnel: TunnelSpec, peer: PeerSpec) -> Side:
    """A side device younger than those on which this peer sits: its places are tried in the order of age."""
    taken = {guest.side for guest in _guests_of(engine, tunnel, peer)}
    successor = engine.last_specs.further(tunnel.name).successor
    new = successor is not None and peer.name in knowing(engine, tunnel.name, successor.public_key)
    there = [side for side in tables.sides(engine.resources.store) if side.tunnel == tunnel.name]
    free = there[-1] if there and there[-1] not in taken and there[-1].successor == new else None
    return free or _new_side(engine, tunnel, new)


def _new_side(engine: Engine, tunnel: TunnelSpec, successor: bool) -> Side:
    devices = list(engine.specs().devices())
    survey = engine.resources.host.survey(registry=True)
    held = {port: f"tunnel '{owner.name}'" for owner, _, port in devices}
    plain = tunnel.interface
    if sum(side.tunnel == tunnel.name for side in tables.sides(engine.resources.store)) >= SIDES_MOST:
        raise ConflictError(f"tunnel '{tunnel.name}' has {SIDES_MOST} side devices already")
    names = (f"{plain[: INTERFACE_MAX - len(end)]}{end}" for end in (f"s{n}" for n in range(1, 10_000)))
    taken = survey.interfaces.union(interface for _, interface, _ in devices)
    port = free_port(None, engine.resources.settings.port, held, survey)
    return Side(tunnel.name, free_interface(names, taken), port, successor)


def lost_guests(engine: Engine) -> bool:
    """Send away guests that nobody speaks of and that have no session; whether there were any."""
    store, now = engine.resources.store, engine.resources.clock.now()
    live = engine.resources.host.handshakes({side.interface for side in tables.sides(store)})
    official = {(t.name, p.name): p.public_key for t in engine.last_specs.tunnels for p in t.peers}
    lost = [
        guest
        for guest in tables.guests(store)
        if now - max(guest.spoken_of, live.get((guest.side.interface, guest.public_key), 0.0)) > LEASE
        or (
            guest.public_key == official.get((guest.tunnel, guest.peer))
            and now - live.get((guest.side.interface, guest.public_key), guest.since) > SESSION_LIFETIME
        )
    ]
    for guest in lost:
        tables.delete_guest(store, guest.tunnel, guest.peer, guest.public_key)
    return bool(lost)


# What a peer wishes --------------------------------------------------------------------------------


def grant(engine: Engine, speaker: Speaker, wish: Wish, limits: Limits) -> Answer:
    """Rotate a tunnel's keys for its only peer; asked while they rotate already, it is done.

    Not so at their end: a key that the peer has by now it will not hear of again.
    """
    tunnel, peer = speaker
    if any(other.enabled and other.name != peer.name for other in tunnel.peers):
        return NotYet(VERSION, wish.id, "this tunnel has other peers too")
    rotations = own_tables.rotations(engine.resources.store, tunnel.name, own=True, last=1)
    recent = engine.resources.clock.now() - WISHES_EVERY
    ended = rotations[0].ended_at if rotations else None
    if is_ending(engine, tunnel) or (ended and rotations[0].started_at >= recent):
        return NotYet(VERSION, wish.id, "it was done a moment ago")
    if ended or not rotations:
        if not limits.may_wish(tunnel.name, peer.name):
            return NotYet(VERSION, wish.id, "these are too many wishes")
        try:
            with engine.change():
                own_keys.begin(engine, tunnel.name, wish.overlap)
                engine.journal(tunnel.name, f"peer '{peer.name}' has asked for it")
        except ResourceError as error:
            log.warning("'%s' of '%s' asks for new keys, but: %s", peer.name, tunnel.name, error.message)
            return NotYet(VERSION, wish.id, "it cannot be done here now")
        engine.settle("exchange")
    return Heard(VERSION, wish.id)


# What is to be said to peers -----------------------------------------------------------------------


class Telling(msgspec.Struct, frozen=True):
    """What a peer is to be told: from which of our addresses and interfaces, and to which address.

    Our keys; or a new preshared key; or, where there is neither, the wish that it rotates its own.
    """

    tunnel: str
    peer: str
    interface: str
    source: str
    destination: str
    keys: Keys = ()
    offer: Offer | None = None

    @property
    def about(self) -> str:
        """The one talk with a peer that this belongs to."""
        return "psk" if self.offer else "keys" if self.keys else "wish"

    def says(self, other: "Telling") -> bool:
        """Whether it says the same as another one, however it goes."""
        return (self.keys, self.offer) == (other.keys, other.offer)

    def message(self, identity: str) -> Request:
        """As it is said."""
        if self.offer:
            return self.offer.message(identity)
        if not self.keys:
            return Wish(VERSION, identity, OVERLAP)
        return Statement(VERSION, identity, tuple(KeyAt(str(key), port) for key, port in self.keys))


def tellings(engine: Engine) -> Iterator[Telling]:
    """Whom to tell what: those who can be asked while keys change, and who knew keys that have changed."""
    known = tables.heard(engine.resources.store)
    specs = engine.last_specs
    for tunnel in specs.tunnels:
        every, others = keys_now(engine, tunnel), crossed(engine, tunnel)
        is_doubtful = doubt(engine, tunnel)
        for peer in tunnel.peers if tunnel.active else ():
            entry = known.get((tunnel.name, peer.name))
            told = entry.keys if entry else (tunnel.public_key,)
            if is_doubtful(entry):
                told = ()
            keys = others.get(peer.name, every)
            if peer.enabled and told != tuple(key for key, _ in keys):
                yield from _telling(engine, tunnel, peer, keys)
    for rotation in wishes.asked(engine.resources.store):
        for tunnel, peer in _there(specs, rotation.tunnel, rotation.peer):
            yield from _telling(engine, tunnel, peer)
    for offer in offers.offers(engine):
        for tunnel, peer in _there(specs, offer.tunnel, offer.peer):
            yield from _telling(engine, tunnel, peer, offer=offer)


def _there(specs: Specs, tunnel_name: str, peer_name: str | None) -> Iterator[Speaker]:
    for tunnel in specs.tunnels:
        if tunnel.name == tunnel_name and tunnel.active:
            yield from ((tunnel, p) for p in tunnel.peers if p.enabled and p.name == peer_name)


def _telling(
    engine: Engine, tunnel: TunnelSpec, peer: PeerSpec, keys: Keys = (), offer: Offer | None = None
) -> Iterator[Telling]:
    """By the device on which the peer was heard last."""
    places = engine.last_specs.places(tunnel, peer)
    live = engine.resources.host.handshakes({interface for interface, _ in places})
    interface = max(places, key=lambda place: live.get(place, 0.0))[0]
    for prefix in peer.addresses[:1]:
        destination = prefix.partition("/")[0]
        source = next((a.partition("/")[0] for a in tunnel.addresses if is_v6(a) == is_v6(prefix)), None)
        if source:
            yield Telling(tunnel.name, peer.name, interface, source, destination, keys, offer)


def again(engine: Engine, telling: Telling) -> Telling | None:
    """The same to be said as things are now; None for an offer that is over."""
    for other in tellings(engine):
        if (other.tunnel, other.peer) == (telling.tunnel, telling.peer) and other.says(telling):
            return other
    return None if telling.offer else telling


def told(engine: Engine, telling: Telling, answer: Heard) -> None:
    """A peer's agent knows: its answer is kept, and its side device is where our new one calls it."""
    if telling.offer:
        offers.told(engine, telling.offer)
        return
    if not telling.keys:
        wishes.grant(engine, telling.tunnel, telling.peer)
        return
    tunnel = engine.specs().tunnel(telling.tunnel)
    where = answer.port and _endpoint(engine, tunnel, tunnel.peer(telling.peer), answer.port)
    keys = tuple(key for key, _ in telling.keys)
    entry = HeardOf(telling.tunnel, telling.peer, keys, where or None, at=engine.resources.clock.now())
    tables.put_heard(engine.resources.store, entry)
    engine.settle("exchange")
