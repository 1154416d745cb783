"""Spans of time as people type them: 90s, 10m, 2h, 7d, 4w."""

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def typed(seconds: float) -> str:
    """The same, of so many seconds: in days or the largest smaller unit that leaves nothing over."""
    fits = (unit for unit in "dhm" if seconds and seconds % SECONDS[unit] == 0)
    unit = next(fits, "s")
    count = seconds / SECONDS[unit]
    return f"{int(count) if count % 1 == 0 else count}{unit}"
