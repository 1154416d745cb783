"""Kernel settings under /proc/sys, by their dotted names (sysctl(8))."""

from pathlib import Path

from resource_wireguard.errors import HostError

_ROOT = Path("/proc/sys")
_SWAPPED = str.maketrans("./", "/.")


def read(name: str) -> str | None:
    """The value with single spaces between its words; None where this kernel has no such setting."""
    try:
        return " ".join(_path(name).read_text().split())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(f"sysctl {name} cannot be read: {error.strerror}") from None


def write(name: str, value: str) -> None:
    """Set a value; HostError with the way out where /proc/sys is read-only, as in most containers."""
    try:
        _path(name).write_text(f"{value}\n")
    except OSError as error:
        raise HostError(
            f"sysctl {name} cannot be set to {value}: {error.strerror}",
            f"set it from outside, for a container with: --sysctl {name}={value}",
        ) from None


def _path(name: str) -> Path:
    """As sysctl(8): the first of '.' and '/' in a name is its separator, the other a plain character."""
    dotted = "/" not in name or -1 < name.find(".") < name.find("/")
    return _ROOT / (name.translate(_SWAPPED) if dotted else name)
