"""The clock of the host."""

import time
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SystemClock:
    """Time as everybody else on the host has it."""

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()

    def boot(self) -> tuple[str, float]:
        """Which boot this is (random(4)), and seconds since it, sleep counted (clock_gettime(2))."""
        return BOOT_ID.read_text().strip(), time.clock_gettime(time.CLOCK_BOOTTIME)
