"""The composition root: puts store, host, features and agent together. Imported by the agent alone."""

import asyncio
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from resource_wireguard.cli.registry import load_features
from resource_wireguard.engine import commands
from resource_wireguard.engine.agent import Agent, make_run_dir, sole_in_namespace, sole_owner
from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Resources
from resource_wireguard.engine.ports import Host
from resource_wireguard.errors import PermissionDenied
from resource_wireguard.host.render import lines_of
from resource_wireguard.model.settings import Settings, settings_from
from resource_wireguard.store.migrations import migrate
from resource_wireguard.store.sqlite import SqliteStore
from resource_wireguard.store.vault_secrets import VaultSecrets
from resource_wireguard.system.clock import SystemClock
from resource_wireguard.system.dumps import forbid_core_dumps
from resource_wireguard.system.linux import LinuxHost

CAP_NET_ADMIN = 12
"""The bit in the kernel's capability sets (capabilities(7))."""


def run_agent(config_dir: Path, environment: Mapping[str, str], host: Host | None = None) -> None:
    """Run the agent in the foreground until it is told to end; another host may be put under it."""
    forbid_core_dumps()
    settings = settings_from(environment)
    _log_to_stderr(settings)
    _need_net_admin()
    run_dir = make_run_dir(config_dir)
    with sole_owner(run_dir), sole_in_namespace():
        host = host or LinuxHost(settings, run_dir / "engine.log")
        engine = _engine(config_dir, settings, host, environment)
        logs = [run_dir / "agent.log", run_dir / "engine.log"]
        asyncio.run(Agent(engine, run_dir / "agent.sock", logs=logs).run())


def purge(config_dir: Path, environment: Mapping[str, str], host: Host | None = None) -> list[str]:
    """What the bus' agent.purge does, where no agent runs: remove our objects; the lines of what is left."""
    forbid_core_dumps()
    _need_net_admin()
    settings = settings_from(environment)
    run_dir = make_run_dir(config_dir)
    with sole_owner(run_dir), sole_in_namespace():
        host = host or LinuxHost(settings, run_dir / "engine.log")
        engine = _engine(config_dir, settings, host, environment)
        engine.purge()
        engine.end()
    return lines_of(engine.last.drift) if engine.last else []


def _engine(config_dir: Path, settings: Settings, host: Host, environment: Mapping[str, str]) -> Engine:
    features = [commands.feature(), *load_features()]
    folder = environment.get("CREDENTIALS_DIRECTORY")  # systemd.exec(5)
    credentials = Path(folder) if folder else None
    store = SqliteStore(config_dir / "state.db")
    migrate(store, features)
    secrets = VaultSecrets(store, config_dir / "master.key", credentials)
    return Engine(Resources(store, secrets, host, SystemClock(), settings), features)


def _log_to_stderr(settings: Settings) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(message)s",
    )


def _need_net_admin() -> None:
    status = Path("/proc/self/status").read_text()
    effective = int(status.split("CapEff:")[1].split()[0], 16)
    if not effective >> CAP_NET_ADMIN & 1:
        raise PermissionDenied(
            "the agent may not configure networks here", "run it as root, or with CAP_NET_ADMIN"
        )
