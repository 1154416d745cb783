"""A Docker in memory, as far as networks and the containers in them go; part of the in-memory host."""

from msgspec.structs import replace

from resource_wireguard.errors import HostError, ResourceError
from resource_wireguard.host.diff import Action
from resource_wireguard.host.facts import ContainerFacts, DockerFacts, Problem, Questions
from resource_wireguard.host.state import Attachment, DockerNetwork, Record
from resource_wireguard.model.net import overlaps

NOT_RUNNING = HostError("Docker's daemon does not run", "start it: systemctl start docker")


class Conflict(Exception):
    """Docker refuses with its status 409 or 403."""


class FakeDocker:
    """Public fields are the knobs of tests: foreign maps names of others' networks to their prefixes.

    asks_outside is what becomes of DNS queries. refusal is what it fails with, None while it answers; asked
    counts how often it was spoken to.
    """

    def __init__(self) -> None:
        self.networks: dict[str, DockerNetwork] = {}
        self.foreign: dict[str, str] = {"bridge": "172.17.0.0/16"}
        self.containers: dict[str, ContainerFacts] = {}
        self.refusal: ResourceError | None = None
        self.asks_outside = False
        self.asked = 0

    def run(self, name: str, *networks: str, mode: str = "default", asks_outside: bool = False) -> None:
        """Somebody starts a container."""
        self.containers[name] = ContainerFacts(name, True, mode, frozenset(networks), asks_outside)

    def observe(
        self, questions: Questions, bridges: frozenset[str]
    ) -> tuple[list[Record], DockerFacts, tuple[Problem, ...]]:
        """As the real one: asked only where there is something to ask for."""
        if not questions.docker and not bridges:
            return [], DockerFacts(), ()
        self.asked += 1
        if self.refusal:
            silence = Problem(self.refusal.message, self.refusal.hint)
            return [], DockerFacts(False, bridges, silence=silence), (silence,)
        seen = {
            name: container
            for name, container in self.containers.items()
            if name in questions.containers or container.networks & self.networks.keys()
        }
        held = [Attachment(name, c.networks) for name, c in seen.items() if name in questions.containers]
        return [*self.networks.values(), *held], DockerFacts(True, bridges, seen), ()

    def carry_out(self, action: Action) -> None:
        """One action; Conflict as Docker would refuse it, AssertionError for a foreign network."""
        if self.refusal:
            raise self.refusal
        match action.record:
            case DockerNetwork() as network:
                assert network.name not in self.foreign or action.verb == "create", (
                    "touches a foreign network"
                )
                if action.verb != "create":
                    self._remove(network.name)
                if action.verb != "delete":
                    self._create(network)
            case Attachment() as wanted:
                self._attach(wanted)

    def _create(self, network: DockerNetwork) -> None:
        if network.name in {*self.networks, *self.foreign}:
            raise Conflict(f"network with name {network.name} already exists")
        used = [*self.foreign.values(), *(p for other in self.networks.values() for p in other.prefixes)]
        if any(overlaps(prefix, used) for prefix in network.prefixes):
            raise Conflict("Pool overlaps with other one on this address space")
        self.networks[network.name] = network

    def _remove(self, name: str) -> None:
        if any(c.running and name in c.networks for c in self.containers.values()):
            raise Conflict(f"network {name} has active endpoints")
        self.networks.pop(name, None)

    def _attach(self, wanted: Attachment) -> None:
        container = self.containers.get(wanted.container)
        if container is None:
            return
        if container.mode in ("host", "none"):
            raise Conflict("container sharing network namespace with another container or host")
        self.containers[wanted.container] = replace(container, networks=wanted.networks)
