"""Writing and reading are inverse, and wg itself takes what we write."""

import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from tests.unit.formats.configs import CASES, PRESHARED, PRIVATE, PUBLIC, SMALL, configs, unhurried

from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.formats.config import Hook, PeerSection, WgQuickConfig, masked
from resource_wireguard.model.formats.fields import HOOKS
from resource_wireguard.model.formats.wgquick import parse, render
from resource_wireguard.model.net import Endpoint

replace = msgspec.structs.replace


def with_lines(config: WgQuickConfig, text: str) -> WgQuickConfig:
    """The config with its hooks where they stand in the text; counted here, not by the parser."""
    starts = tuple(f"{key} = " for key in HOOKS)
    lines = [number for number, line in enumerate(text.split("\n"), 1) if line.startswith(starts)]
    hooks = zip(config.hooks, lines, strict=True)
    return replace(config, hooks=tuple(replace(hook, line=line) for hook, line in hooks))


@unhurried
@given(configs)
def test_what_is_written_reads_back_equal(config: WgQuickConfig) -> None:
    text = render(config)
    assert parse(text) == parse(text.encode()) == with_lines(config, text)


@unhurried
@given(configs)
def test_crlf_bom_and_blanks_change_nothing(config: WgQuickConfig) -> None:
    text = render(config)
    disguised = "\ufeff" + text.replace("\n", " \t\r\n")
    assert parse(disguised) == parse(text)


def strip(text: str, folder: Path) -> str:
    """What wg-quick(8) strip makes of a config; it insists on being root, if only of a user namespace."""
    file = folder / "wgtest.conf"
    file.write_text(text)
    file.chmod(0o600)
    as_root = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
    run = subprocess.run(
        [*as_root, "wg-quick", "strip", file], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def wg_complaint(text: str, folder: Path) -> str:
    """What wg(8) has against a config; it reads the file before it misses the interface."""
    file = folder / "stripped.conf"
    file.write_text(text)
    run = subprocess.run(
        ["wg", "setconf", "no-such-wg", file],
        capture_output=True,
        text=True,
        env={**os.environ, "WG_ENDPOINT_RESOLUTION_RETRIES": "0"},
    )
    return "" if run.stderr.startswith("Unable to modify interface") else run.stderr


def without_names(config: WgQuickConfig) -> WgQuickConfig:
    """The config with addresses for endpoints: wg(8) would resolve names."""
    peers = (
        replace(peer, endpoint=Endpoint("192.0.2.1", 1)) if peer.endpoint and peer.endpoint.is_name else peer
        for peer in config.peers
    )
    return replace(config, peers=tuple(peers))


with_wg = pytest.mark.skipif(not shutil.which("wg-quick"), reason="wireguard-tools are not installed")


@with_wg
@given(config=configs)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_wg_takes_what_is_written(config: WgQuickConfig, tmp_path: Path) -> None:
    assert wg_complaint(strip(render(without_names(config)), tmp_path), tmp_path) == ""


@with_wg
def test_wg_is_a_judge(tmp_path: Path) -> None:
    stripped = strip(SMALL, tmp_path)
    assert not wg_complaint(stripped, tmp_path)
    assert "Address" in wg_complaint(SMALL, tmp_path)  # which is wg-quick(8)'s alone
    assert "keepalive" in wg_complaint(f"{stripped.rstrip()}\nPersistentKeepalive = no\n", tmp_path)


@with_wg
@pytest.mark.parametrize("file", sorted(CASES.iterdir()), ids=lambda path: path.stem)
def test_wg_reads_of_a_case_what_we_read(file: Path, tmp_path: Path) -> None:
    """strip(file), read by us, is the same tunnel as the file, without what only wg-quick(8) knows."""
    text = file.read_bytes().decode().removeprefix("\ufeff")  # wg-quick(8) does not know a BOM
    ours, stripped = parse(text), parse(strip(text, tmp_path))
    assert stripped.peers == ours.peers
    only_wg = replace(
        ours.interface, addresses=(), dns=(), search=(), mtu=None, table="auto", save_config=False
    )
    assert stripped.interface == only_wg


@unhurried
@given(configs)
def test_a_masked_config_shows_no_secret(config: WgQuickConfig) -> None:
    secrets = [config.interface.private_key, *(peer.preshared_key for peer in config.peers)]
    assume(len(set(secrets)) == len(secrets))
    hidden = masked(config)
    text = render(hidden) + repr(hidden)
    assert "PrivateKey = (hidden)" in text
    assert not [secret for secret in secrets if secret and secret.reveal() in text]
    assert not any(hidden.interface.private_key)


def test_a_masked_config_keeps_the_rest() -> None:
    config = parse(f"{SMALL}PresharedKey = {PRESHARED}\n")
    text = render(masked(config))
    assert text == render(config).replace(PRIVATE, "(hidden)").replace(PRESHARED, "(hidden)")
    assert PUBLIC in text
    with pytest.raises(InvalidInput, match="PrivateKey is not a WireGuard key"):
        parse(text)


@pytest.mark.parametrize("sign", ["\n", "\r", "\0", "#"])
def test_a_value_never_becomes_a_second_line(sign: str) -> None:
    config = parse(SMALL)
    bad = replace(config, hooks=(Hook("PostUp", f"true{sign}PostDown = reboot", 0),))
    with pytest.raises(InvalidInput, match="PostUp has a character"):
        render(bad)


def test_a_name_never_becomes_a_second_line() -> None:
    config = parse(SMALL)
    peer: PeerSection = replace(config.peers[0], name="phone\nPresharedKey = x")
    with pytest.raises(InvalidInput, match="Name has a character"):
        render(replace(config, peers=(peer,)))
