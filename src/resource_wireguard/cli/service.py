"""The life of the service on this host: install, start, stop, restart, uninstall."""

import os
import sys
import time
from contextlib import suppress
from typing import Any

import click

from resource_wireguard.cli import lifetime, output, placement, supervisor
from resource_wireguard.cli.client import call, config_dir
from resource_wireguard.cli.command import Group
from resource_wireguard.cli.options import Number, confirm, force_option
from resource_wireguard.errors import (
    AlreadyExists,
    HostError,
    InvalidInput,
    NotFound,
    ResourceError,
    ServiceNotRunning,
)

STARTED_WITHIN = 10.0
"""Seconds that start and restart wait for the agent's answer when not told otherwise."""

ENDED_WITHIN = 30.0
"""Seconds that restart gives the old agent."""

LISTED_WITHIN = 2.0
"""Seconds that restart waits for the names of tunnels: the agent may be replaced because it hangs."""

INSTALLED_WITHIN = 540.0
"""Seconds for apt-get: the contract grants install 600."""

RUN_FILES = ("agent.sock", "agent.lock", "agent.log", "agent.log.1", "engine.log", "engine.log.1")
UNIT_FILES = ("service.env", "service.env.new", "container.json")
DATA_FILES = ("state.db", "state.db-wal", "state.db-shm", "master.key", "master.key.new")
"""All that is ours in CONFIG_DIR; uninstall removes these names and nothing else."""

SECONDS = Number(1, 3600)


@click.group(cls=Group)
def manage() -> None:
    """Install, start, stop, restart and uninstall the service on this host."""


@manage.command(examples=("manage install", "manage install --runtime docker --publish 51821-51823"))
@click.option(
    "--runtime",
    type=click.Choice([placement.NATIVE, placement.DOCKER]),
    help="Where the agent runs: on this host, or in a container. As it was, or native.",
)
@click.option(
    "--publish", multiple=True, metavar="PORTS", help="Of the container: more UDP ports, as 51821-51823."
)
@click.option(
    "--host-network/--own-network",
    default=None,
    help="Of the container: manage the network of this host, or one of its own.",
)
@click.option("--memory", type=Number(32, 65536), help="Of the container: MB it may use.  [default: 100]")
@click.option(
    "--allow-netns/--no-allow-netns",
    default=None,
    help="Let the systemd unit make network namespaces (CAP_SYS_ADMIN). As it was, or not.",
)
@click.option("--force", is_flag=True, help="Do not ask before Debian packages are installed.")
@click.option("--skip-validation", is_flag=True, help="Do not check the host again at the end.")
@click.option("--verbose", is_flag=True, help="Say what was checked.")
def install(
    runtime: str | None,
    allow_netns: bool | None,
    force: bool,
    skip_validation: bool,
    verbose: bool,
    **contained: Any,
) -> None:
    """See that the host has what is needed, make CONFIG_DIR, and a systemd unit where systemd runs.

    Missing Debian packages are installed, where that is possible. For the runtime docker the image is built
    instead, or that of WIREGUARD_IMAGE taken. Exit code 2: installed already.
    """
    if (runtime or placement.described()["runtime"]) == placement.DOCKER:
        if allow_netns:
            raise InvalidInput("--allow-netns is for the agent on this host", "add --runtime native")
        from resource_wireguard.cli import containment

        containment.install(**contained)
        return
    moved = _leave_container(contained)
    _install_natively(allow_netns, force, skip_validation, verbose, moved)


def _leave_container(contained: dict[str, Any]) -> bool:
    """Move out of the container, if the agent has one; options for one make no sense then."""
    for name, value in contained.items():
        if value:
            raise InvalidInput(f"--{name.replace('_', '-')} is for a container", "add --runtime docker")
    if (wanted := placement.container()) is None:
        return False
    from resource_wireguard.cli import containment

    containment.leave(wanted)
    return True


def _install_natively(
    allow_netns: bool | None, force: bool, skip_validation: bool, verbose: bool, moved: bool
) -> None:
    from resource_wireguard.cli.doctor import requirements

    checks = requirements()
    if verbose:
        for check in checks:
            output.note(f"{check.code}: {check.message}")
    lacking = [check for check in checks if check.result == "failed"]
    if not (lacking or moved) and os.path.isdir(lifetime.run_dir()) and not _wants_unit(allow_netns):
        raise AlreadyExists(
            f"already installed in {config_dir()}", "start it with 'resource-wireguard manage start'"
        )
    if lacking:
        _install_packages(sorted({check.package for check in lacking if check.package}), force)
    if not skip_validation:
        for check in requirements():
            if check.result == "failed":
                raise HostError(f"{check.code}: {check.message}", check.hint)
    lifetime.make_directories()
    if _wants_unit(allow_netns):
        supervisor.install(lifetime.agent_environment(), allow_netns)
        output.note(f"the unit {supervisor.unit_path()} starts it with this host")
    output.note(f"installed in {config_dir()}; start it with 'resource-wireguard manage start --wait'")


@manage.command(examples=("manage start --wait",))
@click.option("--wait", is_flag=True, help="Return only when the service answers and its health is known.")
@click.option("--timeout", type=SECONDS, default=60, show_default=True, help="Seconds to wait with --wait.")
@click.option(
    "--force", is_flag=True, expose_value=False, help="Accepted for Vrooli; there is nothing to force."
)
def start(wait: bool, timeout: int) -> None:
    """Start the service and bring all active tunnels up. Exit code 2: it runs already."""
    _start(float(timeout) if wait else STARTED_WITHIN, wait)


@manage.command(examples=("manage stop", "manage stop --force --timeout 5"))
@click.option("--force", is_flag=True, help="Kill the agent if it does not end in time.")
@click.option("--timeout", type=SECONDS, default=30, show_default=True, help="Seconds it may take.")
def stop(force: bool, timeout: int) -> None:
    """Take all tunnels down and end the service. Exit code 2: it is not running."""
    with lifetime.held() as agent:
        _end_by("agent.stop", agent, float(timeout), force)
    if supervisor.has_unit():
        supervisor.stop()
    output.note("the service is stopped")


@manage.command(examples=("manage restart",))
@click.option("--force", is_flag=True, help="Kill the old agent if it does not end in time.")
def restart(force: bool) -> None:
    """Replace the agent by a new one. The tunnels stay up and lose no packet.

    A container takes its tunnels along: it makes them anew.
    """
    with suppress(ServiceNotRunning), lifetime.held() as agent:
        _note_interrupted(agent)
        if agent.leaves_behind:
            _end_by("agent.stop", agent, ENDED_WITHIN, force)
        else:
            lifetime.end(agent, ENDED_WITHIN, force)
    _start(STARTED_WITHIN, False)


@manage.command(examples=("manage uninstall --keep-data", "manage uninstall --force"))
@click.option("--keep-data", is_flag=True, help="Keep tunnels, peers and keys for a later installation.")
@force_option
def uninstall(keep_data: bool, force: bool) -> None:
    """Take everything of ours off this host, then remove its files. Exit code 2: not installed."""
    directory = config_dir()
    if not os.path.isdir(lifetime.run_dir()):
        kept = (
            "its tunnels and keys are kept there: remove the folder, or 'manage install' takes them up again"
        )
        there = os.path.exists(f"{directory}/state.db")
        raise NotFound(f"not installed in {directory}", kept if there else "")
    what = "; tunnels, peers and keys are kept" if keep_data else " with all tunnels, peers and keys"
    confirm(f"Remove the service from {directory}{what}?", force)
    wanted = placement.container()
    if lifetime.is_running():
        with suppress(ServiceNotRunning), lifetime.held() as agent:
            _end_by("agent.purge", agent, ENDED_WITHIN, force)
    elif wanted is None or wanted.host_network:  # a stopped agent left nothing, a killed one everything
        _purge(directory, force)
    if wanted is not None:
        from resource_wireguard.cli import containment

        containment.leave(wanted, for_good=True)
    if supervisor.has_unit():
        supervisor.uninstall()
    _remove_files(directory, keep_data)
    output.note("uninstalled" + (f"; {directory} keeps tunnels, peers and keys" if keep_data else ""))


def _wants_unit(allow_netns: bool | None) -> bool:
    """Whether a unit is to be written: there is none yet, or it is not as it should be."""
    if not supervisor.is_possible() or supervisor.is_anothers():
        return False
    return not supervisor.is_current(lifetime.agent_environment(), allow_netns)


def _start(within: float, wait: bool) -> None:
    found = lifetime.start(within)
    if found is None and wait:
        raise HostError(f"the agent did not answer within {within:g} s; it is still starting", "see its log")
    if found is None:
        output.note("the agent is still starting; see 'resource-wireguard status'")
        return
    health = call("status")["service"]["health"] if wait else ""
    output.note(f"the service runs ({lifetime.place()})" + (f" and is {health}" if health else ""))


def _note_interrupted(agent: lifetime.Ending) -> None:
    """Say which tunnels the agent takes along."""
    if not (engines := agent.takes_along):
        return
    with suppress(ResourceError):  # one that does not answer is to be replaced all the same
        tunnels = call("tunnel.list", within=LISTED_WITHIN)
        ending = [tunnel["name"] for tunnel in tunnels if tunnel["engine"] in engines]
        if ending:
            names = ", ".join(ending)
            output.note(
                f"note: this interrupts {names}: made anew with the container, peers notice within 15 s"
            )


def _purge(directory: str, force: bool) -> None:
    from pathlib import Path

    from resource_wireguard.cli.compose import purge

    try:
        left = purge(Path(directory), os.environ)
    except ResourceError as error:
        if not force:
            raise HostError(
                f"what is left on the host cannot be removed: {error.message}",
                error.hint or "add --force to remove the files all the same",
            ) from None
        output.note(f"not looked at: what may be left on the host ({error.message})")
        return
    _refuse_left(left)


def _refuse_left(left: list[str]) -> None:
    if left:
        raise HostError(f"stopped, but this host refused to {'; '.join(left[:3])}", "see the agent's log")


def _end_by(command: str, agent: lifetime.Ending, within: float, force: bool) -> None:
    """Ask the agent to clean the host and end; with force, kill it when the time is up."""
    deadline = time.monotonic() + within
    left: list[str] = []
    try:
        left = _ask(command, agent, deadline).get("left", [])
    except HostError:
        if not force:
            raise
    if not agent.ended(deadline - time.monotonic()):
        if not force:
            raise HostError(f"the agent did not end within {within:g} s", "add --force to kill it")
        agent.kill()
        output.note("the agent was killed: tunnels may still be up until the next start and stop")
    _refuse_left(left)


def _ask(command: str, agent: lifetime.Ending, deadline: float) -> dict[str, list[str]]:
    """Ask an agent that may just be starting: it listens only after its first pass."""
    while True:
        try:
            answer: dict[str, list[str]] = call(command, within=max(0.1, deadline - time.monotonic()))
        except ServiceNotRunning:
            if agent.ended(lifetime.LOOK_EVERY):
                return {}
            if time.monotonic() > deadline:
                raise HostError("the agent does not listen", "add --force to kill it") from None
        else:
            return answer


def _install_packages(packages: list[str], force: bool) -> None:
    """Install Debian packages as root, without what they recommend: that would be a whole kernel."""
    command = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if not packages:
        return
    if os.geteuid() != 0 or not os.path.exists("/usr/bin/apt-get"):
        raise HostError(f"this host lacks {', '.join(packages)}", f"install it: sudo {command}")
    if sys.stdin.isatty():
        confirm(f"Install the Debian packages {', '.join(packages)}?", force)
    output.note(f"running {command}")
    from resource_wireguard.system.process import run

    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=120"]
    wanted = [*apt, "install", "--yes", "--no-install-recommends", *packages]
    try:
        run(wanted, timeout=INSTALLED_WITHIN)
    except HostError:  # the lists may be old or absent
        run([*apt, "update"], timeout=INSTALLED_WITHIN)
        run(wanted, timeout=INSTALLED_WITHIN)


def _remove_files(directory: str, keep_data: bool) -> None:
    doomed = [f"{lifetime.run_dir()}/{name}" for name in RUN_FILES]
    doomed += [f"{directory}/{name}" for name in UNIT_FILES]
    doomed += [] if keep_data else [f"{directory}/{name}" for name in DATA_FILES]
    for path in doomed:
        with suppress(FileNotFoundError):
            os.unlink(path)
    for folder in (lifetime.run_dir(), directory):
        with suppress(OSError):  # not empty: what is left is not ours, or is kept
            os.rmdir(folder)
    if not keep_data and os.path.isdir(directory):
        output.note(f"left in {directory}, not ours: {', '.join(sorted(os.listdir(directory)))}")
