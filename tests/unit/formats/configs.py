"""Configs to test with: the case files, keys that belong to nobody, and every config there can be."""

import base64
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st

from resource_wireguard.model.formats.config import Hook, InterfaceSection, PeerSection, WgQuickConfig
from resource_wireguard.model.formats.fields import HOOKS
from resource_wireguard.model.keys import PresharedKey, PublicKey, parse_private_key
from resource_wireguard.model.net import Endpoint

unhurried = settings(deadline=None)
"""A busy machine is no defect."""

CASES = Path(__file__).parents[2] / "cases" / "configs"


def key_text(number: int) -> str:
    """The text of a key that nobody has: 32 times the same byte."""
    return base64.b64encode(bytes([number]) * 32).decode()


PRIVATE, PUBLIC, OTHER, PRESHARED = (key_text(number) for number in (64, 66, 67, 68))
"""PRIVATE is clamped as it stands: 64 is what clamping makes of 65."""

SMALL = f"""[Interface]
PrivateKey = {PRIVATE}
Address = 10.13.13.1/24

[Peer]
PublicKey = {PUBLIC}
AllowedIPs = 10.13.13.2/32
"""

_key_bytes = st.binary(min_size=32, max_size=32).filter(lambda raw: any(raw[:31]) and raw[:1] > b"\x01")
_private_keys = _key_bytes.map(lambda raw: parse_private_key(base64.b64encode(raw).decode()))
_ports = st.integers(1, 65535)
_v4 = st.integers(0x0A000001, 0x0AFFFFFE).map(lambda n: ".".join(str(byte) for byte in n.to_bytes(4, "big")))
_v6 = st.integers(1, 0xFFFF).map(lambda n: f"fd00:1::{n:x}")
_addresses = st.one_of(st.tuples(_v4, st.integers(8, 32)), st.tuples(_v6, st.integers(16, 128))).map(
    lambda pair: f"{pair[0]}/{pair[1]}"
)
_prefixes = st.one_of(
    _v4.map("{}/32".format), _v6.map("{}/128".format), st.sampled_from(["0.0.0.0/0", "::/0"])
)
_domains = st.from_regex(r"~?[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{2,6}){1,3}", fullmatch=True)
_endpoints = st.builds(Endpoint, st.one_of(_v4, _v6, _domains.map(lambda name: name.strip("~"))), _ports)
_tables = st.one_of(st.sampled_from(["auto", "off", "main", "vpn_2"]), st.integers(1, 2**32 - 1).map(str))
_names = st.from_regex(r"[A-Za-zÄ-ü0-9]([A-Za-z0-9 '_.#=()-]{0,12}[A-Za-z0-9])?", fullmatch=True)
_commands = (
    st.text(
        st.characters(
            min_codepoint=32, max_codepoint=0x2FFF, exclude_characters="#\x7f", exclude_categories=["Cs"]
        ),
        min_size=1,
    )
    .map(lambda text: text.strip(" "))
    .filter(bool)
)


def _several(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(values, unique=True, max_size=4).map(tuple)


interfaces = st.builds(
    InterfaceSection,
    private_key=_private_keys,
    addresses=_several(_addresses),
    listen_port=st.none() | _ports,
    fwmark=st.integers(0, 2**32 - 1),
    mtu=st.none() | st.integers(576, 65535),
    table=_tables,
    dns=_several(st.one_of(_v4, _v6)),
    search=_several(_domains),
    save_config=st.booleans(),
)
peers = st.builds(
    PeerSection,
    public_key=_key_bytes.map(PublicKey),
    name=st.just("") | _names,
    preshared_key=st.none() | _key_bytes.map(PresharedKey),
    allowed_ips=_several(_prefixes),
    endpoint=st.none() | _endpoints,
    keepalive=st.integers(0, 65535),
)
hooks = st.builds(Hook, st.sampled_from(HOOKS), _commands, st.just(0))
configs = st.builds(
    WgQuickConfig,
    interface=interfaces,
    peers=st.lists(peers, max_size=4, unique_by=lambda peer: peer.public_key).map(tuple),
    hooks=st.lists(hooks, max_size=3).map(tuple),
)
