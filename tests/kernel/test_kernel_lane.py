"""The netns lane once more, on the WireGuard of a Linux kernel: this host's, or that of a User Mode Linux."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO
from xml.etree import ElementTree

import pytest
from tests.kernel import uml
from tests.lanes import host_has_wireguard
from tests.screen import screen

OUTCOMES = ("passed", "failed", "skipped")
DEADLINE = 900.0  # seconds
PARTS = min(2, len(os.sched_getaffinity(0)))  # guests at once; more wait for the same two CPUs of CI


@pytest.mark.timeout(DEADLINE + 60)
def test_the_netns_suite_passes_on_the_kernels_wireguard(
    shared: Path, capfd: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    with capfd.disabled(), screen(sys.stdout) as output:  # a long silence looks like a hang
        print("\n--- tests/netns on the kernel's WireGuard", file=output, flush=True)
        runs, where = run_where_wireguard_is(shared, output)
    outcomes = sum((run.outcomes for run in runs), Counter())
    summary = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in OUTCOMES)
    record_property("remark", f"tests/netns on {where}: {summary}")
    assert outcomes["failed"] == 0
    assert outcomes["skipped"] == 0
    assert outcomes["passed"] > 0
    assert [run.exit_code for run in runs] == [0] * len(runs)


@dataclass(frozen=True)
class Run:
    """One pytest inside: its exit code, and how many of its tests passed, failed and were skipped."""

    exit_code: int
    outcomes: Counter[str]


def run_where_wireguard_is(shared: Path, output: TextIO) -> tuple[list[Run], str]:
    """Run the suite on a kernel with WireGuard: this host's, or in parts in guests, a CPU each."""
    if host_has_wireguard():
        code = subprocess.run(suite(shared), cwd=uml.CHECKOUT, stdout=output, timeout=DEADLINE).returncode
        return [Run(code, count(shared / "results.xml"))], "this host's kernel"
    kernel = uml.kernel_path()
    with ThreadPoolExecutor(PARTS) as guests:
        return list(guests.map(partial(run_part, kernel, shared, output), range(PARTS))), kernel.name


def run_part(kernel: Path, shared: Path, output: TextIO, guest: int) -> Run:
    """Every nth test, in a guest and a folder of its own."""
    folder = shared / str(guest)
    folder.mkdir()
    argv = [*suite(folder), f"--part={guest + 1}/{PARTS}"]
    code = uml.run(kernel, argv, shared=folder, output=output, deadline=DEADLINE, guest=guest)
    return Run(code, count(folder / "results.xml"))


def suite(folder: Path) -> list[str]:
    """The netns lane as a command; its report goes into the folder."""
    report = [f"--junitxml={folder}/results.xml", "-o", "junit_family=xunit1"]  # 2 has no properties of tests
    options = ["--engine=kernel", "-p", "no:cacheprovider", "--color=no", *report]
    return [sys.executable, "-m", "pytest", "tests/netns", *options]


def count(results: Path) -> Counter[str]:
    """How many tests of a JUnit report passed, failed (errors are failures too) and were skipped."""
    outcomes: Counter[str] = Counter()
    for case in ElementTree.parse(results).iter("testcase"):
        tags = {child.tag for child in case}
        failed = tags & {"failure", "error"}
        outcomes["failed" if failed else "skipped" if "skipped" in tags else "passed"] += 1
    return outcomes
