"""Points in time as people type them."""

import re
import time

from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.spans import SECONDS

_AGO = re.compile(r"(\d{1,9})([smhdw])")


def moment(text: str, now: float) -> float:
    """A point in Unix time from '10m', '2h', 'today', 'yesterday', 'now', '@1748779200' or ISO 8601."""
    word = text.strip().lower()
    if ago := _AGO.fullmatch(word.removesuffix(" ago")):
        return now - int(ago[1]) * SECONDS[ago[2]]
    days = {"now": None, "today": 0, "yesterday": 1}
    if word in days:
        back = days[word]
        return now if back is None else _midnight(now, back)
    from datetime import datetime

    try:
        if word.startswith("@"):
            return float(word[1:])
        return datetime.fromisoformat(text.strip()).timestamp()  # local time where no zone is given
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"--since '{text[:40]}' is not a time", "use 10m, 2h, yesterday, or 2025-06-01T12:00:00"
        ) from None


def _midnight(now: float, days_back: int) -> float:
    year, month, day, *_ = time.localtime(now)
    return time.mktime((year, month, day - days_back, 0, 0, 0, 0, 0, -1))
