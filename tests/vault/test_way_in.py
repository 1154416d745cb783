"""Getting into a Vault: tokens, AppRoles, TLS, namespaces; and one line for each way in which that fails."""

import time
from pathlib import Path

import msgspec
import pytest
from tests.vault.server import Bao, Refused, make_certificates
from tests.vault.worlds import World, policy, silent

from resource_wireguard.errors import InvalidInput, KeysUnavailable
from resource_wireguard.model.vault import VaultPlace, checked
from resource_wireguard.store.vault import Vault


def _refusal(vault: Vault) -> str:
    with pytest.raises(KeysUnavailable) as refused:
        vault.read("anything")
    assert "\n" not in refused.value.message
    assert refused.value.hint
    return refused.value.message


def _until(condition, what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_revoked_token_is_told_of_and_a_new_one_taken_by_itself(world: World, bao: Bao) -> None:
    secrets = world.migrated(a=b"1")
    bao.revoke(world.token_file.read_text().strip())
    with pytest.raises(
        KeysUnavailable, match="does not take the token: it was revoked or has expired"
    ) as refused:
        secrets.put("b", b"2")
    assert str(world.token_file) in refused.value.hint
    world.write(world.token_file, bao.token(policy(world.path)))
    secrets.put("b", b"2")
    assert world.open().get_many("") == {"a": b"1", "b": b"2"}


def test_a_token_is_renewed_before_it_ends(world: World, bao: Bao) -> None:
    world.write(world.token_file, bao.token(policy(world.path), ttl="2s"))
    vault = Vault(world.place())
    assert vault.read(f"{world.path}/x") is None
    began = time.monotonic()
    while time.monotonic() < began + 3:  # longer than it lives unless it is renewed
        vault.tend()
        time.sleep(0.1)
    assert vault.read(f"{world.path}/x") is None


def test_an_app_role_logs_in_again_when_its_token_has_lived_its_longest(world: World, bao: Bao) -> None:
    vault = _by_role(world, bao, token_ttl="1s", token_max_ttl="1s")
    began = time.monotonic()
    while time.monotonic() < began + 2.5:
        assert vault.read(f"{world.path}/x") is None
        time.sleep(0.1)


def test_an_app_role_logs_in_again_after_a_long_silence(world: World, bao: Bao) -> None:
    vault = _by_role(world, bao, token_ttl="1s", token_max_ttl="1s")
    vault.read(f"{world.path}/x")
    first = vault.log_in().token
    _until(lambda: _is_gone(bao, first), "the end of the token")
    assert vault.read(f"{world.path}/x") is None


def _is_gone(bao: Bao, token: str) -> bool:
    try:
        bao.call("POST", "auth/token/lookup", token=token)
    except Refused:
        return True
    return False


def test_an_expired_secret_id_is_told_of_and_a_new_one_taken(world: World, bao: Bao) -> None:
    vault = _by_role(world, bao, token_ttl="1s", token_max_ttl="1s")
    vault.read(f"{world.path}/x")
    file = Path(vault.place.secret_id_file)
    bao.call("POST", "auth/approle/role/gateway/secret-id/destroy", secret_id=file.read_text().strip())
    vault = Vault(vault.place)
    assert "its secret id was revoked or has expired" in _refusal(vault)
    world.write(file, bao.secret_id())
    assert vault.read(f"{world.path}/x") is None


def _by_role(world: World, bao: Bao, **more: str) -> Vault:
    role, secret_id = bao.app_role(policy(world.path), **more)
    file = world.folder / "secret-id"
    world.write(file, secret_id)
    return Vault(world.place(role_id=role, secret_id_file=str(file)))


def test_a_role_mount_that_is_not_there_is_told_of(world: World, bao: Bao) -> None:
    vault = _by_role(world, bao)
    elsewhere = msgspec.structs.replace(vault.place, role_mount="nowhere")
    assert "does not take the AppRole at auth/nowhere: it is unknown" in _refusal(Vault(elsewhere))


def test_a_policy_that_is_too_narrow_is_told_of(world: World, bao: Bao) -> None:
    world.write(world.token_file, bao.token(policy("elsewhere")))
    with pytest.raises(KeysUnavailable, match="does not allow us to read secret/wireguard/") as refused:
        world.open().migrate(world.place(), silent)
    assert "policy" in refused.value.hint


def test_sealed_unreachable_and_back(world: World, bao: Bao) -> None:
    vault = Vault(world.place())
    vault.read(f"{world.path}/x")
    bao.seal()
    assert _refusal(vault) == f"Vault at {bao.address} is sealed"
    bao.kill()
    assert _refusal(vault) == f"Vault at {bao.address} cannot be reached: nothing listens there"
    bao.start()
    assert _refusal(vault) == f"Vault at {bao.address} is sealed"
    bao.unseal()
    assert vault.read(f"{world.path}/x") is None


def test_one_that_does_not_answer_costs_seconds_and_no_more(world: World) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent_server:
        place = msgspec.structs.replace(
            world.place(), address=f"https://127.0.0.1:{silent_server.getsockname()[1]}"
        )
        began = time.monotonic()
        assert "does not answer" in _refusal(Vault(place))
        assert time.monotonic() - began < 5


def test_a_certificate_of_somebody_else_is_refused(world: World, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    make_certificates(other)
    for ca in (str(other / "ca.pem"), ""):
        message = _refusal(Vault(msgspec.structs.replace(world.place(), ca=ca)))
        assert message == f"the certificate of Vault at {world.bao.address} is not trusted"


def test_a_missing_ca_is_told_of(world: World) -> None:
    gone = str(world.folder / "gone.pem")
    assert (
        _refusal(Vault(msgspec.structs.replace(world.place(), ca=gone)))
        == f"the file with Vault's CA is missing: {gone}"
    )


def test_what_is_no_vault_is_told_of(world: World, bao: Bao) -> None:
    place = msgspec.structs.replace(world.place(), address=f"http://127.0.0.1:{bao.port}", ca="")
    assert "is no active Vault" in _refusal(Vault(place))


@pytest.mark.parametrize(("content", "mode", "said"), [
    ("s.token", 0o644, "can be read by others"),
    ("two words", 0o600, "holds no token"),
    ("", 0o600, "holds no token"),
    ("tökén", 0o600, "holds no token"),
    ("x" * 5000, 0o600, "holds no token"),
])  # fmt: skip
def test_a_file_that_is_no_token_is_refused(world: World, content: str, mode: int, said: str) -> None:
    world.token_file.write_text(content)
    world.token_file.chmod(mode)
    message = _refusal(Vault(world.place()))
    assert said in message
    assert content not in message or not content


def test_a_missing_token_file_is_told_of(world: World) -> None:
    world.token_file.unlink()
    assert "cannot read the token" in _refusal(Vault(world.place()))


def test_a_token_may_be_a_credential_of_systemd(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    place = world.place(token_file="credential:token")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert "gave no credentials" in _refusal(Vault(place))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(world.folder))
    assert Vault(place).read(f"{world.path}/x") is None


def test_the_environment_gives_no_token(world: World, bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", bao.root_token)
    world.write(world.token_file, "s.nonsense")
    assert "does not take the token" in _refusal(Vault(world.place()))


def test_a_namespace_and_a_mount_of_ones_own(world: World, bao: Bao) -> None:
    bao.call("POST", "sys/namespaces/team")
    bao.call("POST", "team/sys/mounts/keys/wg", type="kv", options={"version": "2"})
    world.write(world.token_file, bao.root_token)
    secrets = world.open()
    secrets.put("a", b"1")
    secrets.migrate(world.place(namespace="team/", mount="keys/wg"), silent)
    assert world.open().get("a") == b"1"
    assert bao.entries(f"{world.path}", mount="team/keys/wg") == ["keys/", "owner"]
    assert bao.entries(world.path) == []


def test_a_kv_engine_of_version_1_is_refused(world: World, bao: Bao) -> None:
    bao.call("POST", "sys/mounts/old", type="kv", options={"version": "1"})
    world.write(world.token_file, bao.root_token)
    with pytest.raises(InvalidInput, match="no KV engine of version 2"):
        world.open().migrate(world.place(mount="old"), silent)
    with pytest.raises(Refused, match="404"):  # nothing was written
        bao.call("LIST", "old/")


def test_a_mount_that_is_not_there_is_told_of(world: World, bao: Bao) -> None:
    with pytest.raises(KeysUnavailable, match="nowhere"):
        world.open().migrate(world.place(mount="nowhere"), silent)


@pytest.mark.parametrize("bad", [
    {"address": "vault.example.net"},
    {"address": "http://vault.example.net:8200"},
    {"address": "https://user:word@vault.example.net"},
    {"address": "https://vault.example.net:99999"},
    {"path": "a/../b"},
    {"path": ""},
    {"mount": "se cret"},
    {"token_file": ""},
    {"role_id": "x"},
    {"token_file": "", "role_id": "x"},
])  # fmt: skip
def test_a_place_that_cannot_be_is_refused(bad: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked(VaultPlace(**{"address": "https://vault.example.net:8200", "token_file": "/t", **bad}))
    assert refused.value.hint


def test_a_place_is_brought_into_its_canonical_form() -> None:
    place = checked(VaultPlace("https://VAULT.example.net:8200/", "/t", path="/a/b/", namespace="x/"))
    assert (place.address, place.path, place.namespace) == ("https://vault.example.net:8200", "a/b", "x")
