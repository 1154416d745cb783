"""A throw-away tunnel: the stage (stage.py) runs in namespaces of its own, and this asks for it.

In a mount, a pid and a network namespace whatever the stage makes ends with it, because the kernel takes a
namespace down with its last process: files (on a tmpfs), agents, engines, links. And the stage dies with us:
so nothing is left also when we are killed.
"""

import json
import os
import sys

from resource_wireguard.cli.selftest.runner import LIMITS, Outcome, Unavailable
from resource_wireguard.errors import HostError

NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""unshare(1), which is in every Debian; --kill-child: if it is killed, all that is inside is, too."""

DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""setpriv(1), from the same package: what it starts is killed when whoever started it ends (prctl(2))."""

STAGE = "resource_wireguard.cli.selftest.stage"

SETTINGS = ("WIREGUARD_", "VROOLI_", "APP_ROOT", "CONFIG_DIR")
"""Settings of this host's agent, which are no business of the throw-away ones; but WIREGUARD_ENGINE is."""


def integration_phase() -> list[Outcome]:
    """The checks of 'test integration', as the stage reports them."""
    from resource_wireguard.system.process import run

    try:
        run([*NAMESPACES, "true"])
    except HostError as error:
        hint = "run it with sudo; in a container, with --privileged"
        raise Unavailable(f"this process may not make namespaces ({error.message})", hint) from None
    argv = [*DIES_WITH_US, *NAMESPACES, *_clean_environment(), sys.executable, "-P", "-m", STAGE]
    answer = run(argv, timeout=float(LIMITS["integration"])).stdout
    return [Outcome(**outcome) for outcome in json.loads(answer)]


def _clean_environment() -> list[str]:
    """env(1) with what is to be forgotten, and with paths that hold when the stage runs elsewhere."""
    forgotten = [name for name in os.environ if name.startswith(SETTINGS) and name != "WIREGUARD_ENGINE"]
    kept = []
    if os.environ.get("PYTHONPATH"):
        paths = os.environ["PYTHONPATH"].split(os.pathsep)
        kept.append(f"PYTHONPATH={os.pathsep.join(map(os.path.abspath, paths))}")
    if "/" in os.environ.get("WIREGUARD_ENGINE", ""):
        kept.append(f"WIREGUARD_ENGINE={os.path.abspath(os.environ['WIREGUARD_ENGINE'])}")
    return ["env", *(word for name in forgotten for word in ("-u", name)), *kept]
