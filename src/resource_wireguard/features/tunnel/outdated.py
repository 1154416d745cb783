"""Which configs that were handed out before a change differ from those that would be printed after it."""

from collections.abc import Iterator
from typing import Any

from resource_wireguard.engine.engine import Engine
from resource_wireguard.features.tunnel.config import (
    config_allowed_ips,
    config_dns,
    config_keepalive,
    reachable_at,
)
from resource_wireguard.host.facts import Survey
from resource_wireguard.model.counts import counted
from resource_wireguard.model.settings import Settings
from resource_wireguard.model.specs import TunnelSpec


def outdated_note(engine: Engine, before: TunnelSpec, after: TunnelSpec) -> tuple[str, ...]:
    """A sentence for a person where a change of a tunnel or its peers leaves configs out of date."""
    resources = engine.resources
    survey = resources.host.survey()
    told = dict(_told(before, resources.settings, survey))
    names = [name for name, now in _told(after, resources.settings, survey) if told.get(name, now) != now]
    if not names:
        return ()
    print_anew = f"'resource-wireguard peer config {after.name} {names[0] if len(names) == 1 else 'PEER'}'"
    if len(names) == 1:
        return (f"the config that peer '{names[0]}' has is out of date: print it anew with {print_anew}",)
    whose = counted(len(names), "peer")
    return (f"the configs that {whose} have are out of date: print each anew with {print_anew}",)


def _told(tunnel: TunnelSpec, settings: Settings, survey: Survey) -> Iterator[tuple[str, Any]]:
    """What each peer's config says of this host, but for keys."""
    # Where our address is not known, somebody has put an endpoint with this port into the config.
    endpoint = reachable_at(tunnel, survey)[0] or tunnel.listen_port
    for peer in tunnel.peers:
        allowed = config_allowed_ips(tunnel, peer, settings)
        dns = config_dns(tunnel, peer, settings)
        yield peer.name, (endpoint, allowed, dns, tunnel.mtu, config_keepalive(peer, settings))
