"""The ports that a Vrooli checkout has given away, as its own script tells them.

'port_registry.sh --export-json' prints {"resource_ports": {"ollama": 11434, …}}, the fixed ports of its
resources; '--get-all-allocated' prints those and the ports its scenarios hold now, one a line.
"""

from pathlib import Path

import msgspec

from resource_wireguard.errors import HostError
from resource_wireguard.system import process

SCRIPT = "scripts/resources/port_registry.sh"

SCENARIO = "a scenario"
"""Who holds a port that is not a resource's: the script does not name it."""

_UNSET = "correct it, or unset APP_ROOT and VROOLI_ROOT for the agent"


class _Exported(msgspec.Struct):
    resource_ports: dict[str, int]


def reserved_ports(checkout: str | None) -> dict[int, str]:
    """Port → who has it; empty where there is no checkout or it has no registry.

    APP_ROOT is a name that other programs use too, so a folder without the script says nothing.
    """
    script = Path(checkout or "/nonexistent") / SCRIPT
    if not script.is_file():
        return {}
    exported = process.run(["bash", str(script), "--export-json"]).stdout
    allocated = process.run(["bash", str(script), "--get-all-allocated"]).stdout
    try:
        resources = msgspec.json.decode(exported, type=_Exported).resource_ports
        scenarios = {int(line): SCENARIO for line in allocated.split()}
    except (msgspec.DecodeError, ValueError):
        raise HostError(f"the port registry {script} does not answer as expected", _UNSET) from None
    return scenarios | {port: name for name, port in resources.items()}
