"""Every error a user can meet.

    ResourceError              exit 1
    ├── InvalidInput           1   the request itself is wrong; nothing was changed
    ├── NotFound               2   no object of that name; the hint offers the nearest one
    ├── AlreadyExists          2   the name is taken
    ├── ConflictError          1   two objects claim one thing; both are named
    ├── ServiceNotRunning      1   no agent answers on the socket, so what was asked for cannot be done
    │   └── AlreadyStopped     2   … and that is what was asked for
    ├── AlreadyRunning         2   an agent owns this CONFIG_DIR already
    ├── PermissionDenied       1   not root, or not the owner of the agent
    ├── StoreError             1   the database cannot be read or written; the old state is intact
    │   └── DamagedSecret      1   … or one sealed secret in it does not open; the others do
    ├── KeysUnavailable        1   locked, sealed or out of reach: what needs no key goes on; try again
    └── HostError              1   the kernel, an engine or a tool refused; the next pass tries again

Exit codes follow the Vrooli universal contract: 0 done, 1 failed, 2 nothing to do or no such object.
"""

from typing import ClassVar


class ResourceError(Exception):
    """One line that names the object, and a hint that names the way out."""

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidInput(ResourceError):
    """The request is wrong as written."""

    kind = "invalid-input"


class NotFound(ResourceError):
    """No object of that name."""

    kind = "not-found"
    exit_code = 2


class AlreadyExists(ResourceError):
    """The name is taken."""

    kind = "already-exists"
    exit_code = 2


class ConflictError(ResourceError):
    """Two objects claim one thing."""

    kind = "conflict"


class ServiceNotRunning(ResourceError):
    """No agent answers."""

    kind = "not-running"


class AlreadyStopped(ServiceNotRunning):
    """No agent runs, which is as it was wanted."""

    kind = "already-stopped"
    exit_code = 2


class AlreadyRunning(ResourceError):
    """Another agent owns this CONFIG_DIR."""

    kind = "already-running"
    exit_code = 2


class PermissionDenied(ResourceError):
    """The caller may not do this."""

    kind = "permission-denied"


class StoreError(ResourceError):
    """The database cannot be read or written."""

    kind = "store"


class DamagedSecret(StoreError):
    """One secret was altered, cut short or lost."""


class KeysUnavailable(ResourceError):
    """No key can be opened now: a passphrase is awaited, or what holds the master key does not answer."""

    kind = "keys-unavailable"


class HostError(ResourceError):
    """The kernel, an engine or a tool refused; again_in: seconds until it is worth trying again, if known."""

    kind = "host"

    def __init__(self, message: str, hint: str = "", again_in: float | None = None) -> None:
        super().__init__(message, hint)
        self.again_in = again_in
