"""Hunts for keys in clear: in files, in what programs said, and in what any user can see of processes."""

import base64
import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

EVERY = 0.005
"""Seconds between two looks at all processes: a call of the command line lives some fifty times as long."""


def forms(key: bytes) -> set[bytes]:
    """A key as it could be written down: raw, in base64 of either kind, in hex; a passphrase is its bytes."""
    texts = {base64.b64encode(key), base64.urlsafe_b64encode(key)}
    bare = {text.rstrip(b"=")[:-1] for text in texts}  # the last sign may differ, and the padding be left out
    return {key, *bare, key.hex().encode(), key.hex().upper().encode()}


def found(keys: Mapping[str, bytes], places: Mapping[str, bytes]) -> list[str]:
    """'KEY in PLACE' for each key that lies in clear in a place."""
    return sorted(
        f"{key} in {place}"
        for key, value in keys.items()
        for place, content in places.items()
        if any(form in content for form in forms(value))
    )


def files(*folders: Path, but: Iterable[Path] = ()) -> dict[str, bytes]:
    """What lies in folders and below, sockets and some files excepted."""
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in paths if path not in set(but)}


class Watch:
    """Looks at command line and environment of every process, as ps(1) does, for as long as it is entered."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.looks = 0

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def places(self) -> dict[str, bytes]:
        """What was seen, as one place."""
        return {"the processes": b"\n".join(self._seen)}

    def _look(self) -> None:
        while not self._stopped.wait(EVERY):
            self._seen.update(processes())
            self.looks += 1


def processes() -> Iterator[bytes]:
    """Command line and environment of each process that there is now."""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            for part in ("cmdline", "environ"):
                with contextlib.suppress(OSError):
                    yield (process / part).read_bytes()
