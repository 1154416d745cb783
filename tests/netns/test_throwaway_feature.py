"""A feature is a folder and a word: added to a copy of the product, used, and deleted without a trace.

The feature of this test is 'blackhole': prefixes that the host answers with 'unreachable'. It has a table,
a command and a compiler, and touches neither the kernel nor anything outside its folder.
"""

import re
import shutil
from pathlib import Path

import pytest
from tests.netns.harness import CHECKOUT, Agent, Lab, Refused, wait_until

FEATURE = '''
"""Prefixes that lead nowhere."""

import msgspec

from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command, Feature, Resources
from resource_wireguard.host.facts import Facts
from resource_wireguard.host.state import Piece, Route
from resource_wireguard.model.net import parse_prefix
from resource_wireguard.model.specs import Specs

NAME = "blackhole"
GROUPS: dict[str, str] = {}
COMMANDS: dict[str, str] = {}


class Add(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One prefix more."""

    prefix: str


def add(engine: Engine, request: Add) -> list[str]:
    """Store it and run a pass."""
    with engine.change():
        engine.resources.store.execute("INSERT INTO blackhole VALUES (?)", parse_prefix(request.prefix))
    engine.settle()
    return load(engine.resources)


def load(resources: Resources) -> list[str]:
    """All prefixes."""
    return [row[0] for row in resources.store.query("SELECT prefix FROM blackhole")]


def compile_routes(specs: Specs, _: Facts) -> list[Piece]:
    """A route that says no for each of them."""
    return [Piece(NAME, [Route(prefix, None) for prefix in specs.by_feature[NAME]])]


def feature() -> Feature:
    """All of it."""
    table = "CREATE TABLE blackhole (prefix TEXT PRIMARY KEY)"
    return Feature(NAME, (table,), load, compile_routes, commands=(Command("blackhole.add", Add, add),))
'''


@pytest.fixture
def product(lab: Lab) -> Path:
    """A copy of the product's source that may be changed."""
    copy = lab.folder / "product"
    shutil.copytree(CHECKOUT / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def set_registry(product: Path, edit: str, into: str) -> None:
    """Change the one line of the registry."""
    registry = product / "resource_wireguard" / "cli" / "registry.py"
    text, edits = re.subn(edit, into, registry.read_text())
    assert edits == 1
    registry.write_text(text)


def unreachable(agent: Agent) -> set[str]:
    """Prefixes that the kernel of the agent's namespace answers with 'unreachable'."""
    routes = agent.namespace.ip_json("route show type unreachable") + agent.namespace.ip_json(
        "-6 route show type unreachable"
    )
    return {route["dst"] for route in routes if route.get("protocol") == "157"}


def test_a_feature_is_added_and_deleted_by_its_folder_and_one_word(lab: Lab, product: Path) -> None:
    folder = product / "resource_wireguard" / "features" / "blackhole"
    folder.mkdir()
    (folder / "__init__.py").write_text(FEATURE)
    set_registry(product, r"(FEATURES = \(.*)\)", r'\1, "blackhole")')
    agent = lab.agent(source=product).start()
    made = agent.make_tunnel()
    for prefix in ("203.0.113.0/24", "fd99::/64"):
        agent.call("blackhole.add", prefix=prefix)
    assert unreachable(agent) == {"203.0.113.0/24", "fd99::/64"}
    with pytest.raises(Refused, match=r"host bits"):
        agent.call("blackhole.add", prefix="203.0.113.9/24")

    lab.server.ip("route delete unreachable 203.0.113.0/24")
    wait_until(lambda: "203.0.113.0/24" in unreachable(agent), what="drift of the new feature is repaired")

    agent.kill()
    shutil.rmtree(folder)
    set_registry(product, ', "blackhole"', "")
    agent.start()
    assert unreachable(agent) == set(), "what nobody wants any more is an orphan"
    assert agent.call("tunnel.show", name=made["name"])["state"] == "up"
    agent.call("agent.stop")
