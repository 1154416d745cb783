"""Names are safe in files, shells and DNS, and every tunnel finds an interface name that Linux takes."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.names import (
    INTERFACE_MAX,
    check_interface,
    check_name,
    interface_name,
    not_found,
)

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", fullmatch=True).filter(str.isascii)


@given(NAMES)
def test_every_allowed_name_gets_an_interface_that_linux_takes(name: str) -> None:
    assert check_name(name, "tunnel") == name
    assert check_interface(interface_name(name)) == interface_name(name)


@given(st.text(max_size=80))
def test_what_is_accepted_holds_no_path_shell_or_foreign_signs(text: str) -> None:
    try:
        check_name(text, "tunnel")
    except InvalidInput:
        return
    assert set(text) <= set(string.ascii_letters + string.digits + "-_.")
    assert text[0].isalnum()


@pytest.mark.parametrize(
    "name",
    ["", "a/b", "../x", "a b", "-rf", ".hidden", "$(id)", "a;b", "a\nb", "a\0b", "küche", "٣", "home\n", "'"],
)
def test_a_bad_name_is_refused_and_quoted(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_name(name, "tunnel")
    assert "\n" not in refused.value.message
    assert refused.value.hint


def test_a_long_name_is_refused_without_repeating_all_of_it() -> None:
    with pytest.raises(InvalidInput) as refused:
        check_name("x" * 300, "peer")
    assert "300 characters" in refused.value.message
    assert len(refused.value.message) < 100


@pytest.mark.parametrize(
    ("tunnel", "interface"),
    [("home", "wg-home"), ("wg0", "wg0"), ("wg-x", "wg-x"), ("twelve-signs", "wg-twelve-signs")],
)
def test_short_names_stay_readable(tunnel: str, interface: str) -> None:
    assert interface_name(tunnel) == interface


def test_long_names_that_begin_alike_do_not_meet() -> None:
    names = {interface_name(f"headquarters-of-{number}") for number in range(500)}
    assert len(names) == 500
    assert all(len(name) == INTERFACE_MAX for name in names)


@pytest.mark.parametrize("name", ["all", "default", "x" * 16, "a/b", "", "ä"])
def test_interface_names_that_linux_or_wg_quick_refuse_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="not allowed"):
        check_interface(name)


def test_an_unknown_name_is_answered_with_the_nearest_one() -> None:
    error = not_found("tunnel", "hoem", ["office", "home"], "interface list")
    assert error.hint == "did you mean 'home'?"
    assert error.exit_code == 2
    assert "interface list" in not_found("tunnel", "zzz", ["office"], "interface list").hint
