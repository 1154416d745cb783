"""Bad configs: one line that names the place, a hint that names the way out, and never a value."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.formats.configs import CASES, OTHER, PRESHARED, PRIVATE, PUBLIC, SMALL, key_text, unhurried

from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.formats.wgquick import SIZE_MAX, parse

HEAD = f"[Interface]\nPrivateKey = {PRIVATE}\n"
PEER = f"{HEAD}[Peer]\nPublicKey = {PUBLIC}\n"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "the config has no [Interface] section", "begin the file with"),
        ("# nothing\n", "the config has no [Interface] section", "begin the file with"),
        (f"[Peer]\nPublicKey = {PUBLIC}\n", "the config has no [Interface] section", "PrivateKey"),
        (f"PrivateKey = {PRIVATE}\n", "line 1: this line stands before any section", "[Interface]"),
        ("\n[Interface]\nAddress = 10.0.0.1\n", "line 2: [Interface] has no PrivateKey", "wg genkey"),
        (f"{HEAD}\n[Peer]\nAllowedIPs = 10.0.0.2\n", "line 4: [Peer] has no PublicKey", "wg pubkey"),
        (f"{HEAD}[Interface]\n", "line 3: [Interface] stands here and on line 1", "keep one"),
        (f"{HEAD}[Server]\n", "line 3: unknown section 'Server'", "[Peer]"),
        (f"{HEAD}[{OTHER}]\n", "line 3: unknown section (not shown)", "[Peer]"),
        (f"{HEAD}PrivateKey = {OTHER}\n", "line 3: PrivateKey stands here and on line 2", "keep one"),
        (f"{HEAD}MTU = 1400\n\nmtu = 1400\n", "line 5: MTU stands here and on line 3", "keep one"),
        (
            f"{PEER}Endpoint = a.b:1\nEndpoint = a.b:2\n",
            "line 6: Endpoint stands here and on line 5",
            "keep one",
        ),
        (
            f"{PEER}[Peer]\n# twin\nPublicKey = {PUBLIC}\n",
            "line 7: PublicKey is the same as on line 4",
            "make one [Peer]",
        ),
        (
            f"{HEAD}ListenPrt = 1\n",
            "line 3: unknown key 'ListenPrt' in [Interface]",
            "did you mean ListenPort?",
        ),
        (f"{PEER}AllowedIP = 10.0.0.2\n", "line 5: unknown key 'AllowedIP' in [Peer]", "AllowedIPs?"),
        (f"{PEER}Colour = red\n", "line 5: unknown key 'Colour' in [Peer]", "known are PublicKey, "),
        (f"{HEAD}Jc = 4\n", "line 3: unknown key 'Jc' in [Interface]", "AmneziaWG"),
        (f"{HEAD}ExcludedApplications = a.b\n", "line 3: unknown key 'ExcludedApplications'", "Android"),
        (f"{HEAD}Endpoint = a.b:1\n", "line 3: Endpoint does not belong in [Interface]", "to [Peer]"),
        (f"{PEER}Address = 10.0.0.1\n", "line 5: Address does not belong in [Peer]", "to [Interface]"),
        (f"{HEAD}; a comment\n", "line 3: this line is no 'Key = value'", "'#'"),
        (f"{HEAD}PrivateKey {OTHER}\n", "line 3: unknown key (not shown) in [Interface]", "known are"),
        (f"{HEAD}UqnuVHIGXEhbgCSM=\n", "line 3: unknown key (not shown) in [Interface]", "known are"),
        (f"{HEAD}{OTHER}\n", "line 3: unknown key (not shown) in [Interface]", "known are"),
        (f"{HEAD}ListenPort =\n", "line 3: ListenPort is empty", "1 to 65535"),
        ("[Interface]\nPrivateKey = \n", "line 2: PrivateKey is empty", "44 characters"),
        (f"{PEER}Endpoint =\n", "line 5: Endpoint is empty", "vpn.example.org:51820"),
        (f"{SMALL}\0", "line 8: a NUL byte", "UTF-8"),
    ],
)
def test_message_and_hint(text: str, message: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert caught.value.message.startswith(message)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "line",
    [
        f"PrivateKey = {PRIVATE[:-2]}",
        f"PrivateKey = {PRIVATE[:-3]}A=",
        f"PrivateKey = {key_text(0)}",
        f"PrivateKey = {PRIVATE} {OTHER}",
        "ListenPort = 65536",
        "ListenPort = -1",
        "ListenPort = 1_0",
        "ListenPort = ５",
        "ListenPort = http",
        "FwMark = 0x100000000",
        "FwMark = red",
        "FwMark = 0x",
        "MTU = 100",
        "MTU = 65536",
        "Table = 0",
        "Table = 4294967296",
        "Table = a b",
        "SaveConfig = yes",
        "SaveConfig =",
        "Address = 10.0.0.300/24",
        "Address = 10.0.0.1/33",
        "Address = 224.0.0.1",
        "Address = fe80::1%eth0/64",
        "Address = vpn.example.org",
        "DNS = -corp",
        "DNS = 1.1.1.1.1",
        "DNS = fe80::1%eth0",
        f"DNS = {PRESHARED}",
    ],
)
def test_values_of_the_interface_are_refused(line: str) -> None:
    text = f"[Interface]\n{line}\n" + ("" if line.startswith("PrivateKey") else f"PrivateKey = {PRIVATE}\n")
    with pytest.raises(InvalidInput, match=rf"^line 2: {line.split()[0]} is "):
        parse(text)


@pytest.mark.parametrize(
    "line",
    [
        f"PublicKey = {PUBLIC[:-1]}",
        f"PublicKey = {key_text(0)}",
        f"PresharedKey = {PRESHARED}=",
        "AllowedIPs = 10.0.0.0/33",
        "AllowedIPs = 10.0.0.0/255.0.0.0",
        "AllowedIPs = 10.0.0.0/",
        "AllowedIPs = 10.0.0.0/8 10.1.0.0/16",
        "AllowedIPs = +",
        "AllowedIPs = --10.0.0.0/8",
        "AllowedIPs = fe80::1%eth0",
        "AllowedIPs = (none)",
        "Endpoint = vpn.example.org",
        "Endpoint = vpn.example.org:0",
        "Endpoint = vpn.example.org:http",
        "Endpoint = 300.1.1.1:51820",
        "Endpoint = [fe80::1%e/0]:51820",
        "Endpoint = a b_c;d:51820",
        "Endpoint = :51820",
        "PersistentKeepalive = 65536",
        "PersistentKeepalive = always",
        f"PersistentKeepalive = {OTHER}",
    ],
)
def test_values_of_a_peer_are_refused(line: str) -> None:
    text = f"{HEAD}[Peer]\n{line}\n" + ("" if line.startswith("PublicKey") else f"PublicKey = {PUBLIC}\n")
    with pytest.raises(InvalidInput, match=rf"^line 4: {line.split()[0]} is "):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        bytes(10**7),
        "\0" * 10**7,
        b"[Interface]\n" + b"# x\n" * SIZE_MAX,
        b"A" * 10**8,
        SMALL.encode("utf-16"),
        b"\xff\xfe\xfa",
    ],
    ids=["10 MB of zeros", "as text", "16 MB of comments", "100 MB", "UTF-16", "no text"],
)
def test_what_is_no_config_is_refused_at_once(text: bytes | str) -> None:
    start = time.monotonic()
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert time.monotonic() - start < 0.5
    assert len(caught.value.message) < 80


@pytest.mark.parametrize(
    "unit", ["#a\n", "# Name = x\n", "DNS=a\n", "PostUp=a\n", "Address = 10.0.0.1/32,10.0.0.2\n", "#[\n", " "]
)
def test_time_grows_with_the_size_only(unit: str) -> None:
    """A quarter of the largest file within seconds; a list rebuilt for each line would take minutes."""
    start = time.monotonic()
    parse(HEAD + unit * (SIZE_MAX // 4 // len(unit)))
    assert time.monotonic() - start < 10


def _accepted_or_refused(text: bytes | str) -> InvalidInput | None:
    try:
        parse(text)
    except InvalidInput as error:
        assert error.hint
        assert "\n" not in error.message
        return error
    return None


@unhurried
@given(st.binary(max_size=400) | st.text(max_size=400))
@example("[Interface]\nPrivateKey = \ud800\n")
def test_arbitrary_input_gives_a_config_or_invalid_input(text: bytes | str) -> None:
    _accepted_or_refused(text)


_PIECES = [
    "[Interface]", "[Peer]", "PrivateKey", "PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "Address",
    "DNS", "MTU", "Table", "FwMark", "PostUp", "SaveConfig", "PersistentKeepalive", "ListenPort", "=", " = ",
    "\n", "\r\n", "\n", "#", ",", " ", "off", "0x", "10.0.0.1", "/24", "/0", "::1", "[", "]", ":", "-", "%",
    "١", PRIVATE, PUBLIC, OTHER, "51820", "a.example", "true", "\ufeff",
]  # fmt: skip


@unhurried
@given(st.lists(st.sampled_from(_PIECES), max_size=40).map("".join))
def test_shuffled_configs_give_a_config_or_invalid_input(text: str) -> None:
    _accepted_or_refused(HEAD + text)


_FILES = [path.read_bytes() for path in sorted(CASES.iterdir())]


@unhurried
@given(st.sampled_from(_FILES), st.data())
def test_damaged_files_give_a_config_or_invalid_input_and_no_key_away(
    file: bytes, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(file)))
    end = data.draw(st.integers(start, min(start + 60, len(file))))
    damaged = file[:start] + data.draw(st.binary(max_size=5)) + file[end:]
    error = _accepted_or_refused(damaged)
    if error is not None:
        told = error.message + error.hint
        words = {word for line in file.decode().splitlines() for word in line.split() if len(word) > 40}
        assert not [word for word in words if any(word[n : n + 12] in told for n in range(len(word) - 12))]
