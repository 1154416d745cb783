"""Files with keys in them: written whole or not at all, and readable by their owner alone."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from resource_wireguard.errors import HostError, InvalidInput

CONFIG_MOST = 4 * 2**20
"""Bytes of a config: SIZE_MAX of the agent's parser, which the command line has no time to import."""


@contextmanager
def private_output(path: str | None) -> Iterator[Callable[[str | bytes], None]]:
    """A function that writes text or a picture to a file (0600, atomically) or, without a path, to stdout.

    The temporary file is made on entry: a path that cannot be written is refused before anything is done.
    """
    if path is None or path == "-":
        yield _to_stdout
        return
    if os.path.lexists(path) and not os.path.isfile(path):
        raise InvalidInput(
            f"--output {path} is not a regular file", "name a file, or '-' for standard output"
        )
    with _named(path):
        descriptor, temporary = _temporary(os.path.realpath(path))
    try:
        yield lambda content: _write(descriptor, content, path)
        with _named(path):
            os.replace(temporary, os.path.realpath(path))
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def read_key(path: str) -> str:
    """The one line of a key file, or of stdin for '-'."""
    try:
        if path == "-":
            return sys.stdin.readline().strip()
        with open(path, encoding="ascii") as file:
            return file.read(100).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidInput(f"cannot read the key in {path}: {reason}", "make one with 'wg genpsk'") from None


def write_private(path: str, content: bytes) -> None:
    """Bytes into a file (0600, atomically, durable), or to stdout for '-'."""
    with private_output(None if path == "-" else path) as write:
        write(content)


def read_bytes(path: str, most: int, hint: str) -> bytes:
    """Up to so many bytes of a file, or of stdin for '-': the size of a pipe is not known before."""
    try:
        if path == "-":
            return sys.stdin.buffer.read(most)
        with open(path, "rb") as file:
            return file.read(most)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}", hint) from None


def read_config(path: str) -> str:
    """The text of a config file, or of stdin for '-'; a byte order mark is dropped."""
    data = read_bytes(path, CONFIG_MOST + 1, "name a wg-quick config")
    if len(data) > CONFIG_MOST:
        raise InvalidInput(f"{path} has more than {CONFIG_MOST} bytes", "is it the right file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{path}: line {line}: this is not UTF-8", "save the file as UTF-8 text") from None


def _to_stdout(content: str | bytes) -> None:
    if isinstance(content, str):
        sys.stdout.write(content)
    elif sys.stdout.isatty():
        raise InvalidInput("this is nothing for a terminal to show", "write it to a file: --output FILE")
    else:
        sys.stdout.buffer.write(content)


def _temporary(path: str) -> tuple[int, str]:
    name = f"{path}.{os.getpid()}.new"
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), name


def _write(descriptor: int, content: str | bytes, path: str) -> None:
    left = memoryview(content if isinstance(content, bytes) else content.encode())
    with _named(path, "all but the file is done: make room, then ask for its content again"):
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)


@contextmanager
def _named(path: str, hint: str = "name a place you can write") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}", hint) from None
