"""Configs as QR codes, in a terminal and as pictures."""

import io
from typing import TYPE_CHECKING

from resource_wireguard.errors import InvalidInput

if TYPE_CHECKING:
    from segno import QRCode

PIXELS = 6
"""Width of a module (one square) of a picture: a phone reads it from a screen and from paper."""


def drawn(config: str) -> str:
    """The config as a QR code of block signs, as small as its data allows."""
    picture = io.StringIO()
    _code(config).terminal(picture, border=2, compact=True)
    return picture.getvalue()


def picture(config: str, kind: str) -> bytes:
    """The config as a QR code in a file of kind 'png' or 'svg'."""
    file = io.BytesIO()
    _code(config).save(file, kind=kind, scale=PIXELS, border=4)
    return file.getvalue()


def _code(config: str) -> "QRCode":
    """Without comments: every character makes the squares smaller, and no app shows them."""
    import segno

    bare = "".join(line for line in config.splitlines(keepends=True) if not line.startswith("#"))
    try:
        return segno.make(bare, error="l", boost_error=False, micro=False)
    except segno.DataOverflowError:
        raise InvalidInput(
            "the config is too long for a QR code", "write it to a file with --output, and send that"
        ) from None
