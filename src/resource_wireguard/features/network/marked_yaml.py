"""YAML to plain values, each with the line it stands on.

Built from PyYAML's events, not by its constructors: no tag makes an object, an alias is refused where it
stands (so none can multiply), a key twice in a mapping is an error, and depth and size have bounds. Plain
words mean what YAML 1.2's core schema says: true, false, null and whole numbers; 'yes' and 'on' are words.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from resource_wireguard.errors import InvalidInput

if TYPE_CHECKING:
    import yaml

SIZE_MOST = 8 * 1024 * 1024
"""Bytes of a file: some 30,000 peers."""

DEPTH_MOST = 20
"""Collections within each other; a network has six."""

Place = tuple[int, int]
"""Line and column, from 1."""

Path = tuple[str | int, ...]

_WHOLE_NUMBER = re.compile(r"[-+]?[0-9]{1,18}")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Marked:
    """A document of plain values, and where each key and value of it stands."""

    def __init__(self) -> None:
        self.value: Any = None
        self._values: dict[Path, Place] = {(): (1, 1)}
        self._keys: dict[Path, Place] = {}

    def place(self, path: Path, at_key: bool = False) -> Place:
        """Where a value stands, or its key; of what is not there, where the nearest thing above it stands."""
        while path not in self._values:
            path = path[:-1]
        return self._keys.get(path, self._values[path]) if at_key else self._values[path]

    def put_key(self, path: Path, place: Place) -> None:
        """Note where a key stands."""
        self._keys[path] = place

    def put_value(self, path: Path, place: Place) -> None:
        """Note where a value stands."""
        self._values[path] = place


class NotUnderstood(InvalidInput):
    """The text is no YAML, or more of YAML than is taken; place is where."""

    def __init__(self, place: Place, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.place = place


def parse(content: bytes) -> Marked:
    """A file's content as one document; NotUnderstood with the place otherwise."""
    import yaml

    text = _decoded(content)
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    try:
        return _Builder().built(yaml.parse(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = ", ".join(filter(None, (error.context, error.problem)))
        raise NotUnderstood(_place(mark) if mark else (1, 1), f"this is not YAML: {words}") from None
    except yaml.YAMLError as error:  # a character that YAML has not: the reader knows its place in the text
        before = text[: getattr(error, "position", 0) or 0]
        place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise NotUnderstood(place, "a character that no YAML file may have") from None


def _decoded(content: bytes) -> str:
    if len(content) > SIZE_MOST:
        raise NotUnderstood((1, 1), f"the file has more than {SIZE_MOST >> 20} MiB", "is it the right file?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        place = (before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        raise NotUnderstood(place, "this is not UTF-8 text", "save the file as UTF-8") from None


class _Open:
    """A collection that is being filled: its path, and in a mapping the key that waits for a value."""

    def __init__(self, path: Path, value: Any) -> None:
        self.path = path
        self.value = value
        self.key: str | None = None


class _Builder:
    """Builds values from events, without recursion: deep nesting costs no stack."""

    def __init__(self) -> None:
        self._marked = Marked()
        self._open: list[_Open] = []
        self._documents = 0

    def built(self, events: "Iterator[yaml.Event]") -> Marked:
        """Take all events of one text."""
        import yaml

        for event in events:
            match event:
                case yaml.AliasEvent():
                    raise _refusal(
                        event, f"the alias '*{str(event.anchor)[:40]}' is not taken", "write it out"
                    )
                case yaml.DocumentStartEvent():
                    self._begin_document(event)
                case yaml.ScalarEvent():
                    self._refuse_tag(event, event.tag)
                    self._add(event, _scalar(event))
                case yaml.MappingStartEvent():
                    self._refuse_tag(event, event.tag)
                    self._begin(event, {})
                case yaml.SequenceStartEvent():
                    self._refuse_tag(event, event.tag)
                    self._begin(event, [])
                case yaml.CollectionEndEvent():
                    self._open.pop()
        return self._marked

    def _begin_document(self, event: "yaml.Event") -> None:
        self._documents += 1
        if self._documents > 1:
            raise _refusal(event, "a second document begins here", "one file has one document")

    def _refuse_tag(self, event: "yaml.Event", tag: str | None) -> None:
        if tag is not None and tag != "!":
            raise _refusal(event, f"the tag '{tag[:40]}' is not taken", "leave it out")

    def _begin(self, event: "yaml.Event", collection: Any) -> None:
        if len(self._open) >= DEPTH_MOST:
            raise _refusal(event, f"more than {DEPTH_MOST} collections lie within each other")
        path = self._add(event, collection)
        self._open.append(_Open(path, collection))

    def _add(self, event: "yaml.Event", value: Any) -> Path:
        """Put a value where the events have come to; the path of it."""
        place = _place(event.start_mark)
        if not self._open:
            self._marked.value = value
            self._marked.put_value((), place)
            return ()
        inner = self._open[-1]
        if isinstance(inner.value, list):
            path: Path = (*inner.path, len(inner.value))
            inner.value.append(value)
        elif inner.key is None:
            return self._take_key(event, inner)
        else:
            path, inner.value[inner.key] = (*inner.path, inner.key), value
            inner.key = None
        self._marked.put_value(path, place)
        return path

    def _take_key(self, event: "yaml.Event", inner: _Open) -> Path:
        """A key is always its text, as it is written: a peer may be called 7, or on."""
        import yaml

        if not isinstance(event, yaml.ScalarEvent):
            raise _refusal(event, "a key is one word, not a collection")
        key, path = event.value, (*inner.path, event.value)
        if key in inner.value:
            line = self._marked.place(path, at_key=True)[0]
            raise _refusal(
                event, f"the key '{key[:60]}' is there twice: first in line {line}", "keep one of them"
            )
        inner.key = key
        inner.value[key] = None
        self._marked.put_key(path, _place(event.start_mark))
        self._marked.put_value(path, _place(event.start_mark))
        return path


def _scalar(event: "yaml.ScalarEvent") -> Any:
    """What a plain word means; whatever is in quotes is text."""
    if not event.implicit[0]:
        return event.value
    if event.value in _WORDS:
        return _WORDS[event.value]
    return int(event.value) if _WHOLE_NUMBER.fullmatch(event.value) else event.value


def _place(mark: Any) -> Place:
    return mark.line + 1, mark.column + 1


def _refusal(event: "yaml.Event", message: str, hint: str = "") -> NotUnderstood:
    return NotUnderstood(_place(event.start_mark), message, hint)
