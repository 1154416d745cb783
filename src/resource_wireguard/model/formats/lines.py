"""Lines of INI-like files, so written that a value never becomes a second line or loses its end."""

from collections.abc import Iterable

from resource_wireguard.errors import InvalidInput


def setting(key: str, value: object, equals: str = " = ") -> list[str]:
    """'Key = value' as one line, or none where the value is None, 0 or empty."""
    return _one_line(key, f"{key}{equals}", value, "\0\r\n#")


def comment(key: str, value: object) -> list[str]:
    """'# Key = value' as one line, or none where the value is empty."""
    return _one_line(key, f"# {key} = ", value, "\0\r\n")


def list_of(words: Iterable[str], separator: str = ", ") -> str:
    """Several values in one."""
    return separator.join(words)


def text_of(sections: Iterable[list[str]]) -> str:
    """Sections as a file, with a blank line between them."""
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _one_line(key: str, start: str, value: object, forbidden: str) -> list[str]:
    if not value:
        return []
    text = str(value)
    if any(sign in text for sign in forbidden):
        raise InvalidInput(
            f"{key} has a character that a config file cannot hold", "remove line breaks and '#' from it"
        )
    return [start + text]
