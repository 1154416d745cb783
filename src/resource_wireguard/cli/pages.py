"""The two pages of a link that works once: a button, and behind it the config. No scripts, no styles."""

from base64 import b64encode
from html import escape

PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
    "Connection": "close",
}

_FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>WireGuard</title></head><body>
{body}
</body></html>
"""


def button_page() -> bytes:
    """What everybody sees who follows the link, previews included."""
    return _page(
        "<h1>WireGuard</h1>\n"
        "<p>This shows a WireGuard configuration, once. Press the button on the device that it is for.</p>\n"
        '<form method="post"><button>Show it now</button></form>'
    )


def config_page(name: str, config: str, picture: bytes) -> bytes:
    """The config as a file to open, as a QR code (SVG) and as text."""
    file = f"data:application/octet-stream;base64,{_base64(config.encode())}"
    image = f"data:image/svg+xml;base64,{_base64(picture)}"
    return _page(
        f"<h1>{escape(name)}</h1>\n"
        f'<p><a download="{escape(name)}.conf" href="{file}">Save it as a file</a>, and open that with the '
        "WireGuard app. Or scan this with the app of another device:</p>\n"
        f'<p><img alt="QR code" src="{image}"></p>\n'
        "<p>This page cannot be loaded again: the link has ended.</p>\n"
        f"<pre>{escape(config)}</pre>"
    )


def gone_page() -> bytes:
    """For every other path, and for all who come later."""
    return _page("<p>There is nothing here.</p>")


def _page(body: str) -> bytes:
    return _FRAME.format(body=body).encode()


def _base64(content: bytes) -> str:
    return b64encode(content).decode()
