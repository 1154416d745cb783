"""The unit, for real: systemd in the guest starts, watches, kills, restarts and forgets the service."""

import io
import shutil
import sys
from pathlib import Path

import pytest
from tests.kernel import systemd_story, uml

DEADLINE = 600.0  # seconds


@pytest.mark.timeout(DEADLINE + 30)
def test_the_life_of_the_service_as_a_unit(shared: Path) -> None:
    if not Path("/usr/lib/systemd/systemd").exists() or not shutil.which("wireguard-go"):
        pytest.skip("systemd and wireguard-go have to be installed, as the guest has this machine's files")
    story = [sys.executable, "-m", systemd_story.__name__]
    boot = ["bash", "tests/kernel/boot-systemd", str(shared), *story]
    output = io.StringIO()
    code = uml.run(uml.kernel_path(), boot, shared=shared, output=output, deadline=DEADLINE)
    said = output.getvalue()
    assert code == 0, said
    assert "the end\n" in said
