"""Runs the lanes in order, skips one as a whole where it cannot run (never in CI), and sums them up."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from tests.lanes import LANES, lane_index
from tests.screen import Screen
from xdist.scheduler import LoadScopeScheduling

CHECKOUT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI", "").lower() == "true"

settings.register_profile("unhurried", deadline=None)  # how long a case takes says more of the machine
settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine",
        choices=["userspace", "kernel"],
        default="userspace",
        help="the WireGuard engine under the netns lane's tests",
    )
    parser.addoption(
        "--part",
        metavar="K/N",
        default="1/1",
        help="run every Nth test only, from the Kth on: the kernel lane has a guest for each part",
    )


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> str:
    """'userspace' (wireguard-go) or 'kernel': what the tests make their WireGuard interfaces with."""
    return request.config.getoption("--engine")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Lanes(config), "lanes")
    if config.getoption("numprocesses", None):  # and so not in one of these processes
        screen = Screen(config.get_terminal_writer().write)
        config.add_cleanup(screen.close)


class ByFile(LoadScopeScheduling):
    """Of two processes one runs all of a file, and all of a lane that has one machine of its own."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        index = lane_index(CHECKOUT / file)
        return LANES[index].name if index is not None and LANES[index].one_machine else file


@dataclass(slots=True)
class Tally:
    """What became of one lane's tests."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    remarks: dict[str, None] = field(default_factory=dict)  # a set that keeps its order


class Lanes:
    """The pytest hooks that know about lanes."""

    def __init__(self, config: pytest.Config) -> None:
        self._engine: str = config.getoption("--engine")
        self._part, self._parts = map(int, config.getoption("--part").split("/"))
        self._obstacles: dict[int, str | None] = {}
        self._tallies: dict[int, Tally] = {}

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: object) -> "ByFile":
        return ByFile(config, log)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        strays = [item.nodeid for item in items if lane_index(item.path) is None]
        if strays:
            raise pytest.UsageError(f"not in the folder of any lane: {', '.join(strays)}")
        items.sort(key=lambda item: lane_index(item.path))
        items[:] = items[self._part - 1 :: self._parts]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        index = lane_index(item.path)
        if index not in self._obstacles:
            self._obstacles[index] = LANES[index].obstacle(self._engine)
        if (reason := self._obstacles[index]) is not None:
            pytest.skip(reason)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        return (yield from _without_skips_in_ci())

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Iterator[None]:
        return (yield from _without_skips_in_ci())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._count(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self._count(report)

    def _count(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        index = lane_index(CHECKOUT / report.nodeid.split("::")[0])
        if index is None:
            return
        tally = self._tallies.setdefault(index, Tally())
        tally.seconds += getattr(report, "duration", 0.0)
        if report.failed:
            tally.failed += 1
        elif report.skipped:
            tally.skipped += 1
            tally.remarks[_skip_reason(report)] = None
        elif report.when == "call":
            tally.passed += 1
        if getattr(report, "when", None) == "call":
            tally.remarks |= {value: None for name, value in report.user_properties if name == "remark"}

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("lanes")
        terminalreporter.write_line(f"{'lane':<8}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
        for index, tally in sorted(self._tallies.items()):
            counts = f"{tally.passed:>8}{tally.failed:>8}{tally.skipped:>9}{tally.seconds:>9.1f}"
            terminalreporter.write_line(f"{LANES[index].name:<8}{counts}")
            for remark in tally.remarks:
                terminalreporter.write_line(f"{'':8}  {remark}")


def _without_skips_in_ci():
    """Wrap a hook that makes a report: in CI a skipped test is one that nobody runs, which is a failure."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"In CI nothing may be skipped: {_skip_reason(report)}"
    return report


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if hasattr(report, "wasxfail"):
        return f"expected to fail: {report.wasxfail}"
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr)
