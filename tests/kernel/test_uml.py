"""The guest itself: it reports truthfully, ends when it must, and leaves nothing on the host."""

import io
import os
from pathlib import Path

import pytest
from tests.kernel import uml


def run(shared: Path, *argv: str, deadline: float = 60.0) -> tuple[int, str]:
    """Exit code and output of a command in the guest."""
    output = io.StringIO()
    return uml.run(
        uml.kernel_path(), argv, shared=shared, output=output, deadline=deadline
    ), output.getvalue()


def test_output_and_exit_code_come_through(shared: Path) -> None:
    assert run(shared, "bash", "-c", "echo out; echo 'err & $HOME' >&2; exit 7") == (7, "out\nerr & $HOME\n")


def test_the_guest_sees_the_hosts_files_and_none_of_its_sockets(shared: Path) -> None:
    code, output = run(shared, "bash", "-c", "pwd; ls /run; cat pyproject.toml")
    assert code == 0
    assert output.splitlines()[0] == str(uml.CHECKOUT)
    assert "wireguard" not in output.splitlines()[1]
    assert 'name = "resource-wireguard"' in output


def test_what_the_guest_writes_stays_in_it(shared: Path) -> None:
    trace = uml.CHECKOUT / f"trace-of-{os.getpid()}"
    code, output = run(shared, "bash", "-c", f"touch {trace} && ls {trace} && touch {shared}/result")
    assert (code, output) == (0, f"{trace}\n")
    assert not trace.exists()
    assert (shared / "result").exists()


def test_a_guest_that_takes_too_long_is_killed(shared: Path) -> None:
    with pytest.raises(uml.GuestError, match="not done after 3 s"):
        run(shared, "sleep", "60", deadline=3.0)


def test_a_guest_that_dies_is_no_success(shared: Path) -> None:
    with pytest.raises(uml.GuestError, match="ended before its command did"):
        run(shared, *uml.POWER_OFF)
