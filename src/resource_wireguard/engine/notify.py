"""Telling the service manager how we are (sd_notify(3)): datagrams to NOTIFY_SOCKET, where there is one."""

import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends states to the service manager that started us; without one, nothing happens."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog = _watchdog_seconds(environment) if self._address else None

    def tell(self, *states: str) -> None:
        """Send lines such as READY=1. A manager that does not listen is no reason to fail, or to wait."""
        if not self._address:
            return
        # A leading @ stands for the NUL of an abstract socket's name (unix(7)).
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.setblocking(False)
            sender.sendto("\n".join(states).encode(), address)


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """The time within which the manager wants WATCHDOG=1 (sd_watchdog_enabled(3)); None: it does not."""
    wanted, of_pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not wanted.isdecimal() or (of_pid and of_pid != str(os.getpid())):
        return None
    return int(wanted) / 1_000_000 or None
