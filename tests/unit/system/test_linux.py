"""The real host keeps to the engine's port."""

import inspect

import pytest

from resource_wireguard.engine.ports import Clock, Events, Host
from resource_wireguard.system.clock import SystemClock
from resource_wireguard.system.events import NetlinkEvents
from resource_wireguard.system.linux import LinuxHost


@pytest.mark.parametrize(
    ("real", "port"),
    [(LinuxHost, Host), (NetlinkEvents, Events), (SystemClock, Clock)],
    ids=lambda it: it.__name__,
)
def test_it_has_the_methods_of_its_port(real: type, port: type) -> None:
    wanted = {name: method for name, method in vars(port).items() if not name.startswith("_")}
    assert wanted
    for name, method in wanted.items():
        assert list(inspect.signature(getattr(real, name)).parameters) == list(
            inspect.signature(method).parameters
        )
