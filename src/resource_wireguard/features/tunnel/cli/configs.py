"""Printing a config in one of many formats: to a terminal, a file, a folder, or as a QR code."""

import os
from typing import Any

import click

from resource_wireguard.cli.client import call
from resource_wireguard.cli.files import private_output
from resource_wireguard.cli.options import Decorator, given, show_notes
from resource_wireguard.cli.qr import drawn, picture
from resource_wireguard.errors import HostError, InvalidInput

WG_QUICK, NETWORKD = "wg-quick", "networkd"
WRITTEN = (WG_QUICK, "json", NETWORKD, "networkmanager")
DRAWN = ("qr", "png", "svg")

config_format_option: Decorator = click.option(
    "--format",
    "format_",
    type=click.Choice([*WRITTEN, *DRAWN]),
    default=WG_QUICK,
    show_default=True,
    help="The form of the config; qr is for the terminal, png and svg are pictures of it.",
)

config_output_option: Decorator = click.option(
    "--output",
    "path",
    metavar="FILE",
    help="Write to FILE, readable by you alone; '-' is stdout. For networkd's two files: a directory.",
)


def write_config(command: str, request: dict[str, Any], format_: str, path: str | None) -> None:
    """Ask for a config and write it as it is wanted; what a person should know goes to stderr."""
    request = {**request, **given(format=format_ if format_ in WRITTEN[1:] else None)}
    if format_ == NETWORKD and path not in (None, "-"):
        assert path is not None
        answer = _into_folder(command, request, path)
    else:
        with private_output(path) as write:
            answer = call(command, request)
            write(_as(format_, answer["config"]))
    show_notes(answer)


def _as(format_: str, config: str) -> str | bytes:
    if format_ == "qr":
        return drawn(config)
    return picture(config, format_) if format_ in DRAWN else config


def _into_folder(command: str, request: dict[str, Any], folder: str) -> Any:
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise InvalidInput(
            f"--output {folder} is no directory, and networkd takes two files", "name a directory"
        )
    answer = call(command, request)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise HostError(f"cannot make {folder}: {error.strerror}", "name a place you can write") from None
    for name, text in answer["files"].items():
        with private_output(os.path.join(folder, name)) as write:
            write(text)
    return answer
