"""systemd as the agent's supervisor, where it runs: the unit written and removed, started and stopped."""

import os
import stat
import sys
import time
from contextlib import suppress

from resource_wireguard.cli import unit
from resource_wireguard.cli.client import config_dir
from resource_wireguard.errors import HostError, PermissionDenied

BOOTED = "/run/systemd/system"
"""Exists where systemd is the init system (sd_booted(3))."""

FOLDER = "/etc/systemd/system"
"""Where an administrator's units lie (systemd.unit(5))."""

LOOK_EVERY = 0.5
"""Seconds between two questions whether a unit that is starting has failed."""

STOPPED_WITHIN = 40.0
"""Seconds: more than TimeoutStopSec of the unit."""


def unit_path() -> str:
    """Where our unit lies."""
    return f"{FOLDER}/{unit.NAME}"


def environment_path() -> str:
    """The unit's settings."""
    return f"{config_dir()}/service.env"


def is_possible() -> bool:
    """Whether systemd runs here, and we may write units."""
    return os.path.isdir(BOOTED) and os.geteuid() == 0


def has_unit() -> bool:
    """Whether the unit on this host is that of our CONFIG_DIR, and systemd runs to start it."""
    return os.path.isdir(BOOTED) and unit.is_for(_read(unit_path()), config_dir())


def is_anothers() -> bool:
    """Whether the unit on this host belongs to another CONFIG_DIR: it then stays as it is."""
    return os.path.exists(unit_path()) and not unit.is_for(_read(unit_path()), config_dir())


def is_current(environment: dict[str, str], allow_netns: bool | None) -> bool:
    """Whether unit and settings are what install would write now."""
    if _read(unit_path()) != _text(allow_netns):
        return False
    before = _read(environment_path())
    return unit.settings_of(before) == unit.settings_of(unit.environment_text(environment, before))


def settings() -> dict[str, str]:
    """What the unit gives the agent."""
    return unit.variables_of(_read(environment_path()))


def settings_with(environment: dict[str, str]) -> dict[str, str]:
    """What it gives the agent once install has been given these."""
    return unit.variables_of(unit.environment_text(environment, _read(environment_path())))


def install(environment: dict[str, str], allow_netns: bool | None) -> None:
    """Write the unit and its settings, and have it started with the host; allow_netns None: as it was."""
    if "\n" in config_dir():
        raise HostError("a CONFIG_DIR with a line end in its name cannot have a unit", "use another")
    before = _read(environment_path())
    _write(environment_path(), unit.environment_text(environment, before), 0o600)
    _write(unit_path(), _text(allow_netns), 0o644)
    _systemctl("daemon-reload")
    _systemctl("enable", unit.NAME)


def uninstall() -> None:
    """Take the unit off this host; systemd forgets it."""
    _systemctl("stop", unit.NAME)
    _systemctl("disable", unit.NAME)
    os.unlink(unit_path())
    _systemctl("daemon-reload")
    with suppress(HostError):  # it had not failed
        _systemctl("reset-failed", unit.NAME)


def start() -> None:
    """Have the unit started, without waiting for it."""
    with suppress(HostError):  # it had not failed; if it had too often, it may be started again by hand
        _systemctl("reset-failed", unit.NAME)
    _systemctl("start", "--no-block", unit.NAME)


def stop() -> None:
    """Tell systemd that the agent is meant to have ended; the tunnels are not its business."""
    _systemctl("stop", unit.NAME)


class Failure:
    """Whether a unit that is starting has ended instead; asks systemd now and then."""

    def __init__(self) -> None:
        self._asked = time.monotonic()

    def __call__(self) -> bool:
        """True once it has ended; it is not started again by itself then."""
        if time.monotonic() - self._asked < LOOK_EVERY:
            return False
        self._asked = time.monotonic()
        shown = _systemctl("show", "--property=ActiveState,SubState,Job", unit.NAME).split()
        waits = any(line.startswith("Job=") and line != "Job=0" for line in shown)
        ended = {"ActiveState=failed", "SubState=auto-restart"} & set(shown)
        if not ended and (waits or "ActiveState=inactive" not in shown):
            return False
        stop()
        return True


def _text(allow_netns: bool | None) -> str:
    """The unit for this interpreter, with one more capability if it cannot do without."""
    python = os.path.abspath(sys.executable)
    hidden = any(not _root_may_enter(path) for path in (config_dir(), python, os.path.realpath(python)))
    netns = unit.allows_netns(_read(unit_path())) if allow_netns is None else allow_netns
    return unit.unit_text(python, config_dir(), [unit.READ_ANY_FOLDER] if hidden else [], netns=netns)


def _root_may_enter(path: str) -> bool:
    """Whether root reaches a path by ownership and mode alone, without any capability."""
    while (path := os.path.dirname(path)) != "/":
        with suppress(FileNotFoundError):
            found = os.stat(path)
            if not found.st_mode & (stat.S_IXOTH | (stat.S_IXUSR if found.st_uid == 0 else 0)):
                return False
    return True


def _systemctl(*words: str) -> str:
    from resource_wireguard.system.process import run

    return run(["systemctl", *words], timeout=STOPPED_WITHIN).stdout


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except PermissionError:
        raise PermissionDenied(f"you may not read {path}", "run it with sudo") from None


def _write(path: str, text: str, mode: int) -> None:
    """Whole or not at all."""
    fresh = f"{path}.new"
    try:
        with suppress(FileNotFoundError):
            os.unlink(fresh)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError as error:
        raise HostError(
            f"cannot write {path}: {error.strerror}", "look at the disk's space and rights"
        ) from None
