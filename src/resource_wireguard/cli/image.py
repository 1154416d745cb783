"""The image of the agent's container: built from the checkout, or one that the user names."""

import json
import os
from collections.abc import Iterator
from typing import Any

from resource_wireguard import __version__
from resource_wireguard.cli import output
from resource_wireguard.cli.client import on_terminal
from resource_wireguard.errors import HostError, NotFound
from resource_wireguard.system.docker import refusals

OWN = f"resource-wireguard:{__version__}"
"""What we call the image that we build."""

MADE_FROM = "wireguard.made-from"
"""The label of images that we built: what of. Images without it are never removed."""

SOURCES = ("Dockerfile", "pyproject.toml", "requirements/runtime.txt", "src")
"""What of a checkout makes a difference to the image."""

BUILDERS_OWN = ("Step ", "--->", "Removing intermediate container", "Successfully ")
"""How the builder's own lines begin; the others are those of the programs that it runs."""

SILENT_MOST = 600.0
"""Seconds that one step of a build may say nothing."""

PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""Where packages are reached through a proxy, a build needs these; Docker leaves them out of the image."""


def provide(client: Any, wanted: str) -> str:
    """The image of that name if one is given, else ours, built if the checkout has changed; its name."""
    if wanted:
        need(client, wanted, f"get it with 'docker pull {wanted}', or unset WIREGUARD_IMAGE")
        return wanted
    if (root := _checkout()) is None:
        hint = "install it from a checkout, or name an image with WIREGUARD_IMAGE"
        raise HostError("the checkout that this program was installed from is not here", hint)
    label = {MADE_FROM: _digest(root)}
    if not _images(client, OWN, "=".join(*label.items())):
        output.note(f"building the image {OWN} from {root}; this takes a minute or two")
        _build(client, root, label)
    return OWN


def need(client: Any, name: str, hint: str) -> None:
    """HostError, with the hint, where there is no such image."""
    try:
        with refusals(f"image {name}"):
            client.images.get(name)
    except NotFound:
        raise HostError(f"there is no image {name} here", hint) from None


def identity(client: Any, name: str) -> str | None:
    """What tells two images of one name apart; None if there is none."""
    with refusals(f"image {name}"):
        return next((str(found.id) for found in client.images.list(name=name)), None)


def remove(client: Any, name: str) -> None:
    """Remove the image if we built it."""
    for _ in _images(client, name, MADE_FROM):
        with refusals(f"image {name}"):
            client.images.remove(name, force=True)


def _images(client: Any, name: str, label: str) -> list[Any]:
    with refusals(f"image {name}"):
        return list(client.images.list(name=name, filters={"label": label}))


def _checkout() -> str | None:
    """The checkout that this program runs from, or was installed from, if that is still there."""
    here = os.path.realpath(f"{os.path.dirname(__file__)}/../../..")
    for root in (here, _installed_from()):
        if os.path.isfile(f"{root}/Dockerfile") and os.path.isdir(f"{root}/src/resource_wireguard"):
            return root
    return None


def _installed_from() -> str:
    """The folder that 'pip install FOLDER' noted (direct_url.json, PEP 610); '' for another origin."""
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import unquote, urlsplit

    try:
        noted = distribution("resource-wireguard").read_text("direct_url.json")
    except PackageNotFoundError:
        return ""
    url = urlsplit(json.loads(noted)["url"] if noted else "")
    return unquote(url.path) if url.scheme == "file" else ""


def _digest(root: str) -> str:
    """Of all that the image is made of."""
    from hashlib import sha256

    digest = sha256()
    for path in sorted(_files(root)):
        with open(path, "rb") as file:
            content = file.read()
        digest.update(f"{os.path.relpath(path, root)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _files(root: str) -> Iterator[str]:
    for source in SOURCES:
        yield from [f"{root}/{source}"] if os.path.isfile(f"{root}/{source}") else ()
        for folder, _, names in os.walk(f"{root}/{source}"):
            yield from (f"{folder}/{name}" for name in names if not name.endswith(".pyc"))


def _build(client: Any, root: str, label: dict[str, str]) -> None:
    proxies = {name: os.environ[name] for name in PROXIES if os.environ.get(name)}
    client.api.timeout = SILENT_MOST
    said = ""
    with refusals(f"image {OWN}"):
        for line in client.api.build(
            path=root, tag=OWN, buildargs=proxies, labels=label, rm=True, forcerm=True, decode=True
        ):
            if "error" in line:
                hint = f"see all of it: docker build {root}; docs/docker.md knows how without a package index"
                raise HostError(f"the image cannot be built: {said or line['error'].strip()}", hint)
            for text in line.get("stream", "").splitlines():
                if text.startswith("Step "):
                    on_terminal(text)
                if text.strip() and not text.strip().startswith(BUILDERS_OWN):
                    said = text.strip()
