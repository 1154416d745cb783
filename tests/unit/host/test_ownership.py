"""Marks: what carries one is ours, and nothing can be taken for something else."""

import pytest

from resource_wireguard.host.ownership import alias_of, namespace_alias, namespace_of, tunnel_of


def test_a_namespace_is_known_by_name_and_home() -> None:
    assert namespace_of(namespace_alias("work", 4026531840), 4026531840) == "work"
    assert namespace_of(namespace_alias("work", 4026531840), 4026531841) is None


@pytest.mark.parametrize("alias", [None, "", "work", "work@1", alias_of("work"), alias_of("work@1")])
def test_what_is_no_mark_of_a_namespace_is_not_ours(alias: str | None) -> None:
    assert namespace_of(alias, 1) is None


def test_a_loopback_is_never_taken_for_a_tunnels_link() -> None:
    assert tunnel_of(namespace_alias("work", 1)) is None
