"""The events of the host in memory: a descriptor that becomes readable when something was changed."""

import os


class FakeEvents:
    """An eventfd that counts what changed since the last look."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """For select(2)."""
        return self._descriptor

    def drain(self) -> int:
        """How many changes were queued."""
        try:
            return os.eventfd_read(self._descriptor)
        except BlockingIOError:
            return 0

    def ring(self) -> None:
        """One more change."""
        os.eventfd_write(self._descriptor, 1)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)
