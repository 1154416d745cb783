"""Words, numbers and YAML."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from resource_wireguard.cli import output

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)

TRAPS = [
    "",
    " ",
    "no",
    "Yes",
    "null",
    "~",
    "1",
    "1.5",
    "1e3",
    "0x1f",
    "1:30",
    "2025-06-01",
    "a: b",
    "a #b",
    "- a",
]
TRAPS += ["'", '"', "a\nb", "a\\b", "*a", "&a", "!a", "%a", "@a", "`a", "[a", "{a", "=", "<<", "|", ">", "?"]
TRAPS += [
    "\x85",
    "\u2028",
    "\x7f",
    "\ufeff",
    "😀",
    "ü",
    "a:",
    "a ",
    "/etc",
    "on",
    "y",
    "null and void",
    ".inf",
]


@given(JSON)
def test_yaml_says_what_json_says(value: object) -> None:
    assert yaml.safe_load("\n".join(output.yaml_lines(value))) == value


@pytest.mark.parametrize("text", TRAPS)
def test_yaml_keeps_text_text(text: str) -> None:
    for value in (text, [text], {text: text}, {"a": [{text: [[text]]}]}):
        assert yaml.safe_load("\n".join(output.yaml_lines(value))) == value


def test_yaml_looks_as_people_write_it() -> None:
    value = {
        "tunnels": [{"name": "home", "port": 51820, "addresses": ["10.0.0.1/24"], "dns": []}],
        "ok": True,
    }
    assert list(output.yaml_lines(value)) == [
        "tunnels:",
        "  - name: home",
        "    port: 51820",
        "    addresses:",
        '      - "10.0.0.1/24"',
        "    dns: []",
        "ok: true",
    ]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3565158, "3.4 MiB"),
        (1023 * 1024, "1.0 MiB"),
        (2**50, "1024.0 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert output.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (59.9, "59 s"), (72, "1 m 12 s"), (3600, "1 h 0 m"), (90_061, "1 d 1 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text


def test_ages() -> None:
    assert output.ago(None) == "never"
    assert output.ago("2025-06-01T12:00:00Z", 1_748_779_272.0) == "1 m 12 s ago"


def test_a_table_is_aligned() -> None:
    assert list(output.table(("NAME", "STATE"), [("a", "up"), ("longer", "down")])) == [
        "NAME    STATE",
        "a       up",
        "longer  down",
    ]


def test_a_table_fits_the_terminal_by_its_widest_columns() -> None:
    widths = [4, 60, 40]
    output._fit(widths, 80)
    assert sum(widths) + 4 == 80
    assert widths[0] == 4
