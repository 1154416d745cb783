"""The journal: who changed what, when, and with which result; never a key."""

from collections.abc import Iterator
from typing import Any

from resource_wireguard.engine.ports import Clock, Store
from resource_wireguard.engine.reconcile import Report
from resource_wireguard.host.diff import Action, Plan
from resource_wireguard.host.render import lines_of
from resource_wireguard.host.state import Sysctl


class Journal:
    """Append-only lines in the store, and the sysctls as they were before us."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def write(self, actor: str, subject: str, text: str, result: str = "done") -> None:
        """One line about one subject (a tunnel, or '' for the host)."""
        self._store.execute(
            "INSERT INTO journal (at, actor, subject, text, result) VALUES (?, ?, ?, ?, ?)",
            self._clock.now(),
            actor,
            subject,
            text,
            result,
        )

    def read(self, tail: int | None, since: float | None) -> list[tuple[Any, ...]]:
        """The last lines (all with None), those from a time on (Unix seconds), oldest first."""
        return self._store.query(
            "SELECT at, actor, subject, text, result FROM ("
            "SELECT * FROM journal WHERE at >= ? ORDER BY id DESC LIMIT ?) ORDER BY id",
            *(since or 0.0, -1 if tail is None else max(0, tail)),
        )

    def write_pass(self, actor: str, report: Report) -> None:
        """What a pass did, a line an action, in one transaction."""
        if not report.done:
            return
        with self._store.transaction():
            for subject, plan in _by_owner(report):
                interfaces = {action.record.interface for action in plan}
                refused = [p.message for p in report.problems if p.interface in interfaces]
                for line in lines_of(plan):
                    self.write(actor, subject, line, refused[0] if refused else "done")

    def keep_sysctls(self, plan: Plan) -> None:
        """Remember the values that a plan is about to overwrite; the first one known stays.

        Names with slashes are those of one interface's settings, which go when it goes.
        """
        before = [a.before for a in plan if isinstance(a.before, Sysctl) and "/" not in a.before.name]
        rows = [(sysctl.name, sysctl.value) for sysctl in before]
        if rows:
            self._store.execute_many("INSERT OR IGNORE INTO sysctl_before (name, value) VALUES (?, ?)", rows)

    def sysctls_before(self) -> list[Sysctl]:
        """The sysctls we have changed, with the values they had."""
        return [
            Sysctl(name, value) for name, value in self._store.query("SELECT name, value FROM sysctl_before")
        ]

    def forget_sysctls(self) -> None:
        """After they were restored."""
        self._store.execute("DELETE FROM sysctl_before")


def _by_owner(report: Report) -> Iterator[tuple[str, list[Action]]]:
    owners: dict[str, list[Action]] = {}
    for action in report.done:
        owners.setdefault(report.owner_of(action), []).append(action)
    yield from owners.items()
