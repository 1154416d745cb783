"""One pass: observe, compile, diff, apply, and look again; what is then left is the report."""

from collections.abc import Callable, Mapping, Sequence, Set

import msgspec

from resource_wireguard.engine.feature import Feature
from resource_wireguard.engine.ports import Clock, Host
from resource_wireguard.host.diff import Action, Plan, diff
from resource_wireguard.host.facts import Facts, Observation, Path, PeerFacts, Problem, Questions
from resource_wireguard.host.lend import lend
from resource_wireguard.host.state import Device, HostState, build
from resource_wireguard.model.keys import PublicKey
from resource_wireguard.model.specs import Specs

ROUNDS = 3
"""Applications in one pass: an object may have to wait for what another step frees (a port, an address)."""


class Report(msgspec.Struct, frozen=True):
    """What a pass saw and did. drift is what the last diff still holds: empty means success.

    specs are what it was to bring about.
    """

    facts: Facts
    desired: HostState = HostState()
    done: Plan = ()
    drift: Plan = ()
    problems: tuple[Problem, ...] = ()
    specs: Specs = Specs()

    @property
    def observation(self) -> Observation:
        """The last look at the host."""
        return self.facts.observation

    def drift_of(self, owner: str) -> Plan:
        """What is left to be done for one tunnel, with what it shares; for '' that of the host."""
        return tuple(
            action
            for action in self.drift
            if owner in self.desired.owners_of(action.record) or self.owner_of(action) == owner
        )

    def problems_of(self, interface: str) -> tuple[Problem, ...]:
        """What could not be observed or applied on one interface."""
        return tuple(problem for problem in self.problems if problem.interface == interface)

    def owner_of(self, action: Action) -> str:
        """The tunnel that an action serves, '' where none is known."""
        return self.desired.owner_of(action.record) or self.observation.state.owner_of(action.record)


class Memory:
    """What devices knew of their peers when they were last seen, by interface; none of it is copied."""

    def __init__(self) -> None:
        self._peers: dict[str, Mapping[tuple[str, PublicKey], PeerFacts]] = {}

    def keep(self, seen: Observation) -> Mapping[str, Mapping[tuple[str, PublicKey], PeerFacts]]:
        """Add an observation; what is known now."""
        self._peers = {**self._peers, **dict.fromkeys(seen.state.of(Device), seen.peers)}
        return self._peers


class World(msgspec.Struct, frozen=True):
    """The unchanging part of a pass: who compiles, for which host, by which clock.

    before_look forgets the host's events up to now: the look that follows sees what they told of.
    after_look is told what was seen.
    """

    features: Sequence[Feature]
    host: Host
    clock: Clock
    before_look: Callable[[], object] = lambda: None
    after_look: Callable[[Facts], object] = lambda _: None
    memory: Memory = msgspec.field(default_factory=Memory)


def questions_of(features: Sequence[Feature], specs: Specs, resolved: Mapping[str, str]) -> Questions:
    """All that the features want to find in the next observation."""
    asked = [feature.questions(specs, resolved) for feature in features]
    return Questions(
        paths=frozenset[Path]().union(*(questions.paths for questions in asked)),
        sysctls=frozenset[str]().union(*(questions.sysctls for questions in asked)),
        docker=any(questions.docker for questions in asked),
        containers=frozenset[str]().union(*(questions.containers for questions in asked)),
    )


def compile_specs(features: Sequence[Feature], specs: Specs, facts: Facts) -> HostState:
    """What the host should be; ConflictError where two specs claim one thing."""
    return build([piece for f in features if f.compile for piece in f.compile(specs, facts)])


def look(world: World, specs: Specs, resolved: Mapping[str, str]) -> Report:
    """Observe and diff, without changing anything."""
    world.before_look()
    observation = world.host.observe(questions_of(world.features, specs, resolved))
    facts = Facts(world.clock.now(), observation, resolved, world.memory.keep(observation))
    world.after_look(facts)
    return compare(world, specs, facts)


def compare(world: World, specs: Specs, facts: Facts) -> Report:
    """The diff of specs against facts that are at hand; keys that are away are those of the facts."""
    seen = facts.observation
    known = lend(compile_specs(world.features, specs, facts), seen.state)
    drift = diff(known.desired, known.actual, complete=seen.complete)
    problems = seen.problems + known.problems
    return Report(facts, known.desired, drift=drift, problems=problems, specs=specs)


def reconcile(
    world: World,
    specs: Specs,
    resolved: Mapping[str, str],
    known: Facts | None = None,
    before: Callable[[Plan], None] = lambda _: None,
    leave: Callable[[Observation], Set[Action]] | None = None,
) -> Report:
    """Bring the host to its specs and say what is left; before is told each plan that is about to run.

    leave names the actions that are not to be carried out: they stay in the report as drift.

    known are facts already gathered and still valid: they stand in for the first look, never for the
    last. Each is judged at its own time, so that an old handshake in them does not seem staler than it was.
    """
    report = compare(world, specs, known) if known else look(world, specs, resolved)
    verified = known is None
    done: list[Action] = []
    refused: tuple[Problem, ...] = ()
    for _ in range(ROUNDS):
        left = leave(report.observation) if leave else frozenset()
        plan = tuple(action for action in report.drift if action not in left) if left else report.drift
        if verified and not plan:
            break
        if plan:
            before(plan)
            refused = world.host.apply(plan)
            done.extend(plan)
        report, verified = look(world, specs, resolved), True
        if plan and report.drift == plan:
            break
    problems = report.problems + (refused if report.drift else ())
    return msgspec.structs.replace(report, done=tuple(done), problems=tuple(dict.fromkeys(problems)))
