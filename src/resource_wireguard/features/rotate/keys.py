"""New keys for a tunnel: a second generation beside the first, which then takes its place, or goes again.

Each step is one change of specs; the host follows in the next pass, whoever dies in between.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from resource_wireguard.engine.engine import Engine
from resource_wireguard.errors import ConflictError, InvalidInput, NotFound
from resource_wireguard.features.rotate import guest_tables, tables
from resource_wireguard.features.rotate.schedule import OVERLAP
from resource_wireguard.features.rotate.tables import Rotation
from resource_wireguard.host.vacancy import free_interface, free_port
from resource_wireguard.model.keys import PrivateKey, fingerprint
from resource_wireguard.model.names import INTERFACE_MAX
from resource_wireguard.model.net import Endpoint, parse_endpoint
from resource_wireguard.model.spans import typed
from resource_wireguard.model.specs import DeviceSpec, Specs, TunnelSpec

DAY = 86_400.0

OVERLAP_MOST = 365 * DAY
"""Seconds: who needs over a year has not begun to tell anybody."""

KEEP, KEEP_MOST = 30 * DAY, 3650 * DAY
"""Seconds that a retired key is kept, sealed."""

TUNNEL, ROLLED_BACK = "tunnel", "rolled back"
"""What is rotated, and how that ends where the old key stays."""


def begin(
    engine: Engine,
    name: str,
    overlap: float = OVERLAP,
    *,
    port: int | None = None,
    endpoint: str | None = None,
    keep: float = KEEP,
    private_key: PrivateKey | None = None,
) -> int:
    """Put a new generation beside the old one, in the change that is open; the rotation's number."""
    specs, resources = engine.specs(), engine.resources
    tunnel = specs.tunnel(name)
    check_span("an overlap", overlap, OVERLAP_MOST, "'--now' does without")
    refuse_running(engine, tunnel.name)
    key = private_key or resources.secrets.new_private_key()
    device = _successor(engine, specs, tunnel, key, port, endpoint)
    rotation = tables.begin(
        resources,
        tunnel.name,
        None,
        TUNNEL,
        actor=engine.actor,
        fingerprints=(fingerprint(tunnel.public_key), fingerprint(device.public_key)),
        keys=(tunnel.public_key, device.public_key),
        deadline=resources.clock.now() + overlap,
        keep=check_keep(keep),
    )
    tables.put_device(resources, tunnel.name, device, rotation)
    close(engine, tunnel.name, f"rotation begun: new key {fingerprint(device.public_key)}")
    return rotation


def replace_now(
    engine: Engine, name: str, *, keep: float = KEEP, private_key: PrivateKey | None = None
) -> int:
    """Change the key where it is, in the change that is open: whoever does not have the new one is out."""
    resources, tunnel = engine.resources, engine.specs().tunnel(name)
    refuse_running(engine, name)
    key = private_key or resources.secrets.new_private_key()
    number = tables.begin(
        resources,
        name,
        None,
        TUNNEL,
        actor=engine.actor,
        fingerprints=(fingerprint(tunnel.public_key), fingerprint(key.public())),
        keys=(tunnel.public_key, key.public()),
        keep=check_keep(keep),
    )
    engine.tunnels.put_tunnel(resources, replace(tunnel, private_key=key, public_key=key.public()))
    tables.retire(resources, running(engine, name), "at once", tunnel.private_key)
    close(engine, name, f"key replaced at once: now {fingerprint(key.public())}")
    return number


def finish(engine: Engine, rotation: Rotation, outcome: str) -> None:
    """Let the new generation take the old one's place, in the change that is open."""
    resources, specs = engine.resources, engine.specs()
    tunnel = specs.tunnel(rotation.tunnel)
    device = specs.further(tunnel.name).successor
    if device is None:
        tables.end(resources, rotation, "its device is gone")
        return
    device.key_of(tunnel).need()
    guest_tables.delete_settled(resources.store, tunnel.name)
    tables.delete_device(resources, device.interface)
    engine.tunnels.put_tunnel(resources, _promoted(tunnel, device))
    tables.retire(resources, rotation, outcome, tunnel.private_key)
    close(engine, tunnel.name, f"rotation ended, {outcome}: key {rotation.new_fingerprint}")


def withdraw(engine: Engine, rotation: Rotation) -> None:
    """Take the new generation away again, in the change that is open."""
    device = engine.specs().further(rotation.tunnel).successor
    if device is not None:
        tables.delete_device(engine.resources, device.interface)
    tables.end(engine.resources, rotation, ROLLED_BACK)
    close(engine, rotation.tunnel, f"rotation rolled back: key {rotation.old_fingerprint} stays")


def kept_key(engine: Engine, tunnel: str, number: int) -> PrivateKey:
    """A retired key of a tunnel, to be used again because somebody asks for it."""
    for rotation in tables.rotations(engine.resources.store, tunnel):
        if rotation.id == number and rotation.what == TUNNEL:
            key = tables.retired_key(engine.resources, rotation)
            if key is not None:
                return PrivateKey(key)
    raise NotFound(
        f"rotation {number} of tunnel '{tunnel}' has left no key", f"see 'rotate history {tunnel}'"
    )


def running(engine: Engine, tunnel: str, peer: str | None = None, what: str | None = None) -> Rotation:
    """The rotation of a tunnel's or of a peer's key that has not ended; NotFound where none runs.

    what: of this kind of key alone.
    """
    for rotation in tables.rotations(engine.resources.store, tunnel, running=True):
        if rotation.peer == peer and what in (None, rotation.what):
            return rotation
    whose = f"peer '{peer}' of tunnel '{tunnel}'" if peer else f"tunnel '{tunnel}'"
    raise NotFound(f"no rotation of {whose} is running", f"see 'resource-wireguard rotate history {tunnel}'")


def refuse_running(engine: Engine, tunnel: str, peer: str | None = None, what: str | None = None) -> None:
    """ConflictError while the same key is being rotated already."""
    try:
        rotation = running(engine, tunnel, peer, what)
    except NotFound:
        return
    whose = f"peer '{peer}' of tunnel '{tunnel}'" if peer else f"tunnel '{tunnel}'"
    words = " ".join(filter(None, (tunnel, peer)))
    raise ConflictError(
        f"{whose} is being rotated already (new key: {rotation.new_fingerprint})",
        f"see 'rotate status {tunnel}'; 'rotate rollback {words}' takes it back",
    )


def close(engine: Engine, tunnel: str, text: str) -> None:
    """Tell of a step, and let no undo go back behind it."""
    engine.journal(tunnel, text)
    engine.history.close_book(f"'{tunnel}: {text}'")


def check_span(what: str, seconds: float, most: float, hint: str) -> float:
    """The seconds themselves; InvalidInput for none, less than none, and more than anybody means."""
    if not 0 < seconds <= most:
        raise InvalidInput(
            f"{what} of {typed(seconds)} is none to rotate with", f"it may be up to {typed(most)}; {hint}"
        )
    return seconds


def check_keep(seconds: float) -> float:
    """How long a retired key is kept: 0 is not at all."""
    if not 0 <= seconds <= KEEP_MOST:
        raise InvalidInput(
            f"a key cannot be kept for {typed(seconds)}", f"give --keep 0s to {typed(KEEP_MOST)}"
        )
    return seconds


# The new generation -----------------------------------------------------------------------------------


def _successor(
    engine: Engine,
    specs: Specs,
    tunnel: TunnelSpec,
    key: PrivateKey,
    wanted: int | None,
    endpoint: str | None,
) -> DeviceSpec:
    survey = engine.resources.host.survey(registry=True)
    devices = list(specs.devices())
    held = {port: f"tunnel '{owner.name}'" for owner, _, port in devices}
    port = free_port(wanted, engine.resources.settings.port, held, survey)
    taken = survey.interfaces.union(interface for _, interface, _ in devices)
    return DeviceSpec(
        interface=free_interface(_names(tunnel), taken),
        private_key=key,
        public_key=key.public(),
        listen_port=port,
        successor=True,
        endpoint=parse_endpoint(endpoint, port) if endpoint else _endpoint_at(tunnel, port),
    )


def _names(tunnel: TunnelSpec) -> Iterator[str]:
    """'wg-home' and 'wg-homer' by turns; with a number where somebody has that."""
    plain = tunnel.interface
    if tunnel.generation % 2 and plain.endswith("r"):
        yield plain[:-1]
    yield f"{plain[: INTERFACE_MAX - 1]}r"
    for number in range(2, 10_000):
        ending = f"r{number}"
        yield f"{plain[: INTERFACE_MAX - len(ending)]}{ending}"


def _endpoint_at(tunnel: TunnelSpec, port: int) -> Endpoint | None:
    """An endpoint that names the old port follows; another one is a router's affair, which maps its own."""
    if tunnel.endpoint and tunnel.endpoint.port == tunnel.listen_port:
        return Endpoint(tunnel.endpoint.host, port)
    return tunnel.endpoint


def _promoted(tunnel: TunnelSpec, device: DeviceSpec) -> TunnelSpec:
    return replace(
        tunnel,
        interface=device.interface,
        private_key=device.private_key,
        public_key=device.public_key,
        listen_port=device.listen_port,
        endpoint=device.endpoint,
        generation=tunnel.generation + 1,
    )
