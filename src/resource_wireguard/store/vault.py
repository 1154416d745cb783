"""Talking to a HashiCorp Vault or an OpenBao: the way in, entries of KV version 2, and wrapping by transit.

Every failure is one line: what can pass (sealed, out of reach, a token that is not taken) is KeysUnavailable.
No call takes longer than DEADLINE lets it. What the environment and the home folder say to other clients
(VAULT_TOKEN, ~/.vault-token, ~/.netrc, proxies) is not heeded: the place alone says how to get in.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from resource_wireguard.errors import ConflictError, InvalidInput, KeysUnavailable
from resource_wireguard.model.vault import CREDENTIAL, TransitKey, VaultPlace

if TYPE_CHECKING:
    import hvac

DEADLINE = (2.0, 3.0)
"""Seconds to connect, and between two bytes of an answer: the engine's one thread waits meanwhile."""

RENEW_LEAST = 0.2
"""Seconds between two renewals at least: what is left of a token that cannot be renewed halves each time."""

SECRET_FILE_MOST = 4096
"""Bytes of a file with a token or a secret id."""

T = TypeVar("T")


class Vault:
    """One Vault, as one agent sees it. Logs in when it is first asked, and again when its token ends."""

    def __init__(self, place: VaultPlace) -> None:
        self.place = place
        self._client: hvac.Client | None = None
        self._renew_at = float("inf")
        self._full = 0.0

    def __repr__(self) -> str:
        return f"Vault({self.place})"

    # Entries of KV version 2 --------------------------------------------------------------------

    def read(self, path: str, version: int | None = None) -> Mapping[str, Any] | None:
        """What an entry holds, now or as it was first written (version 1); None where there is none."""
        answer = self._ask(
            f"read {self._named(path)}",
            lambda client: client.secrets.kv.v2.read_secret_version(
                path, version, mount_point=self.place.mount, raise_on_deleted_version=True
            ),
        )
        held = answer["data"]["data"] if answer else None
        return held if isinstance(held, dict) else None

    def create(self, path: str, entry: Mapping[str, Any]) -> None:
        """Make an entry; ConflictError where one of that path is or was: nothing is ever written over."""
        try:
            self._ask(
                f"create {self._named(path)}",
                lambda client: client.secrets.kv.v2.create_or_update_secret(
                    path, dict(entry), cas=0, mount_point=self.place.mount
                ),
            )
        except InvalidInput as refused:
            if "check-and-set" not in refused.message:
                raise
            raise ConflictError(
                f"there is an entry {self._named(path)} already", "take another --path"
            ) from None

    def names(self, path: str) -> list[str]:
        """The entries under a path; those that are folders end in a slash."""
        answer = self._ask(
            f"list {self._named(path)}",
            lambda client: client.secrets.kv.v2.list_secrets(path, mount_point=self.place.mount),
        )
        return list(answer["data"]["keys"]) if answer else []

    def delete(self, path: str) -> None:
        """Remove an entry with all its versions."""
        self._ask(
            f"delete {self._named(path)}",
            lambda client: client.secrets.kv.v2.delete_metadata_and_all_versions(
                path, mount_point=self.place.mount
            ),
        )

    def look(self) -> None:
        """Ask whether it gives us anything; KeysUnavailable says why not."""
        self._ask("look its token up", lambda client: client.auth.token.lookup_self())

    def check_engine(self) -> None:
        """InvalidInput unless there is a KV engine of version 2 where one is named."""
        mount = self.place.mount
        answer = self._ask(
            f"look at the engine {mount}", lambda client: client.read(f"sys/internal/ui/mounts/{mount}")
        )
        engine = answer["data"] if answer else {}
        if engine.get("type") != "kv" or (engine.get("options") or {}).get("version") != "2":
            raise InvalidInput(
                f"'{mount}' is no KV engine of version 2 in the Vault at {self.place.address}",
                "name one: --mount; 'vault secrets list -detailed' shows them",
            )

    # Transit ------------------------------------------------------------------------------------

    def wrap(self, key: TransitKey, plain: str) -> str:
        """Base64 sealed with a key of a transit engine: 'vault:v1:…'."""
        answer = self._ask(
            f"encrypt with {key.mount}/{key.name}",
            lambda client: client.secrets.transit.encrypt_data(key.name, plain, mount_point=key.mount),
        )
        return str(_found(answer, f"no transit engine '{key.mount}'")["data"]["ciphertext"])

    def unwrap(self, key: TransitKey, wrapped: str) -> str:
        """What wrap() was given."""
        answer = self._ask(
            f"decrypt with {key.mount}/{key.name}",
            lambda client: client.secrets.transit.decrypt_data(key.name, wrapped, mount_point=key.mount),
        )
        return str(_found(answer, f"no transit key '{key.mount}/{key.name}'")["data"]["plaintext"])

    # The way in ---------------------------------------------------------------------------------

    def tend(self) -> None:
        """See that there is a token, renewed when half of its time is over; KeysUnavailable otherwise."""
        client = self._client
        if client is not None and time.monotonic() < self._renew_at:
            return
        self._client = None
        if client is not None:
            with suppress(KeysUnavailable, InvalidInput, _Forbidden):  # some cannot be renewed
                answer = self._told(lambda: client.auth.token.renew_self(), "renew its token")
                if self._live_for(answer["auth"] if answer else {}) > self._full / 2:
                    self._client = client
        if self._client is None:  # AppRole: the most that a token may live is nearly over
            self.log_in()

    def _ask(self, what: str, call: Callable[["hvac.Client"], T]) -> T | None:
        """Call, and once more with a new token where the old one is not taken; None for a 404."""
        fresh = self._client is None
        self.tend()
        client = self._client
        assert client is not None
        try:
            return self._told(lambda: call(client), what)
        except _Forbidden:
            client = client if fresh else self.log_in()
        try:
            return self._told(lambda: call(client), what)
        except _Forbidden:
            raise self._denied(client, what) from None

    def log_in(self) -> "hvac.Client":
        """A client with a token that was just looked at, or just given out."""
        self._client, place = None, self.place
        client = self._connection()
        if place.role_id:
            secret_id = _secret_file(place.secret_id_file, "secret id")
            given = self._told(
                lambda: client.auth.approle.login(place.role_id, secret_id, mount_point=place.role_mount),
                f"log in at auth/{place.role_mount}",
                refused=self._role_refused(),
            )
            given = _found(given, f"no AppRoles log in at auth/{place.role_mount}: {place.address}")
            self._full = self._live_for(given["auth"])
        else:
            client.token = _secret_file(place.token_file, "token")
            looked = self._told(client.auth.token.lookup_self, "look its token up", self._token_refused())
            self._live_for({"lease_duration": 0, **(looked["data"] if looked else {})})
        self._client = client
        return client

    def _connection(self) -> "hvac.Client":
        import hvac
        import requests

        place = self.place
        if place.ca and not Path(place.ca).is_file():
            raise KeysUnavailable(f"the file with Vault's CA is missing: {place.ca}", "put it back")
        session = requests.Session()
        session.trust_env = False
        session.verify = place.ca or True
        return hvac.Client(
            url=place.address,
            token="",
            cert="",
            session=session,
            timeout=DEADLINE,
            allow_redirects=False,  # requests would carry the token along to wherever it is sent
            namespace=place.namespace or None,
        )

    def _live_for(self, token: Mapping[str, Any]) -> float:
        """Note when to renew, and say how many seconds it has; 'ttl' is of a token that was looked up."""
        seconds = float(token.get("ttl") or token.get("lease_duration") or 0)
        self._renew_at = time.monotonic() + max(seconds / 2, RENEW_LEAST) if seconds else float("inf")
        return seconds

    # Telling plainly ----------------------------------------------------------------------------

    def _told(self, call: Callable[[], T], what: str, refused: KeysUnavailable | None = None) -> T | None:
        """The answer, None for a 404; refused is what a 400 or 403 means here, _Forbidden otherwise."""
        from hvac import exceptions

        try:
            with self._reachable():
                answer = call()
        except exceptions.InvalidPath:
            return None
        except (exceptions.InvalidRequest, exceptions.Forbidden, exceptions.Unauthorized) as error:
            if not error.errors:
                raise self._no_vault() from None
            if refused:
                raise refused from None
            if isinstance(error, exceptions.InvalidRequest):
                raise InvalidInput(f"Vault would not {what}: {_words(error)}", _HINTS["log"]) from None
            raise _Forbidden from None
        except exceptions.VaultError as error:
            raise self._failing(error) from None
        if not isinstance(answer, dict) and getattr(answer, "status_code", 0) != 204:
            raise self._no_vault()
        return answer

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        import requests

        where = f"Vault at {self.place.address}"
        try:
            yield
        except requests.exceptions.SSLError as error:
            why = "has expired" if "expired" in str(error) else "is not trusted"
            raise KeysUnavailable(f"the certificate of {where} {why}", _HINTS["ca"]) from None
        except requests.exceptions.Timeout:
            raise KeysUnavailable(f"{where} does not answer", _HINTS["wait"]) from None
        except (requests.exceptions.RequestException, OSError) as error:
            refused = "refused" in str(error)
            raise KeysUnavailable(
                f"{where} cannot be reached{': nothing listens there' if refused else ''}", _HINTS["wait"]
            ) from None

    def _failing(self, error: Exception) -> KeysUnavailable:
        words = _words(error)
        if "sealed" in words.lower():
            return KeysUnavailable(f"Vault at {self.place.address} is sealed", _HINTS["unseal"])
        return KeysUnavailable(f"Vault at {self.place.address} fails: {words}", _HINTS["wait"])

    def _denied(self, client: "hvac.Client", what: str) -> KeysUnavailable:
        """Why a call was forbidden: the token itself, or what it may do."""
        try:
            self._told(client.auth.token.lookup_self, "look its token up")
        except _Forbidden:
            return self._role_refused() if self.place.role_id else self._token_refused()
        return KeysUnavailable(f"Vault at {self.place.address} does not allow us to {what}", _HINTS["policy"])

    def _no_vault(self) -> KeysUnavailable:
        return KeysUnavailable(
            f"what answers at {self.place.address} is no active Vault",
            "look at the address",
        )

    def _token_refused(self) -> KeysUnavailable:
        return KeysUnavailable(
            f"Vault at {self.place.address} does not take the token: it was revoked or has expired",
            f"write a new one to {self.place.token_file}; the agent takes it by itself",
        )

    def _role_refused(self) -> KeysUnavailable:
        return KeysUnavailable(
            f"Vault at {self.place.address} does not take the AppRole at auth/{self.place.role_mount}: "
            "it is unknown, or its secret id was revoked or has expired",
            f"write a new one to {self.place.secret_id_file}; the agent takes it by itself",
        )

    def _named(self, path: str) -> str:
        return f"{self.place.mount}/{path}"


class _Forbidden(Exception):
    """HTTP 403: by the token or by its policy."""


_HINTS = {
    "ca": "--ca FILE names the certificates to trust; look at the server's name and dates, too",
    "log": "see the log of the Vault",
    "policy": "docs/vault.md has the policy it needs",
    "unseal": "an operator unseals it; the agent goes on by itself then",
    "wait": "tunnels stay as they are; the agent tries again by itself",
}


def _words(error: Exception) -> str:
    """What a Vault said, in one line; it never repeats what it was sent."""
    said = getattr(error, "errors", None) or [getattr(error, "text", None) or type(error).__name__]
    return " ".join(" ".join(map(str, said)).split())[:120]


def _found(answer: T | None, otherwise: str) -> T:
    if answer is None:
        raise KeysUnavailable(otherwise, "make it, or name the one there is")
    return answer


def _secret_file(name: str, what: str) -> str:
    """A token or secret id from a file that only its owner can read; read anew each time it is needed."""
    path = _file_of(name)
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(SECRET_FILE_MOST + 1)
    except OSError as error:
        raise KeysUnavailable(f"cannot read the {what} {path}: {error.strerror}", "put it there") from None
    if mode & 0o077 and not name.startswith(CREDENTIAL):
        raise KeysUnavailable(
            f"the {what} {path} can be read by others (mode {mode:04o})", f"chmod 600 {path}"
        )
    words = text.decode("utf-8", "replace").split()
    if len(words) != 1 or len(text) > SECRET_FILE_MOST or not words[0].isascii():
        raise KeysUnavailable(f"{path} holds no {what}", f"the file is to hold the {what} alone")
    return words[0]


def _file_of(name: str) -> Path:
    if not name.startswith(CREDENTIAL):
        return Path(name)
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder is None:
        raise KeysUnavailable(
            f"no '{name}': the service manager gave no credentials",
            "LoadCredential= in the unit, systemd.exec(5)",
        )
    return Path(folder, name.removeprefix(CREDENTIAL))
