"""Names of peers: the format has no key for them, so every manager has its own kind of comment.

# Name = phone          by hand, and what we write
# Client: phone (3)     wg-easy
# friendly_name = phone wg-portal, OPNsense, the Prometheus exporter
# phone                 algo, provider files, people
### begin phone ###     PiVPN
### Client phone        install scripts
# BEGIN_PEER phone      install scripts
"""

import re

from resource_wireguard.model.names import NAME_MAX

_LABELLED = re.compile(
    r"(?:-WGP- )?"
    r"(?:(?:name|friendly[_ ]name|display name|client|peer|device|user|alias)\s*[:=]\s*(?P<text>\S.*)"
    r"|(?:client|peer|begin|begin_peer)\s+(?P<word>\S+))",
    re.IGNORECASE,
)
_EASY_ID = re.compile(r"\s*\((?:\d+|[0-9a-f]{8}-[0-9a-f-]{27})\)$")
_KEY_SHAPED = re.compile(r"[A-Za-z0-9+/]{40,}={0,2}")
_WORDS_MAX = 4
"""A plain comment of more words is a remark, not a name."""


def comment_text(comment: str) -> str:
    """A comment without its decoration: '## begin phone ###' → 'begin phone'."""
    return comment.strip("# \t\r\v\f")


def is_switched_off_section(comment: str) -> bool:
    """Whether the comment is a section somebody disabled: '#[Peer]', '#[disabled] [Peer]'."""
    return comment.startswith("[")


def labelled_name(comment: str) -> str:
    """The name in a comment that says it is one; empty where there is none."""
    match = _LABELLED.fullmatch(comment)
    if not match:
        return ""
    return _clean(_EASY_ID.sub("", match["text"] or match["word"]))


def plain_name(comment: str) -> str:
    """A comment that is nothing but a name; empty for remarks and for lines somebody disabled."""
    words = comment.split()
    looks_otherwise = "=" in comment or comment.startswith("[") or comment.endswith((":", "."))
    if looks_otherwise or len(words) > _WORDS_MAX or words[:1] in (["end"], ["END_PEER"]):
        return ""
    return _clean(comment)


def _clean(name: str) -> str:
    """The name, unless it is too long, has control characters, or is a key that must not be shown."""
    if len(name) > NAME_MAX or not name.isprintable() or any(map(_KEY_SHAPED.fullmatch, name.split())):
        return ""
    return name
