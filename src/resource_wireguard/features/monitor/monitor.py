"""What monitoring remembers between two looks. Used in the engine's thread alone."""

import resource
from collections.abc import Set

from resource_wireguard.engine.feature import Resources
from resource_wireguard.features.monitor import tables
from resource_wireguard.features.monitor.traffic import Look, PeerKey, Rates, Totals
from resource_wireguard.host.facts import Facts
from resource_wireguard.model.specs import Specs

SAVE_EVERY = 60.0
"""Seconds between two savings of the totals. An agent that is killed loses none of them: what was saved
goes with the engine's counter of that moment, so the next agent finds by how much that has grown. Only when
a counter was started anew would it not: then the totals are saved at once."""


class Monitor:
    """Totals and rates of all peers, kept up by every look at the host."""

    def __init__(self) -> None:
        self.rates = Rates()
        self.totals = Totals({})
        self._loaded = False
        self._specs = Specs()
        self._saved_at = 0.0

    def observed(self, resources: Resources, specs: Specs, facts: Facts) -> None:
        """Take in a look; StoreError where the totals cannot be saved, which is tried again in a minute."""
        self._specs = specs
        if not self._loaded:
            self.totals, self._loaded = Totals(tables.load(resources.store)), True
        anew = self.totals.see(facts.observation)
        if self.totals.nameless:
            self.totals.name(_owners(specs, self.totals.nameless))
        self.rates.see(Look(facts.now, facts.observation.peers, cpu_seconds()))
        if anew or not 0 <= facts.now - self._saved_at < SAVE_EVERY:
            self._saved_at = facts.now
            self._save(resources)

    def ending(self, resources: Resources) -> None:
        """Save what the next agent has to know."""
        self._save(resources)

    def _save(self, resources: Resources) -> None:
        gone = self.totals.keep(_owners(self._specs))
        changed = list(self.totals.changed())
        if changed or gone:
            tables.save(resources.store, changed, gone)
            self.totals.saved()


def cpu_seconds() -> float:
    """CPU time of this process up to now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _owners(specs: Specs, among: Set[PeerKey] | None = None) -> dict[PeerKey, str]:
    """Whose each place is, or each among some: tunnel and peer, parted by a space."""
    return {
        place: f"{tunnel.name} {peer.name}"
        for tunnel in specs.tunnels
        for peer in tunnel.peers
        for place in specs.places(tunnel, peer)
        if among is None or place in among
    }
