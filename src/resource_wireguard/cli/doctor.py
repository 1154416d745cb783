"""Why does it not work here? Named checks of this host, which need no agent.

Codes are stable: docs/troubleshooting.md explains each.
"""

import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import click

from resource_wireguard.cli import output, placement
from resource_wireguard.cli.client import call, config_dir
from resource_wireguard.cli.command import Command
from resource_wireguard.cli.options import format_option
from resource_wireguard.errors import ResourceError, ServiceNotRunning

OK, WARNING, FAILED = "ok", "warning", "failed"

CAP_NET_ADMIN = 12
"""The bit in the kernel's capability sets (capabilities(7))."""

RELEASED = 1_748_736_000
"""Unix time before which this program did not exist: a clock that says so is wrong."""

NETLINK_GENERIC = 16
"""The netlink family of WireGuard's control (netlink(7)); Python's socket module lacks the name."""

STRICT = "1"
"""rp_filter: replies must leave by the interface the packet came in by (kernel docs, ip-sysctl)."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; package is the Debian package that would mend it."""

    code: str
    result: str
    message: str
    hint: str = ""
    package: str = ""


@click.command(cls=Command, examples=("doctor", "doctor --format json"))
@format_option
def doctor(format_: str) -> int:
    """Find out why it does not work here. Needs no running service and changes nothing.

    Exit code: 0 if nothing failed, 1 otherwise.
    """
    checks = [*requirements(), *_surroundings()]
    found = [{name: text for name, text in asdict(check).items() if name != "package"} for check in checks]
    output.show(found, format_, _lines)
    return int(any(check.result == FAILED for check in checks))


def requirements() -> list[Check]:
    """What nothing works without."""
    if (wanted := placement.container()) is not None:
        return [_tun(), _docker(wanted)]
    return [_net_admin(), _engine(), _tun(), _nft()]


def _surroundings() -> list[Check]:
    parts: tuple[Callable[[], Check], ...] = (
        _wg_tools,
        _forwarding,
        _rp_filter,
        _port,
        _clock,
        _config_dir,
        _unit,
        _agent,
    )
    contained = placement.container() is not None
    return [part() for part in parts if not (contained and part in OF_THE_HOST)]


def _lines(found: list[dict[str, Any]]) -> Iterator[str]:
    width = max(len(check["code"]) for check in found)
    for check in found:
        word = output.coloured(check["result"]) + " " * (len(WARNING) - len(check["result"]))
        yield f"{word}  {check['code']:<{width}}  {check['message']}"
        if check["hint"]:
            yield f"{'':{len(WARNING)}}  {'':<{width}}  hint: {check['hint']}"


def _net_admin() -> Check:
    effective = int(_read("/proc/self/status").split("CapEff:")[1].split()[0], 16)
    if effective >> CAP_NET_ADMIN & 1:
        return Check("net-admin", OK, "this process may configure networks")
    return Check("net-admin", FAILED, "this process may not configure networks", "run it with sudo")


def _engine() -> Check:
    from resource_wireguard.system.engines import Engines

    choice = os.environ.get("WIREGUARD_ENGINE") or "auto"
    engine = Engines(choice, _kernel_has_wireguard).available()
    if engine:
        return Check("engine", OK, f"{engine} WireGuard (WIREGUARD_ENGINE is {choice})")
    hint = "load the kernel module (modprobe wireguard) or install wireguard-go"
    message = f"no WireGuard engine (WIREGUARD_ENGINE is {choice})"
    return Check("engine", FAILED, message, hint, "wireguard-go" if choice in ("auto", "userspace") else "")


def _kernel_has_wireguard() -> bool:
    from resource_wireguard.system import genetlink
    from resource_wireguard.system.messages import NetlinkSocket

    kernel = NetlinkSocket(NETLINK_GENERIC)
    try:
        return genetlink.family(kernel) is not None
    finally:
        kernel.close()


def _tun() -> Check:
    """Needed by userspace engines only."""
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        needed = not _kernel_has_wireguard() or os.environ.get("WIREGUARD_ENGINE", "auto") not in (
            "auto",
            "kernel",
        )
        message = f"/dev/net/tun cannot be opened: {error.strerror}"
        hint = "modprobe tun; in a container: --device /dev/net/tun"
        return Check("tun", FAILED if needed else OK, message, hint if needed else "")
    return Check("tun", OK, "/dev/net/tun can be opened")


def _nft() -> Check:
    from shutil import which

    if path := which("nft"):
        return Check("nft", OK, f"nftables is here ({path})")
    message = "the program 'nft' is missing: no tunnel can be an exit"
    return Check("nft", FAILED, message, "install nftables", "nftables")


def _wg_tools() -> Check:
    from shutil import which

    if which("wg"):
        return Check("wg-tools", OK, "wg is here, for a look of your own")
    return Check("wg-tools", OK, "wg is not installed; this program does not need it")


def _forwarding() -> Check:
    path = "/proc/sys/net/ipv4/ip_forward"
    if _read(path).strip() == "1":
        return Check("forwarding", OK, "this host forwards IPv4")
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        hint = "start the container with --sysctl net.ipv4.ip_forward=1"
        return Check("forwarding", WARNING, "forwarding is off and cannot be turned on: no exit tunnel", hint)
    return Check("forwarding", OK, "forwarding is off; it is turned on for an exit tunnel")


def _rp_filter() -> Check:
    """Strict filters drop replies that come back through a tunnel by another way than they would leave."""
    names = ("all", "default")
    strict = [name for name in names if _read(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").strip() == STRICT]
    if not strict:
        return Check("rp-filter", OK, "reverse path filtering is off or loose")
    message = (
        f"reverse path filtering is strict ({', '.join(strict)}): some packets of a tunnel may be dropped"
    )
    return Check("rp-filter", WARNING, message, "sysctl net.ipv4.conf.all.rp_filter=2")


def _port() -> Check:
    text = os.environ.get("WIREGUARD_PORT") or "51820"
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        return Check("port", FAILED, f"WIREGUARD_PORT '{text[:20]}' is not a UDP port", "use 1 to 65535")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", int(text)))
        except PermissionError:
            return Check("port", WARNING, f"UDP port {text} cannot be tried without root", "run it with sudo")
        except OSError:
            return _port_in_use(int(text))
    return Check("port", OK, f"UDP port {text} is free")


def _port_in_use(port: int) -> Check:
    try:
        tunnels = call("tunnel.list", within=5.0)
    except ResourceError:
        message = f"UDP port {port} is in use; whether by a tunnel of ours, only a running service knows"
        return Check("port", WARNING, message, "see 'ss -ulpn'")
    for tunnel in tunnels:
        if port in (tunnel["listen_port"], *(device["listen_port"] for device in tunnel.get("further", ()))):
            return Check("port", OK, f"UDP port {port} is that of tunnel '{tunnel['name']}'")
    message = f"UDP port {port} is taken by another program"
    return Check("port", WARNING, message, "new tunnels take the next free port; see 'ss -ulpn'")


def _clock() -> Check:
    if time.time() >= RELEASED:
        return Check("clock", OK, "the clock is plausible")
    hint = "set the clock: peers refuse handshakes that are older than the last one they saw"
    return Check("clock", FAILED, f"the clock says {time.strftime('%Y-%m-%d')}", hint)


def _config_dir() -> Check:
    path = config_dir()
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return Check("config-dir", OK, f"{path} does not exist yet")
    except OSError as error:
        return Check("config-dir", FAILED, f"{path}: {error.strerror}", "run it with sudo")
    if not stat.S_ISDIR(found.st_mode):
        return Check("config-dir", FAILED, f"{path} is not a directory", "set CONFIG_DIR to another place")
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        return Check("config-dir", FAILED, f"{path} is open to others (mode {mode:04o})", f"chmod 700 {path}")
    return Check("config-dir", OK, f"{path} is yours alone")


def _unit() -> Check:
    """Without a unit, tunnels do not come back when the host is started again."""
    from resource_wireguard.cli import supervisor

    if not os.path.isdir(supervisor.BOOTED):
        return Check("unit", OK, "systemd does not run here: nothing starts the service with this host")
    if supervisor.has_unit():
        return Check("unit", OK, f"the unit {supervisor.unit_path()} starts the service with this host")
    if supervisor.is_anothers():
        message = f"the unit {supervisor.unit_path()} belongs to another CONFIG_DIR"
        return Check("unit", WARNING, message, "start this one from a unit of your own")
    message = "no unit starts the service with this host"
    return Check("unit", WARNING, message, "run 'resource-wireguard manage install' as root")


def _docker(wanted: placement.Container) -> Check:
    """Whether the agent's container is there; that the agent in it answers is another check."""
    from resource_wireguard.cli import container

    try:
        state, health = container.condition(wanted)
    except ResourceError as error:
        return Check("docker", FAILED, error.message, error.hint)
    if state != "running":
        message = f"container {wanted.name} is {state}"
        return Check("docker", WARNING, message, "start it with 'resource-wireguard manage start'")
    return Check("docker", OK, f"container {wanted.name} runs and is {health}")


def _agent() -> Check:
    try:
        found = call("agent.info", within=5.0)
    except ServiceNotRunning as stopped:
        return Check("agent", WARNING, "the service is not running", stopped.hint)
    except ResourceError as error:
        return Check("agent", FAILED, error.message, error.hint)
    return Check("agent", OK, f"the agent answers (pid {found['pid']}, version {found['version']})")


OF_THE_HOST = (_wg_tools, _forwarding, _rp_filter, _port, _unit)
"""Surroundings that say nothing where the agent is in a container."""


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()
