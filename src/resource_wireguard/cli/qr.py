"""Configs as QR codes in a terminal."""

import io

from resource_wireguard.errors import InvalidInput


def drawn(config: str) -> str:
    """The config as a QR code of block signs, as small as its data allows."""
    import segno

    try:
        code = segno.make(config, error="l", boost_error=False, micro=False)
    except segno.DataOverflowError:
        raise InvalidInput(
            "the config is too long for a QR code", "write it to a file with --output, and send that"
        ) from None
    picture = io.StringIO()
    code.terminal(picture, border=2, compact=True)
    return picture.getvalue()
