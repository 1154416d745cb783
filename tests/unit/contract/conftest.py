"""The command line as a process, and as Vrooli meets it: through a copy of the drop-in."""

from tests.unit.cli.conftest import agent, config_dir, environment, run

__all__ = ["agent", "config_dir", "environment", "run"]
