"""The engine: store and host under one roof, used from one thread, one thing at a time."""

import logging
import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from resource_wireguard.engine.feature import Command, Feature, Resources
from resource_wireguard.engine.history import Change, History
from resource_wireguard.engine.journal import Journal
from resource_wireguard.engine.ports import Events, Tunnels
from resource_wireguard.engine.reconcile import (
    Report,
    World,
    compare,
    compile_specs,
    look,
    questions_of,
    reconcile,
)
from resource_wireguard.errors import StoreError
from resource_wireguard.host.diff import Action, Plan, diff
from resource_wireguard.host.facts import Facts, Observation, Problem, Questions
from resource_wireguard.host.render import lines_of
from resource_wireguard.host.state import Sysctl
from resource_wireguard.model.specs import Specs

log = logging.getLogger(__name__)

KNOWN_FOR = 60.0
"""Seconds for which the last look may stand in for the first look of the next pass."""

T = TypeVar("T")


class _Rehearsed(BaseException):
    """Carries a rehearsal out of its transaction, so that it is rolled back."""


class Engine:
    """What command handlers and the agent work with. Not thread-safe: the agent gives it one thread."""

    def __init__(self, resources: Resources, features: Sequence[Feature]) -> None:
        self.resources = resources
        self.features = tuple(features)
        self.commands: dict[str, Command] = {c.name: c for f in self.features for c in f.commands}
        self.resolved: dict[str, str] = {}
        self.last: Report | None = None
        self.last_specs = Specs()
        self.actor = "agent"
        self.progress: Callable[[str], None] = lambda _: None
        self.events: Events = resources.host.events()
        self.stopping = False
        self._purging = False
        self._world = World(self.features, resources.host, resources.clock, self.events.drain, self._tell)
        self._journal = Journal(resources.store, resources.clock)
        recorded = [table for feature in self.features for table in feature.recorded]
        self.history = History(resources.store, resources.clock, recorded)
        self._keys_told = ""
        self._asked = Questions()
        self._refused: tuple[Problem, ...] = ()
        self._told: tuple[Plan, tuple[Problem, ...]] = ((), ())
        self._settled: Report | None = None
        self._owed: frozenset[Action] = frozenset()

    def specs(self) -> Specs:
        """What the user wants, as the store has it now."""
        loaded = {f.name: f.load(self.resources) for f in self.features if f.load}
        self.last_specs = Specs(loaded)
        return self.last_specs

    @contextmanager
    def change(self) -> Iterator[None]:
        """A change of specs, kept only if all of them compile together; ConflictError otherwise.

        It can be taken back later. None is made while another one waits to be confirmed.
        """
        self.history.refuse_while_pending()
        with self._recorded():
            yield
            facts = self.last.facts if self.last else Facts(self.resources.clock.now())
            compile_specs(self.features, self.specs(), facts)

    def take_back(self, change: Change, text: str) -> None:
        """Undo a change and what came after it, as a change of its own; what compiled then does so again."""
        with self._recorded():
            self.journal("", text)
            self.history.forget_pending()
            self.history.take_back(change)

    def rehearse(self, work: Callable[[], T]) -> tuple[T, Report]:
        """What some work on the store answers, and a report with the plan it leads to; nothing is kept."""
        answers: list[tuple[T, Report]] = []
        try:
            with self.resources.store.transaction():
                answered = work()
                specs = self.specs()
                seen = self.resources.host.observe(questions_of(self.features, specs, self.resolved))
                facts = Facts(self.resources.clock.now(), seen, self.resolved)
                answers.append((answered, compare(self._world, specs, facts)))
                raise _Rehearsed
        except _Rehearsed:
            self.specs()
        return answers[0]

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        with self.resources.store.transaction(), self.history.recording(self.actor):
            yield

    def settle(self, trigger: str = "") -> Report:
        """Run a pass and say what is left. The journal and the log name the trigger."""
        self._recover_keys()
        self._take_back_unconfirmed()
        specs = Specs() if self._purging else self.specs()
        known = None if self.stopping else self._still_known(specs)  # what goes is counted once more
        self._asked = questions_of(self._world.features, specs, self.resolved)
        leave = self._foreign if self.drift == "report" and not self.stopping else None
        self.last = reconcile(self._world, specs, self.resolved, known, self._journal.keep_sysctls, leave)
        self._refused = self.last.problems
        self._owed = frozenset(self.last.drift) - (leave(self.last.observation) if leave else frozenset())
        self._settled = self.last
        self._note(trigger, self.last)
        return self.last

    def _recover_keys(self) -> None:
        """What changes about them is logged once; without them, what runs is kept as it is (host/lend.py)."""
        before = self.resources.secrets.unavailable()
        self.resources.secrets.recover()
        why = self.resources.secrets.unavailable()
        told, self._keys_told = self._keys_told, why.message if why else ""
        if why and told != why.message:
            log.warning("keys are not available: %s", why.message)
        elif not why and (before or told):
            log.info("keys are available again")

    def _take_back_unconfirmed(self) -> None:
        """The deadline is in the store, so that it also holds for an agent that was killed before it."""
        pending = self.history.pending()
        if pending and self.resources.clock.now() >= pending.deadline:
            log.warning("not confirmed in time, taken back: %s", pending.change.text)
            self.take_back(pending.change, f"not confirmed in time, taken back: {pending.change.text}")

    def seconds_to_confirm(self) -> float | None:
        """Until the change that waits is taken back; None where none waits."""
        pending = self.history.pending()
        return max(0.0, pending.deadline - self.resources.clock.now()) if pending else None

    def _foreign(self, seen: Observation) -> frozenset[Action]:
        """What would repair the doings of others: the steps back to the last pass, its own debts aside."""
        if self._settled is None:
            return frozenset()
        return frozenset(diff(self._settled.desired, seen.state, complete=seen.complete)) - self._owed

    def report(self) -> Report:
        """A fresh look that changes nothing; while drift is left, with what the last pass was refused."""
        specs = self.specs()
        self._asked = questions_of(self.features, specs, self.resolved)
        seen = look(self._world, specs, self.resolved)
        if seen.drift:
            problems = tuple(dict.fromkeys(seen.problems + self._refused))
            seen = msgspec.structs.replace(seen, problems=problems)
        self.last = seen
        return seen

    @property
    def tunnels(self) -> Tunnels:
        """Where tunnels and peers are kept, whichever feature does that."""
        return next(feature.tunnels for feature in self.features if feature.tunnels)

    def journal(self, subject: str, text: str, result: str = "done") -> None:
        """Write a line under the name of whoever asked; inside a change it is the change's name too."""
        self._journal.write(self.actor, subject, text, result)
        self.history.tell(f"{subject}: {text}" if subject else text)

    def journal_lines(self, tail: int | None, since: float | None) -> list[tuple[Any, ...]]:
        """The journal's last lines, oldest first: time, actor, subject, text, result."""
        return self._journal.read(tail, since)

    @property
    def drift(self) -> str:
        """'enforce', or 'report': what others change on our objects is repaired, or only told of."""
        rows = self.resources.store.query("SELECT value FROM settings WHERE name = 'drift'")
        return str(rows[0][0]) if rows else "enforce"

    @drift.setter
    def drift(self, mode: str) -> None:
        self.resources.store.execute(
            "INSERT OR REPLACE INTO settings (name, value) VALUES ('drift', ?)", mode
        )

    def anything_new(self) -> bool:
        """Whether the host reported changes that no look has seen yet."""
        return bool(select.select([self.events], [], [], 0)[0])

    def pass_is_due(self) -> bool:
        """Whether the last look, made to answer somebody, found other drift than the last pass left.

        That look has drained the events that told of it, so nothing else would wake the agent.
        """
        if self.last is None or self._settled is None or self.stopping:
            return False
        return self.last.drift != self._settled.drift

    def take_down(self) -> Report:
        """Remove our objects from the host, but for what keeps others in; the next start brings them back."""
        self.stopping = True
        stopped = [feature.stopped() for feature in self.features]
        self._world = msgspec.structs.replace(self._world, features=stopped)
        return self.settle("stop")

    def purge(self) -> list[str]:
        """Take everything down and give the sysctls their values back; the lines of what was done."""
        self.stopping = self._purging = True
        report = self.settle("stop")
        restored = tuple(
            Action("change", Sysctl(s.name, "(ours)"), s) for s in self._journal.sysctls_before()
        )
        if not self.resources.host.apply(restored):
            self._journal.forget_sysctls()
        return lines_of(report.done) + [f"restore sysctl {a.record.key}" for a in restored]

    def end(self) -> None:
        """The last thing that is done: what features hold in memory alone is saved."""
        for feature in self.features:
            if feature.ending:
                feature.ending(self.resources)

    def _tell(self, facts: Facts) -> None:
        """Let features see what was seen; what they cannot save is no reason to see nothing."""
        for feature in self.features:
            if feature.observed:
                try:
                    feature.observed(self.resources, self.last_specs, facts)
                except StoreError as error:
                    log.error("'%s' could not be saved: %s", feature.name, error.message)  # noqa: TRY400

    def _still_known(self, specs: Specs) -> Facts | None:
        """The last look's facts, if nothing was reported since and they answer all questions of now."""
        if self.last is None or self.anything_new() or not self.last.observation.complete:
            return None
        aged = self.resources.clock.now() - self.last.facts.now > KNOWN_FOR
        if (
            aged
            or self.last.drift
            or self.last.problems
            or questions_of(self.features, specs, self.resolved) != self._asked
        ):
            return None
        return self.last.facts

    def _note(self, trigger: str, report: Report) -> None:
        """Tell of a pass, unless it failed at just what the one before failed at: retries go on for ever."""
        told = (report.done, report.problems)
        if report.drift and told == self._told:
            return
        self._told = told
        for line in lines_of(report.done):
            log.info("%s (%s)", line, trigger or self.actor)
        for problem in report.problems:
            log.warning("%s %s", problem.interface, problem.message)
        try:
            self._journal.write_pass(self.actor, report)
        except StoreError as error:
            log.error("the journal could not be written: %s", error.message)  # noqa: TRY400 - one clear line
