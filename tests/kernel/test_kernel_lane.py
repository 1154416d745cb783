"""The netns lane once more, on the WireGuard of a Linux kernel: this host's, or that of a User Mode Linux."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TextIO
from xml.etree import ElementTree

import pytest
from tests.kernel import uml
from tests.lanes import host_has_wireguard

DEADLINE = 900.0  # seconds


@pytest.mark.timeout(DEADLINE + 60)
def test_the_netns_suite_passes_on_the_kernels_wireguard(
    shared: Path, capfd: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    results = shared / "results.xml"
    suite = [sys.executable, "-m", "pytest", "tests/netns", "--engine=kernel"]
    argv = [*suite, "-p", "no:cacheprovider", "--color=no", f"--junitxml={results}"]
    with capfd.disabled():  # a long silence looks like a hang
        print(f"\n--- {' '.join(argv)}")
        exit_code, where = run_where_wireguard_is(argv, shared, sys.stdout)
        print(f"--- exit code {exit_code}", flush=True)
    outcomes = count(results)
    summary = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
    record_property("remark", f"tests/netns on {where}: {summary}")
    assert outcomes["failed"] == 0
    assert outcomes["skipped"] == 0
    assert outcomes["passed"] > 0
    assert exit_code == 0


def run_where_wireguard_is(argv: list[str], shared: Path, output: TextIO) -> tuple[int, str]:
    """Run argv on a kernel with WireGuard; its exit code, and which kernel that was."""
    if host_has_wireguard():
        return subprocess.run(argv, cwd=uml.CHECKOUT, timeout=DEADLINE).returncode, "this host's kernel"
    kernel = uml.kernel_path()
    return uml.run(kernel, argv, shared=shared, output=output, deadline=DEADLINE), kernel.name


def count(results: Path) -> Counter[str]:
    """How many tests of a JUnit report passed, failed (errors are failures too) and were skipped."""
    outcomes = Counter(passed=0, failed=0, skipped=0)
    for case in ElementTree.parse(results).iter("testcase"):
        tags = {child.tag for child in case}
        failed = tags & {"failure", "error"}
        outcomes["failed" if failed else "skipped" if "skipped" in tags else "passed"] += 1
    return outcomes
