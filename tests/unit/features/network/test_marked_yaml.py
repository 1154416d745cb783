"""YAML as values with places: what is taken, what is refused and where, and that nothing else happens."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from resource_wireguard.cli.output import yaml_lines
from resource_wireguard.errors import InvalidInput
from resource_wireguard.features.network.marked_yaml import DEPTH_MOST, SIZE_MOST, NotUnderstood, parse

EXAMPLE = b"""\
version: 1
tunnels:
  home:
    port: 51820
    exit: true
    dns: [10.0.0.1, "10.0.0.2"]
    peers:
      on: {enabled: false}
      7:
        public_key: "5"
        endpoint: ~
"""


def test_values_are_what_yaml_1_2_says_and_keys_are_text() -> None:
    assert parse(EXAMPLE).value == {
        "version": 1,
        "tunnels": {
            "home": {
                "port": 51820,
                "exit": True,
                "dns": ["10.0.0.1", "10.0.0.2"],
                "peers": {"on": {"enabled": False}, "7": {"public_key": "5", "endpoint": None}},
            }
        },
    }


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        (("version",), (1, 10), (1, 1)),
        (("tunnels", "home", "port"), (4, 11), (4, 5)),
        (("tunnels", "home", "dns", 1), (6, 21), (6, 21)),
        (("tunnels", "home", "peers", "on"), (8, 11), (8, 7)),
        (("tunnels", "home", "peers", "7", "public_key"), (10, 21), (10, 9)),
        (("tunnels", "home", "peers", "7", "missing", 3), (10, 9), (9, 7)),
        (("elsewhere",), (1, 1), (1, 1)),
    ],
)
def test_everything_knows_where_it_stands(
    path: tuple[str | int, ...], value: tuple[int, int], key: tuple[int, int]
) -> None:
    marked = parse(EXAMPLE)
    assert marked.place(path) == value
    assert marked.place(path, at_key=True) == key


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (b"a: 1\nb: 2\na: 3\n", (3, 1), "'a' is there twice: first in line 1"),
        (b"a: &x {b: 1}\nc: *x\n", (2, 4), "alias '*x'"),
        (b"a: 1\n<<: {b: 1}\n<<: {c: 1}", (3, 1), "twice"),
        (b"a: !!python/object/apply:os.system ['true']\n", (1, 4), "tag"),
        (b"a: !!binary aGk=\n", (1, 4), "tag"),
        (b"a: 1\n---\nb: 2\n", (2, 1), "second document"),
        (b"? [a, b]\n: c\n", (1, 3), "a key is one word"),
        (b"a: [1, 2\nb: 3\n", (2, 2), "not YAML"),
        (b"a: {b: 'open\n", (2, 1), "not YAML"),
        (b"a:\n\t- b\n", (2, 1), "not YAML"),
        (b"ok: 1\na: \xff\xfe\n", (2, 4), "not UTF-8"),
        (b"ok: 1\na: x\x00y\n", (2, 5), "character"),
        (b"[" * (DEPTH_MOST + 1), (1, DEPTH_MOST + 1), "within each other"),
        (b"[" * 200_000, (1, DEPTH_MOST + 1), "within each other"),
        (b"\x00" * 10_000_000, (1, 1), "more than 8 MiB"),
        (b"\x00" * 1000, (1, 1), "character"),
    ],
)
def test_what_is_not_taken_is_refused_in_its_place(text: bytes, place: tuple[int, int], words: str) -> None:
    with pytest.raises(NotUnderstood) as refused:
        parse(text)
    assert refused.value.place == place
    assert words in refused.value.message
    assert "\n" not in refused.value.message


def test_a_bomb_of_aliases_does_not_go_off() -> None:
    levels = [b"a0: &a0 [x, x]"] + [b"a%d: &a%d [*a%d, *a%d]" % (n, n, n - 1, n - 1) for n in range(1, 40)]
    with pytest.raises(NotUnderstood, match="alias") as refused:
        parse(b"\n".join(levels))
    assert refused.value.place[0] == 2


@pytest.mark.parametrize(
    "text", [b"\xef\xbb\xbf" + EXAMPLE, EXAMPLE.replace(b"\n", b"\r\n"), b"---\n" + EXAMPLE]
)
def test_a_byte_order_mark_crlf_and_a_start_mark_are_taken(text: bytes) -> None:
    assert parse(text).value == parse(EXAMPLE).value


@pytest.mark.parametrize("text", [b"", b"# only a comment\n", b"---\n"])
def test_nothing_is_null(text: bytes) -> None:
    assert parse(text).value is None


@given(st.binary(max_size=200) | st.text(st.characters(codec="utf-8")).map(str.encode))
@example(b"\xef\xbb\xbf")
@example(b"%YAML 9.9\n---\na")
@example(b"!<tag:x> a")
@example(b"a: \xed\xa0\x80")
def test_any_bytes_give_a_value_or_one_refusal(content: bytes) -> None:
    try:
        json.dumps(parse(content).value)
    except InvalidInput as refused:
        assert len(refused.message) < 400


@given(st.integers(0, len(EXAMPLE)), st.binary(max_size=3))
def test_a_damaged_file_gives_a_value_or_one_refusal(at: int, damage: bytes) -> None:
    try:
        parse(EXAMPLE[:at] + damage + EXAMPLE[at + len(damage) :])
    except NotUnderstood as refused:
        assert refused.place[0] <= EXAMPLE.count(b"\n") + 4


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_what_export_prints_is_read_back(value: Any) -> None:
    """Our own writer and our own reader, and PyYAML's as a witness."""
    text = "\n".join(yaml_lines(value)) + "\n"
    assert parse(text.encode()).value == value
    assert yaml.safe_load(text) == value


def test_size_counts_bytes() -> None:
    with pytest.raises(NotUnderstood, match="8 MiB"):
        parse(b"a" * (SIZE_MOST + 1))
