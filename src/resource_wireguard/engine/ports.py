"""What the engine needs from the outside: a host, a store, secrets and a clock."""

import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from resource_wireguard.errors import KeysUnavailable
from resource_wireguard.host.diff import Plan
from resource_wireguard.host.facts import Found, Observation, Problem, Questions, Survey
from resource_wireguard.host.state import Route
from resource_wireguard.model.custody import Custody
from resource_wireguard.model.keys import PresharedKey, PrivateKey, PublicKey
from resource_wireguard.model.specs import PeerSpec, TunnelSpec
from resource_wireguard.model.vault import TransitKey, VaultPlace


class Clock(Protocol):
    """Time as data."""

    def now(self) -> float:
        """Unix time in seconds."""

    def boot(self) -> tuple[str, float]:
        """A word for this boot of the host, and seconds since it, sleep counted: nobody sets this clock."""


class Events(Protocol):
    """A readable file that becomes ready when something changed on the host."""

    def fileno(self) -> int:
        """For select(2)."""

    def drain(self) -> int:
        """Read and forget what is queued; how many messages there were."""


class Host(Protocol):
    """The machine: looked at and changed only through here."""

    def observe(self, questions: Questions = ...) -> Observation:
        """Look at all our objects; what does not answer becomes a Problem, never an exception."""

    def apply(self, plan: Plan) -> tuple[Problem, ...]:
        """Carry out a plan; what the kernel refuses becomes a Problem, and other interfaces go on."""

    def survey(self, *, registry: bool = False, docker: bool = False) -> Survey:
        """What is in use on the host, by whomever; registry runs a program to ask a port registry too.

        docker asks Docker for its networks; HostError or PermissionDenied where it does not answer.
        """

    def read_foreign(self, interface: str) -> Found:
        """A WireGuard interface that is not ours; NotFound, ConflictError where it is, InvalidInput where
        it runs no WireGuard, HostError where its engine does not answer."""

    def take_over(self, found: Found, tunnel: str, routes: Iterable[Route]) -> tuple[Problem, ...]:
        """Mark this one link, and these of its routes, as ours: nothing else changes, no packet is lost.

        The only way for a foreign object to become ours. HostError where the link is no longer the one found.
        """

    def netns_refusal(self, name: str) -> Problem | None:
        """Why no Linux network namespace of that name can be made here; None where it can."""

    def netns_processes(self, netns: str) -> Mapping[int, str]:
        """The processes in a network namespace of ours: their commands by their pids."""

    def events(self) -> Events:
        """Subscribe to changes of links, addresses, routes, rules and nft tables."""

    def handshakes(self, interfaces: Iterable[str]) -> Mapping[tuple[str, PublicKey], float]:
        """The latest handshakes (Unix seconds) on some of our interfaces: a cheap look at nothing else.

        An interface that is not there, or does not answer, has none.
        """

    def listen(self, interface: str, netns: str | None, address: str, port: int) -> socket.socket | None:
        """A UDP socket on one of our addresses, in the network namespace in which the interface lies.

        It hears nothing but what comes in by the device that now has this name. None where there is no such
        device; HostError where the namespace may not be entered, or the address or port cannot be had.
        """


class Store(Protocol):
    """One SQL database, owned by the agent alone."""

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """All rows of a SELECT."""

    def execute(self, sql: str, *parameters: Any) -> int:
        """One change; how many rows it met."""

    def execute_many(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """One change for many rows."""

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing, durable at the end; may be nested."""


class Secrets(Protocol):
    """Key material by name, sealed at rest; part of the surrounding store transaction where it can be.

    Whatever needs a key raises KeysUnavailable while none can be had (locked, sealed, out of reach), and does
    so at once: only recover() may wait for somebody. Forgetting needs no key, nor do the making of new ones.
    """

    def unavailable(self) -> KeysUnavailable | None:
        """Why no key can be had, as far as is known; None while they can."""

    def recover(self) -> None:
        """Try again to get at the keys, if they cannot be had; each pass begins with it. Never raises."""

    def custody(self) -> Custody:
        """Where the keys lie, and what opens them."""

    def unlock(self, passphrase: bytearray) -> None:
        """Open with a passphrase, which is erased; InvalidInput for a wrong one, or where none is needed."""

    def rekey(
        self, source: str | None, offer: bytearray | TransitKey | None, progress: Callable[[str], None]
    ) -> Custody:
        """A new master key, from another source if one is named; all secrets are sealed anew, or none is.

        offer is what that source needs: a passphrase, which is erased, or the transit key that wraps.
        """

    def migrate(self, place: VaultPlace | None, progress: Callable[[str], None]) -> int:
        """Move all secrets into a Vault (None: the one in use); how many were moved. Goes on where a call
        before broke off. ConflictError for a place that is not ours alone, and nothing is changed."""

    def migrate_back(self, progress: Callable[[str], None]) -> int:
        """Seal all secrets in the database again, and leave the Vault; how many were moved."""

    def new_private_key(self) -> PrivateKey:
        """A fresh Curve25519 private key."""

    def new_preshared_key(self) -> PresharedKey:
        """A fresh symmetric key."""

    def put(self, name: str, secret: bytes) -> None:
        """Seal and keep a secret under a name such as 'tunnel/7/private'; replaces an older one."""

    def get(self, name: str) -> bytes | None:
        """Open one secret; None where there is none. DamagedSecret where the seal does not hold."""

    def get_many(self, prefix: str) -> Mapping[str, bytes]:
        """Open all secrets whose names begin with prefix."""

    def delete(self, prefix: str) -> None:
        """Forget all secrets whose names begin with prefix."""


class Tunnels(Protocol):
    """Tunnels and peers where they are kept, for features that change them; inside engine.change().

    Reading goes through Specs. The feature that owns them offers this.
    """

    def put_tunnel(self, resources: Any, spec: TunnelSpec) -> None:
        """Keep a tunnel, new or changed, without its peers."""

    def put_peer(
        self, resources: Any, tunnel: str, spec: PeerSpec, private_key: PrivateKey | None = None
    ) -> None:
        """Keep a peer, new or changed; its private key only if one is given here."""

    def peer_private_key(self, resources: Any, tunnel: str, name: str) -> PrivateKey | None:
        """The private key of a peer, where it was made and kept here."""

    def forget_private_key(self, resources: Any, tunnel: str, name: str) -> None:
        """A peer has taken up a key that was made elsewhere."""
