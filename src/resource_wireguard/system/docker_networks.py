"""Docker networks of ours, and the containers in them (docs.docker.com/engine/api).

Ours carry our label; no other network is ever changed. Containers are others': all that is done to one is to
attach it to networks and detach it.
"""

import ipaddress
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from resource_wireguard.errors import NotFound, ResourceError
from resource_wireguard.host.diff import Action
from resource_wireguard.host.facts import ContainerFacts, DockerFacts, Problem, Questions, Survey
from resource_wireguard.host.ownership import DOCKER_LABEL, NAMESPACE_LABEL
from resource_wireguard.host.state import Attachment, DockerNetwork, Record
from resource_wireguard.model.net import is_v6
from resource_wireguard.system.docker import connect, refusals

WITHIN = 4.0
"""Seconds Docker may take to answer a look: whatever else is to be done on this host waits for it."""

CHANGED_WITHIN = 20.0
"""Seconds it may take for a change."""

SILENT_FOR = 5.0
"""Seconds for which a Docker that did not answer is not asked again."""

ASKS_FROM_HOST = 28
"""Since this version Docker asks all DNS servers of the host from the host (libnetwork, TransformForIntNS);
before it did so only with those on loopback, and asked the others from within the container."""

DAEMON_JSON, RESOLV_CONF = Path("/etc/docker/daemon.json"), Path("/etc/resolv.conf")

Client = Any
"""The SDK's docker.DockerClient, which only system/docker.py imports."""

_BRIDGE, _ICC = "com.docker.network.bridge.name", "com.docker.network.bridge.enable_icc"
_MASQUERADE, _MTU = "com.docker.network.bridge.enable_ip_masquerade", "com.docker.network.driver.mtu"
_AUX = {4: "DefaultGatewayIPv4", 6: "DefaultGatewayIPv6"}
"""Addresses of these names Docker's bridge driver gives to containers as gateway, instead of its own."""


class DockerNetworks:
    """What Docker has of ours. It is asked, and the SDK imported, only where there is something to ask."""

    def __init__(self) -> None:
        self._silent: tuple[float, ResourceError] | None = None
        self._dns: dict[str, tuple[str, ...]] = {}

    def observe(
        self, questions: Questions, bridges: frozenset[str]
    ) -> tuple[list[Record], DockerFacts, tuple[Problem, ...]]:
        """Our networks and what is in them; a Docker that does not answer is a Problem."""
        if not questions.docker and not bridges:
            return [], DockerFacts(), ()
        try:
            with closing(self._asking()) as client:
                networks = [_network(found) for found in _ours(client)]
                containers = list(self._containers(client, questions.containers, networks))
        except ResourceError as error:
            silence = Problem(error.message, error.hint)
            return [], DockerFacts(False, bridges, silence=silence), (silence,)
        held = [Attachment(c.name, c.networks) for c in containers if c.name in questions.containers]
        facts = DockerFacts(True, bridges, {container.name: container for container in containers})
        return [*networks, *held], facts, ()

    def survey(self, host: Survey) -> Survey:
        """What is in use on the host, with the networks that Docker has, whoever made them."""
        with closing(connect(WITHIN)) as client, refusals("Docker"):
            found = client.api.networks()
            version = _version(client)
        return replace(
            host,
            docker_networks=frozenset(network["Name"] for network in found),
            prefixes=host.prefixes.union(*map(_prefixes, found)),
            docker_asks_outside=_asks_outside(version),
        )

    def apply(self, action: Action) -> None:
        """One network made or removed, or one container attached to just the networks it is to have."""
        if self._silent and time.monotonic() - self._silent[0] < SILENT_FOR:
            raise self._silent[1]
        with closing(connect(CHANGED_WITHIN)) as client:
            match action.record:
                case DockerNetwork() as network:
                    self._change(client, action, network)
                case Attachment() as wanted:
                    _attach(client, wanted)

    def _change(self, client: Client, action: Action, network: DockerNetwork) -> None:
        with refusals(f"Docker network {network.name}"):
            if action.verb != "create":
                _remove(client, network.name)
            if action.verb != "delete":
                _create(client, network)

    def _asking(self) -> Client:
        """A client, unless Docker was silent a moment ago: two looks of a pass do not both wait for it."""
        if self._silent and time.monotonic() - self._silent[0] < SILENT_FOR:
            raise self._silent[1]
        self._silent = None
        try:
            client = connect(WITHIN)
            with refusals("Docker"):
                client.ping()
        except ResourceError as error:
            self._silent = time.monotonic(), error
            raise
        return client

    def _containers(
        self, client: Client, asked: frozenset[str], networks: Iterable[DockerNetwork]
    ) -> Iterator[ContainerFacts]:
        """Those in our networks, running or not, and those asked for by name."""
        ours = {network.name for network in networks}
        with refusals("Docker"):
            found = client.api.containers(all=True)
            version = _version(client)
        before, self._dns = self._dns, {}
        for one in found:
            name = one["Names"][0].lstrip("/")
            attached = frozenset(one["NetworkSettings"]["Networks"])
            if name not in asked and not attached & ours:
                continue
            identity = one["Id"]
            servers = before[identity] if identity in before else _dns_servers(client, identity)
            self._dns[identity] = servers
            yield ContainerFacts(
                name=name,
                running=one["State"] in ("running", "paused", "restarting"),
                mode=one["HostConfig"]["NetworkMode"],
                networks=attached,
                asks_outside=not servers and _asks_outside(version),
            )


def _version(client: Client) -> int:
    """The first number of the daemon's version."""
    return int(client.version()["Version"].split(".")[0])


def _ours(client: Client) -> list[dict[str, Any]]:
    with refusals("Docker"):
        found: list[dict[str, Any]] = client.api.networks(filters={"label": f"{DOCKER_LABEL}=true"})
    return [network for network in found if NAMESPACE_LABEL in network["Labels"]]


def _network(found: Mapping[str, Any]) -> DockerNetwork:
    options = found["Options"] or {}
    auxiliary = {
        name: address
        for config in found["IPAM"]["Config"] or ()
        for name, address in (config.get("AuxiliaryAddresses") or {}).items()
    }
    return DockerNetwork(
        name=found["Name"],
        namespace=found["Labels"][NAMESPACE_LABEL],
        bridge=options.get(_BRIDGE, ""),
        prefixes=tuple(_prefixes(found)),
        gateways=tuple(str(ipaddress.ip_address(auxiliary[name])) for name in sorted(auxiliary)),
        mtu=int(options.get(_MTU, 0)),
        intercontainer=options.get(_ICC) != "false",
    )


def _prefixes(found: Mapping[str, Any]) -> Iterator[str]:
    """The subnets, IPv4's first."""
    subnets = [config["Subnet"] for config in found["IPAM"]["Config"] or () if config.get("Subnet")]
    yield from sorted((str(ipaddress.ip_network(subnet, strict=False)) for subnet in subnets), key=is_v6)


def _create(client: Client, network: DockerNetwork) -> None:
    pools = [
        {
            "Subnet": prefix,
            "AuxiliaryAddresses": {_AUX[6 if is_v6(prefix) else 4]: gateway},
        }
        for prefix, gateway in zip(network.prefixes, network.gateways, strict=True)
    ]
    client.api.create_network(
        network.name,
        driver="bridge",
        check_duplicate=True,
        enable_ipv6=any(map(is_v6, network.prefixes)),
        ipam={"Driver": "default", "Config": pools},
        labels={DOCKER_LABEL: "true", NAMESPACE_LABEL: network.namespace},
        options={
            _BRIDGE: network.bridge,
            _ICC: "true" if network.intercontainer else "false",
            _MASQUERADE: "false",
            _MTU: str(network.mtu),
        },
    )


def _remove(client: Client, name: str) -> None:
    """By its identity, once more seen to be ours: another may have the name by now."""
    for found in _ours(client):
        if found["Name"] == name:
            client.api.remove_network(found["Id"])


# Containers -----------------------------------------------------------------------------------------


def _attach(client: Client, wanted: Attachment) -> None:
    """Out of what it shall not have first: in between it has no way out rather than two."""
    try:
        with refusals(f"container {wanted.container}"):
            seen = client.api.inspect_container(wanted.container)
    except NotFound:
        return  # gone since we looked
    held = frozenset(seen["NetworkSettings"]["Networks"])
    for network in sorted(held - wanted.networks):
        with refusals(f"container {wanted.container} and network {network}"):
            client.api.disconnect_container_from_network(seen["Id"], network)
    for network in sorted(wanted.networks - held):
        with refusals(f"container {wanted.container} and network {network}"):
            client.api.connect_container_to_network(seen["Id"], network)


def _dns_servers(client: Client, container: str) -> tuple[str, ...]:
    """The DNS servers that a container was started with; () where it was told none."""
    try:
        with refusals(f"container {container[:12]}"):
            return tuple(client.api.inspect_container(container)["HostConfig"]["Dns"] or ())
    except NotFound:
        return ()


def _asks_outside(version: int) -> bool:
    """Whether Docker asks the DNS servers of a container that was told none from the host's side."""
    if _daemon_servers():
        return False
    return version >= ASKS_FROM_HOST or any(map(_is_local, _host_servers()))


def _daemon_servers() -> list[str]:
    try:
        return list(json.loads(DAEMON_JSON.read_text()).get("dns", ()))
    except (OSError, ValueError, AttributeError):
        return []


def _host_servers() -> Iterator[str]:
    try:
        lines = RESOLV_CONF.read_text(errors="replace").splitlines()
    except OSError:
        return
    for words in map(str.split, lines):
        if len(words) > 1 and words[0] == "nameserver":
            yield words[1]


def _is_local(server: str) -> bool:
    """On the host itself, or known only on one of its links."""
    try:
        return "%" in server or ipaddress.ip_address(server).is_loopback
    except ValueError:
        return True
