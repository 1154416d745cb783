"""One pass: observe, compile, diff, apply, and look again; what is then left is the report."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from resource_wireguard.engine.feature import Feature
from resource_wireguard.engine.ports import Clock, Host
from resource_wireguard.host.diff import Action, Plan, diff
from resource_wireguard.host.facts import Facts, Observation, Problem, Questions
from resource_wireguard.host.state import HostState, build
from resource_wireguard.model.specs import Specs

ROUNDS = 3
"""Applications in one pass: an object may have to wait for what another step frees (a port, an address)."""


class Report(msgspec.Struct, frozen=True):
    """What a pass saw and did. drift is what the last diff still holds: empty means success."""

    facts: Facts
    desired: HostState = HostState()
    done: Plan = ()
    drift: Plan = ()
    problems: tuple[Problem, ...] = ()

    @property
    def observation(self) -> Observation:
        """The last look at the host."""
        return self.facts.observation

    def drift_of(self, owner: str) -> Plan:
        """What is left to be done for one tunnel."""
        return tuple(action for action in self.drift if self._owner(action) == owner)

    def problems_of(self, interface: str) -> tuple[Problem, ...]:
        """What could not be observed or applied on one interface."""
        return tuple(problem for problem in self.problems if problem.interface == interface)

    def _owner(self, action: Action) -> str:
        return self.desired.owner_of(action.record) or self.observation.state.owner_of(action.record)


class World(msgspec.Struct, frozen=True):
    """The unchanging part of a pass: who compiles, for which host, by which clock."""

    features: Sequence[Feature]
    host: Host
    clock: Clock


def compile_specs(features: Sequence[Feature], specs: Specs, facts: Facts) -> HostState:
    """What the host should be; ConflictError where two specs claim one thing."""
    return build([piece for f in features if f.compile for piece in f.compile(specs, facts)])


def look(
    world: World, specs: Specs, resolved: Mapping[str, str], observation: Observation | None = None
) -> Report:
    """Observe and diff, without changing anything."""
    seen = observation or world.host.observe(_questions(world.features, specs))
    facts = Facts(world.clock.now(), seen, resolved)
    desired = compile_specs(world.features, specs, facts)
    left = diff(desired, seen.state, complete=seen.complete)
    return Report(facts, desired, drift=left, problems=seen.problems)


def reconcile(
    world: World,
    specs: Specs,
    resolved: Mapping[str, str],
    known: Observation | None = None,
    before: Callable[[Plan], None] = lambda _: None,
) -> Report:
    """Bring the host to its specs and say what is left; before is told each plan that is about to run.

    known is an observation already made and still valid: it stands in for the first look, never the last.
    """
    report = look(world, specs, resolved, known)
    verified, done = known is None, list[Action]()
    refused: tuple[Problem, ...] = ()
    for _ in range(ROUNDS):
        if not report.drift and verified:
            break
        plan = report.drift
        if plan:
            before(plan)
            refused = world.host.apply(plan)
            done.extend(plan)
        report, verified = look(world, specs, resolved), True
        if plan and report.drift == plan:
            break
    return msgspec.structs.replace(report, done=tuple(done), problems=report.problems + refused)


def _questions(features: Sequence[Feature], specs: Specs) -> Questions:
    asked = [feature.questions(specs) for feature in features]
    return Questions(
        paths=frozenset().union(*(questions.paths for questions in asked)),
        sysctls=frozenset().union(*(questions.sysctls for questions in asked)),
    )
