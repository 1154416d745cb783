"""The settings a user gives by environment variables, each with its default."""

from collections.abc import Mapping

import msgspec

from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.net import parse_address, parse_mtu, parse_port, parse_prefix

LOG_LEVELS = ("debug", "info", "warning", "error")


class Settings(msgspec.Struct, frozen=True):
    """Defaults for new tunnels and for the agent; nothing here is a secret."""

    port: int = 51820
    network: str = "10.13.13.0/24"
    dns: tuple[str, ...] = ()
    keepalive: int = 25
    mtu: int | None = None
    allowed_ips: tuple[str, ...] = ()
    peers_max: int | None = None
    log_level: str = "info"
    engine: str = "auto"
    port_registry: str | None = None


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Read WIREGUARD_*, as the agent does once at its start; InvalidInput names the variable."""

    def words(name: str) -> list[str]:
        return environment.get(name, "").replace(",", " ").split()

    level = (environment.get("WIREGUARD_LOG_LEVEL") or "info").lower()
    if level not in LOG_LEVELS:
        raise InvalidInput(f"WIREGUARD_LOG_LEVEL '{level}' is unknown", f"use one of {', '.join(LOG_LEVELS)}")
    return Settings(
        port=parse_port(environment.get("WIREGUARD_PORT") or 51820, "WIREGUARD_PORT"),
        network=parse_prefix(environment.get("WIREGUARD_NETWORK") or "10.13.13.0/24", "WIREGUARD_NETWORK"),
        dns=tuple(parse_address(word, "WIREGUARD_DNS") for word in words("WIREGUARD_DNS")),
        keepalive=_count(environment, "WIREGUARD_KEEPALIVE", 25, 65535),
        mtu=_mtu(environment),
        allowed_ips=tuple(
            parse_prefix(word, "WIREGUARD_ALLOWED_IPS") for word in words("WIREGUARD_ALLOWED_IPS")
        ),
        peers_max=_count(environment, "WIREGUARD_PEERS_MAX", 0, 1_000_000) or None,
        log_level=level,
        engine=environment.get("WIREGUARD_ENGINE") or "auto",
        port_registry=environment.get("APP_ROOT") or environment.get("VROOLI_ROOT") or None,
    )


def _mtu(environment: Mapping[str, str]) -> int | None:
    name = "WIREGUARD_MTU"
    if environment.get(name, "auto") in ("auto", ""):
        return None
    return parse_mtu(_count(environment, name, 0, 65535), what=name)


def _count(environment: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or int(text) > most:
        raise InvalidInput(
            f"{name} '{text[:20]}' is not a number from 0 to {most}", f"the default is {default}"
        )
    return int(text)
