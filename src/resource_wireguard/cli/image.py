"""The image of the agent's container: built from the checkout, or one that the user names."""

import os
from typing import Any

from resource_wireguard import __version__
from resource_wireguard.cli import output
from resource_wireguard.cli.client import on_terminal
from resource_wireguard.errors import HostError, NotFound
from resource_wireguard.system.docker import refusals

OWN = f"resource-wireguard:{__version__}"
"""What we call the image that we build."""

LABEL = {"wireguard.image": "built"}
"""On images that we built; others are never removed."""

SILENT_MOST = 600.0
"""Seconds that one step of a build may say nothing."""

PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""Where packages are reached through a proxy, a build needs these; Docker leaves them out of the image."""


def provide(client: Any, wanted: str) -> str:
    """The image of that name if one is given, else ours, built from the checkout; its name."""
    if wanted:
        need(client, wanted, f"get it with 'docker pull {wanted}', or unset WIREGUARD_IMAGE")
        return wanted
    if (root := _checkout()) is None:
        hint = "run it from a checkout, or name an image with WIREGUARD_IMAGE"
        raise NotFound("this program was installed without its Dockerfile", hint)
    output.note(f"building the image {OWN} from {root}; this takes a minute or two")
    _build(client, root)
    return OWN


def need(client: Any, name: str, hint: str) -> None:
    """NotFound, with the hint, where there is no such image."""
    try:
        with refusals(f"image {name}"):
            client.images.get(name)
    except NotFound:
        raise NotFound(f"there is no image {name} here", hint) from None


def identity(client: Any, name: str) -> str | None:
    """What tells two images of one name apart; None if there is none."""
    with refusals(f"image {name}"):
        return next((str(found.id) for found in client.images.list(name=name)), None)


def remove(client: Any, name: str) -> None:
    """Remove the image if we built it."""
    with refusals(f"image {name}"):
        label = "=".join(*LABEL.items())
        for _ in client.images.list(name=name, filters={"label": label}):
            client.images.remove(name, force=True)


def _checkout() -> str | None:
    """The checkout that this program runs from, if it does."""
    root = os.path.realpath(f"{os.path.dirname(__file__)}/../../..")
    return root if os.path.isfile(f"{root}/Dockerfile") else None


def _build(client: Any, root: str) -> None:
    proxies = {name: os.environ[name] for name in PROXIES if os.environ.get(name)}
    client.api.timeout = SILENT_MOST
    said = ""
    with refusals(f"image {OWN}"):
        for line in client.api.build(
            path=root, tag=OWN, buildargs=proxies, labels=LABEL, rm=True, forcerm=True, decode=True
        ):
            if "error" in line:
                hint = (
                    f"see it whole: docker build {root}; docs/docker.md tells how to build without an index"
                )
                raise HostError(f"the image cannot be built: {said or line['error'].strip()}", hint)
            text = line.get("stream", "").strip()
            said = text.splitlines()[-1] if text else said
            if text.startswith("Step "):
                on_terminal(text)
