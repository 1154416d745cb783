"""The engine: store and host under one roof, used from one thread, one thing at a time."""

import logging
import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from resource_wireguard.engine.feature import Command, Feature, Resources
from resource_wireguard.engine.journal import Journal
from resource_wireguard.engine.ports import Events
from resource_wireguard.engine.reconcile import Report, World, compile_specs, look, questions_of, reconcile
from resource_wireguard.errors import StoreError
from resource_wireguard.host.diff import Action, Plan
from resource_wireguard.host.facts import Facts, Problem, Questions
from resource_wireguard.host.render import lines_of
from resource_wireguard.host.state import Sysctl
from resource_wireguard.model.specs import Specs

log = logging.getLogger(__name__)

KNOWN_FOR = 60.0
"""Seconds for which the last look may stand in for the first look of the next pass."""


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
        self._world = World(self.features, resources.host, resources.clock, self.events.drain, self._tell)
        self._journal = Journal(resources.store, resources.clock)
        self._asked = Questions()
        self._refused: tuple[Problem, ...] = ()
        self._left: Plan = ()

    def specs(self) -> Specs:
        """What the user wants, as the store has it now."""
        loaded = {f.name: f.load(self.resources) for f in self.features if f.load}
        self.last_specs = Specs(loaded)
        return self.last_specs

    @contextmanager
    def change(self) -> Iterator[None]:
        """A change of specs, kept only if all of them compile together; ConflictError otherwise."""
        with self.resources.store.transaction():
            yield
            facts = self.last.facts if self.last else Facts(self.resources.clock.now())
            compile_specs(self.features, self.specs(), facts)

    def settle(self, trigger: str = "") -> Report:
        """Run a pass and say what is left. The journal and the log name the trigger."""
        specs = Specs() if self.stopping else self.specs()
        known = None if self.stopping else self._still_known(specs)  # what goes is counted once more
        self._asked = questions_of(self.features, specs, self.resolved)
        self.last = reconcile(self._world, specs, self.resolved, known, self._journal.keep_sysctls)
        self._refused, self._left = self.last.problems, self.last.drift
        self._note(trigger, self.last)
        return self.last

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

    def journal(self, subject: str, text: str, result: str = "done") -> None:
        """Write a line under the name of whoever asked."""
        self._journal.write(self.actor, subject, text, result)

    def anything_new(self) -> bool:
        """Whether the host reported changes that no look has seen yet."""
        return bool(select.select([self.events], [], [], 0)[0])

    def pass_is_due(self) -> bool:
        """Whether the last look, made to answer somebody, found other drift than the last pass left.

        That look has drained the events that told of it, so nothing else would wake the agent.
        """
        return self.last is not None and not self.stopping and self.last.drift != self._left

    def take_down(self) -> Report:
        """Remove all our objects from the host; the specs stay, and the next start brings them back."""
        self.stopping = True
        return self.settle("stop")

    def purge(self) -> list[str]:
        """Take everything down and give the sysctls their values back; the lines of what was done."""
        report = self.take_down()
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
        for line in lines_of(report.done):
            log.info("%s (%s)", line, trigger or self.actor)
        for problem in report.problems:
            log.warning("%s %s", problem.interface, problem.message)
        try:
            self._journal.write_pass(self.actor, report)
        except StoreError as error:
            log.error("the journal could not be written: %s", error.message)  # noqa: TRY400 - one clear line
