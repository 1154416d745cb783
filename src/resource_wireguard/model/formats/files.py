"""A config in the format that was asked for, as the files it is made of."""

from collections.abc import Iterable, Mapping

from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.formats import json, networkd, networkmanager, wgquick
from resource_wireguard.model.formats.config import WgQuickConfig

WG_QUICK, JSON, NETWORKD, NETWORKMANAGER = FORMATS = ("wg-quick", "json", "networkd", "networkmanager")


def files_of(
    config: WgQuickConfig, format_: str, interface: str, head: Iterable[str] = ()
) -> Mapping[str, str]:
    """File name → text; head is put before each as comments, except in JSON, which has none."""
    comments = "".join(f"# {line}\n" for line in head)
    match format_:
        case "wg-quick":
            return {f"{interface}.conf": comments + wgquick.render(config)}
        case "json":
            return {f"{interface}.json": json.render(config)}
        case "networkd":
            files = networkd.render(config, interface)
        case "networkmanager":
            files = networkmanager.render(config, interface)
        case _:
            raise InvalidInput(f"no format '{format_[:40]}'", f"there are: {', '.join(FORMATS)}")
    return {name: comments + text for name, text in files.items()}


def text_of(files: Mapping[str, str]) -> str:
    """The files as one text to be looked at: each of several under its name."""
    if len(files) == 1:
        return next(iter(files.values()))
    return "\n".join(f"# file {name}\n{text}" for name, text in files.items())
