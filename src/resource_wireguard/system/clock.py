"""The clock of the host."""

import time


class SystemClock:
    """Time as everybody else on the host has it."""

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()
