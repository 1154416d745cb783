"""Counts in words: 1 peer, 2 peers."""


def counted(count: int, noun: str) -> str:
    """So many of a noun whose plural takes an s."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
