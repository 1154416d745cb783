"""wg-quick(8) files: every key that wg(8) and wg-quick(8) document, read and written."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, NamedTuple

from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.formats.comments import (
    comment_text,
    is_switched_off_section,
    labelled_name,
    plain_name,
)
from resource_wireguard.model.formats.config import (
    AUTO,
    Hook,
    InterfaceSection,
    PeerSection,
    WgQuickConfig,
)
from resource_wireguard.model.formats.fields import (
    HOOKS,
    INTERFACE,
    PEER,
    Field,
    fold_allowed_ips,
    is_dns_address,
)
from resource_wireguard.model.formats.lines import comment, list_of, setting, text_of

SIZE_MAX = 4 * 2**20
"""Bytes of a file: ten thousand peers need about 2.5 MB, and no mistake shall be read for minutes."""

_BLANK = " \t\r\v\f"
"""isspace() of C, which wg and bash go by; Python's strip() would take more, such as no-break spaces."""

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,23}", re.ASCII)
"""A key or section that is shown in a message. A lost WireGuard key is longer, so it is not."""

_KEYS = {"Interface": INTERFACE, "Peer": PEER}

_ELSEWHERE = dict.fromkeys(
    ["jc", "jmin", "jmax", "s1", "s2", "s3", "s4", "h1", "h2", "h3", "h4", "i1", "i2", "i3", "i4", "i5"],
    "this is an AmneziaWG config; WireGuard cannot speak to its peers while these keys are set",
) | dict.fromkeys(
    ["includedapplications", "excludedapplications"],
    "a key of the Android app; remove the line",
)


class _Line(NamedTuple):
    number: int
    content: str
    comment: str
    is_gap: bool


class _Section:
    """A section while it is read: its values, the line of each, and the comments that may name it."""

    def __init__(self, title: str, line: int) -> None:
        self.title = title
        self.line = line
        self.values: dict[str, Any] = {}
        self.lines: dict[str, int] = {}
        self.hooks: list[Hook] = []
        self.comments: list[str] = []
        self.plain: list[str] = []

    def name(self) -> str:
        """The name a comment gives; one that says it is a name goes before one that could be."""
        named = filter(None, map(labelled_name, self.comments))
        return next(named, "") or next(filter(None, map(plain_name, self.plain)), "")


def parse(text: bytes | str) -> WgQuickConfig:
    """Read a wg-quick(8) file; InvalidInput names line and key, and never repeats a value."""
    sections = _sections(_lines(_decoded(text)))
    interface = _only_interface(sections)
    peers = [section for section in sections if section.title == "Peer"]
    _refuse_twins(peers)
    return WgQuickConfig(
        interface=_interface(interface),
        peers=tuple(map(_peer, peers)),
        hooks=tuple(interface.hooks),
    )


def render(config: WgQuickConfig) -> str:
    """Write a wg-quick(8) file, one that parse() reads back to an equal config."""
    blocks = [_interface_lines(config.interface, config.hooks), *map(_peer_lines, config.peers)]
    return text_of(blocks)


def _decoded(text: bytes | str) -> str:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    if len(data) > SIZE_MAX:
        raise InvalidInput(
            f"the config has {len(data)} bytes", f"at most {SIZE_MAX} are read; is it the right file?"
        )
    if b"\0" in data:
        raise _refused(_line_of(data, data.index(b"\0")), "a NUL byte", "save the file as UTF-8 text")
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise _refused(
            _line_of(data, error.start), "this is not UTF-8", "save the file as UTF-8 text"
        ) from None


def _line_of(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1


def _lines(text: str) -> Iterator[_Line]:
    for number, raw in enumerate(text.split("\n"), start=1):
        content, _, comment = raw.partition("#")
        yield _Line(number, content.strip(_BLANK), comment_text(comment), not raw.strip(_BLANK))


def _sections(lines: Iterable[_Line]) -> list[_Section]:
    """The sections in order. A comment belongs to the line that follows it without a gap."""
    sections: list[_Section] = []
    above: list[str] = []
    for line in lines:
        if not line.content:
            _keep_comment(above, line)
            continue
        if line.content.startswith("["):
            sections.append(_opened(line, above))
        elif sections:
            _take(sections[-1], line, above)
        else:
            raise _refused(
                line.number, "this line stands before any section", "begin the file with [Interface]"
            )
        above.clear()
    return sections


def _keep_comment(above: list[str], line: _Line) -> None:
    """Remember a comment for the next line; a gap or a switched-off section ends its reach."""
    if line.is_gap or is_switched_off_section(line.comment):
        above.clear()
    elif line.comment:
        above.append(line.comment)


def _opened(line: _Line, above: list[str]) -> _Section:
    title = "".join(line.content.split()).lower()
    if title not in ("[interface]", "[peer]"):
        shown = _shown(line.content.strip("[]"))
        raise _refused(
            line.number,
            f"unknown section {shown}",
            "a config has one [Interface], and a [Peer] for each peer",
        )
    section = _Section("Interface" if title == "[interface]" else "Peer", line.number)
    section.comments = [*above, line.comment]
    section.plain = [*above[-1:], line.comment]
    return section


def _take(section: _Section, line: _Line, above: list[str]) -> None:
    """Put one 'Key = value' into its section."""
    field = _field(section, line)
    here = [*above, line.comment] if field.key == "PublicKey" else above
    section.comments += here
    if not section.lines or field.key == "PublicKey":
        section.plain += here
    value = line.content.partition("=")[2].strip(_BLANK)
    _refuse_repeated(section, field, line)
    section.lines[field.key] = line.number
    if not value and field.may_be_empty:
        return
    read = _read(field, value, line.number)
    if field.key in HOOKS:
        section.hooks.append(Hook(field.key, read, line.number))
    elif field.repeats:
        section.values.setdefault(field.key, []).extend(read)
    else:
        section.values[field.key] = read


def _field(section: _Section, line: _Line) -> Field:
    word, equals, value = line.content.partition("=")
    key = "".join(word.split()).lower()
    if equals and key in _KEYS[section.title]:
        return _KEYS[section.title][key]
    if not equals:
        raise _refused(line.number, "this line is no 'Key = value'", "comments begin with '#'")
    # Without a value it may be the end of a key that lost its beginning: 'vHtodjb6e697QjLERt1N='.
    raise _unknown(section, line.number, word.strip(_BLANK) if value else "")


def _unknown(section: _Section, number: int, word: str) -> InvalidInput:
    key, shown = "".join(word.split()).lower(), _shown(word)
    other = "Peer" if section.title == "Interface" else "Interface"
    if key in _KEYS[other]:
        spelled = _KEYS[other][key].key
        return _refused(
            number, f"{spelled} does not belong in [{section.title}]", f"move the line to [{other}]"
        )
    hint = _ELSEWHERE.get(key) or _nearest(key, _KEYS[section.title])
    return _refused(number, f"unknown key {shown} in [{section.title}]", hint)


def _nearest(key: str, known: Mapping[str, Field]) -> str:
    near = get_close_matches(key[:40], known, n=1, cutoff=0.6)
    return (
        f"did you mean {known[near[0]].key}?"
        if near
        else f"known are {', '.join(f.key for f in known.values())}"
    )


def _refuse_repeated(section: _Section, field: Field, line: _Line) -> None:
    if field.key in section.lines and not field.repeats:
        first = section.lines[field.key]
        raise _refused(line.number, f"{field.key} stands here and on line {first}", "keep one of them")


def _read(field: Field, value: str, number: int) -> Any:
    if not value:
        raise _refused(number, f"{field.key} is empty", field.hint)
    with suppress(InvalidInput):  # what a reader raises repeats the value; see fields.py
        return field.read(value)
    raise _refused(number, f"{field.key} {field.wants}", field.hint)


def _only_interface(sections: list[_Section]) -> _Section:
    found = [section for section in sections if section.title == "Interface"]
    if not found:
        raise InvalidInput(
            "the config has no [Interface] section", "begin the file with [Interface] and its PrivateKey"
        )
    if len(found) > 1:
        raise _refused(
            found[1].line, f"[Interface] stands here and on line {found[0].line}", "keep one of them"
        )
    return found[0]


def _refuse_twins(peers: list[_Section]) -> None:
    """The kernel would make one peer of two sections with one key, and drop settings in silence."""
    lines: dict[bytes, int] = {}
    for peer in peers:
        key = _required(peer, "PublicKey", "ask the peer for the output of 'wg pubkey'")
        line = peer.lines["PublicKey"]
        if key in lines:
            raise _refused(
                line, f"PublicKey is the same as on line {lines[key]}", "make one [Peer] of the two"
            )
        lines[key] = line


def _required(section: _Section, key: str, hint: str) -> Any:
    if key not in section.values:
        raise _refused(section.line, f"[{section.title}] has no {key}", hint)
    return section.values[key]


def _interface(section: _Section) -> InterfaceSection:
    values = section.values
    dns = _once(values.get("DNS", ()))
    return InterfaceSection(
        private_key=_required(
            section, "PrivateKey", "'wg genkey' makes one; a hook that sets it cannot be used"
        ),
        addresses=_once(values.get("Address", ())),
        listen_port=values.get("ListenPort"),
        fwmark=values.get("FwMark", 0),
        mtu=values.get("MTU"),
        table=values.get("Table", AUTO),
        dns=tuple(word for word in dns if is_dns_address(word)),
        search=tuple(word for word in dns if not is_dns_address(word)),
        save_config=values.get("SaveConfig", False),
    )


def _peer(section: _Section) -> PeerSection:
    values = section.values
    return PeerSection(
        name=section.name(),
        public_key=values["PublicKey"],
        preshared_key=values.get("PresharedKey"),
        allowed_ips=fold_allowed_ips(values.get("AllowedIPs", ())),
        endpoint=values.get("Endpoint"),
        keepalive=values.get("PersistentKeepalive", 0),
    )


def _once(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _refused(line: int, what: str, hint: str) -> InvalidInput:
    return InvalidInput(f"line {line}: {what}", hint)


def _shown(word: str) -> str:
    return f"'{word}'" if _WORD.fullmatch(word) else "(not shown)"


def _interface_lines(interface: InterfaceSection, hooks: tuple[Hook, ...]) -> list[str]:
    return [
        "[Interface]",
        *setting("PrivateKey", interface.private_key.reveal()),
        *setting("Address", list_of(interface.addresses)),
        *setting("ListenPort", interface.listen_port),
        *setting("FwMark", f"{interface.fwmark:#x}" if interface.fwmark else None),
        *setting("DNS", list_of(interface.dns + interface.search)),
        *setting("MTU", interface.mtu),
        *setting("Table", interface.table if interface.table != AUTO else None),
        *setting("SaveConfig", "true" if interface.save_config else None),
        *(line for hook in hooks for line in setting(hook.key, hook.command)),
    ]


def _peer_lines(peer: PeerSection) -> list[str]:
    return [
        "[Peer]",
        *comment("Name", peer.name),
        *setting("PublicKey", str(peer.public_key)),
        *setting("PresharedKey", peer.preshared_key and peer.preshared_key.reveal()),
        *setting("Endpoint", peer.endpoint),
        *setting("AllowedIPs", list_of(peer.allowed_ips)),
        *setting("PersistentKeepalive", peer.keepalive),
    ]
