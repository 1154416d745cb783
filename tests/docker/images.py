"""Images without a registry: a shell of one file, and a Debian from its packages.

The namespace of the tests' daemon leads nowhere, so a build's apt asks a proxy: its socket is in that
namespace, its requests leave from the machine's own. Packages are kept: they come over the network once.
"""

import contextlib
import hashlib
import http.server
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.netns.harness import CHECKOUT, Namespace, in_namespace

from docker import DockerClient

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resource-wireguard"

DEBIAN = "debian:bookworm-slim"
"""What the Dockerfile builds on."""

SHELL = "rwt/shell:latest"
"""busybox alone: sh, ping, wget, nc, nslookup, sleep …"""


def make_shell(client: DockerClient) -> str:
    """The image SHELL, from the machine's static busybox; its name."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(shutil.which("busybox") or "/bin/busybox", "bin/busybox")
        applets = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout
        for applet in sorted({*applets.split()} - {"busybox"}):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for folder in ("tmp", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
    return _imported(client, packed.getvalue(), SHELL)


def make_debian(client: DockerClient) -> str:
    """The image DEBIAN, as small as debootstrap makes it; its name."""
    return _imported(client, debian_tar().read_bytes(), DEBIAN)


def debian_tar() -> Path:
    """A Debian as tar, made once (half a minute)."""
    tag = DEBIAN.partition(":")[2]
    suite, made = tag.removesuffix("-slim"), CACHE / f"debian-{tag}.tar"
    if made.exists():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        root = Path(folder, "root")
        _tool("debootstrap", "--variant=minbase", suite, str(root), *_mirror(suite))
        for waste in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(root / waste)
            (root / waste).mkdir()
        # As Debian's own images have it: a build that is cut off is thrown away, so nothing need be synced.
        (root / "etc/dpkg/dpkg.cfg.d/docker-apt-speedup").write_text("force-unsafe-io\n")
        fresh = made.with_suffix(f".{os.getpid()}")
        _tool("tar", "--one-file-system", "-C", str(root), "-cf", str(fresh), ".")
        fresh.replace(made)
    return made


def _imported(client: DockerClient, tar: bytes, name: str) -> str:
    repository, _, tag = name.partition(":")
    client.api.import_image_from_data(tar, repository=repository, tag=tag)
    client.images.get(name)
    return name


def _mirror(suite: str) -> list[str]:
    """The one that apt has for this suite; none, for debootstrap's own choice, on another Debian."""
    wanted = ["--format", "$(SITE)", f"Codename: {suite}", "Component: main"]
    return _tool("apt-get", "indextargets", *wanted).splitlines()[:1]


def _tool(*argv: str) -> str:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"$ {' '.join(argv)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@contextlib.contextmanager
def package_proxy(namespace: Namespace, address: str) -> Iterator[str]:
    """An HTTP proxy that is reached in a namespace and asks from here; its URL."""
    server = in_namespace(
        namespace.name, lambda: http.server.ThreadingHTTPServer((address, 0), _PackageProxy)
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{address}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _PackageProxy(http.server.BaseHTTPRequestHandler):
    """GET for apt: a request names the whole URL (RFC 9112, 3.2.2), and packages never change."""

    def do_GET(self) -> None:
        kept = CACHE / "packages" / hashlib.sha256(self.path.encode()).hexdigest()
        is_package = self.path.endswith(".deb")
        try:
            content = kept.read_bytes() if is_package and kept.exists() else self._fetched()
        except urllib.error.HTTPError as error:
            self.send_error(error.code)
            return
        except OSError as error:
            self.send_error(502, str(error))
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        if is_package and not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            fresh = kept.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
            fresh.write_bytes(content)
            fresh.replace(kept)

    def _fetched(self) -> bytes:
        with urllib.request.urlopen(self.path, timeout=60) as answer:
            return answer.read()

    def log_message(self, *_: object) -> None:
        pass


def wheels() -> Path:
    """What the lock pins, as scripts/wheels gets it; kept until the lock changes."""
    lock = hashlib.sha256((CHECKOUT / "requirements/runtime.txt").read_bytes()).hexdigest()[:16]
    folder = CACHE / f"wheels-{lock}"
    if not folder.exists():
        fresh = folder.with_suffix(f".{os.getpid()}")
        _tool(str(CHECKOUT / "scripts/wheels"), str(fresh))
        fresh.replace(folder)
    return folder


def copied_checkout(folder: Path) -> Path:
    """A checkout with wheels in it, as somebody has it whose builds reach no package index."""
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, folder)
    for name in ("docs/resource-wireguard.1", "requirements/runtime.txt"):
        (folder / name).parent.mkdir()
        shutil.copy(CHECKOUT / name, folder / name)
    shutil.copytree(CHECKOUT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(wheels(), folder / "wheels")
    return folder
