"""peer config --once: the config of a peer behind a link that works once."""

import re

import click

from resource_wireguard.cli import output
from resource_wireguard.cli.client import call
from resource_wireguard.cli.options import show_notes
from resource_wireguard.cli.qr import drawn, picture
from resource_wireguard.errors import InvalidInput

FILE_NAME_MAX = 15
"""Characters: the apps name a tunnel by its file, and take no more than an interface may have."""

OUTCOMES = {
    True: "it was fetched",
    False: "nobody fetched it",
    None: "it broke off while it was fetched; somebody may have read it, so add the peer anew",
}

_SECONDS = {"s": 1, "m": 60, "h": 3600}
EXPIRES_MOST = 24 * 3600
"""Seconds: a secret that nobody fetched within a day should be made anew."""


class Seconds(click.ParamType[int]):
    """A time such as 90s, 10m or 2h."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """In seconds; from one second to a day."""
        match = re.fullmatch(r"([0-9]{1,6})([smh])", str(value), re.ASCII)
        seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
        if not 1 <= seconds <= EXPIRES_MOST:
            self.fail(f"'{str(value)[:20]}' is not a time from 1s to 24h, such as 10m", param, ctx)
        return seconds


class Listen(click.ParamType[tuple[str, int]]):
    """ADDRESS, ADDRESS:PORT or [IPV6]:PORT; port 0 is a free one."""

    name = "address"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Address and port."""
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([0-9.]+))(?::([0-9]{1,5}))?", str(value), re.ASCII)
        if not match or int(match[3] or 0) > 65535:
            self.fail(f"'{str(value)[:60]}' is not an address and port, such as 192.168.1.5:8080", param, ctx)
        return match[1] or match[2], int(match[3] or 0)


def serve_once(tunnel: str, name: str, listen: tuple[str, int] | None, seconds: int) -> int:
    """Print the link, serve the config to the first reader, and end; 0 if it was fetched, 1 if not."""
    from resource_wireguard.cli.once import OneShot, own_address, until
    from resource_wireguard.cli.pages import config_page

    answer = call("peer.config", {"tunnel": tunnel, "name": name})
    config: str = answer["config"]
    if not call("peer.show", {"tunnel": tunnel, "name": name})["config_held"]:
        raise InvalidInput(
            f"the private key of '{name}' is not held here, so there is nothing to hand out",
            "let its own device make the config",
        )
    show_notes(answer)
    code = picture(config, "svg")
    server = OneShot(listen or (own_address(), 0), lambda: config_page(name[:FILE_NAME_MAX], config, code))
    print(drawn(server.url), end="")
    print(server.url, flush=True)
    output.note(f"works once, until {until(seconds)}, while this command runs; Ctrl-C ends it")
    output.note("it is plain HTTP: whoever can listen on the way to it can read the key")
    fetched = server.serve(seconds)
    output.note(f"{OUTCOMES[fetched]}: the link has ended")
    return 0 if fetched else 1
