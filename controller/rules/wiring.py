"""The parts of this room, joined, with those below it that services need as well."""

from dataclasses import dataclass
from random import Random

from controller.actors import Actors
from controller.clock import Clock
from controller.journal.journal import Journal
from controller.rules.macs import MacClaims
from controller.rules.quarantine import Quarantine
from controller.rules.recovery import Recovery
from controller.rules.removals import Removals
from controller.rules.withheld_units import WithheldUnits
from controller.state.mirror import Mirror
from controller.store.port import Store


@dataclass(frozen=True, slots=True)
class RuleParts:
    """What services read and write with, and what they must keep."""

    mirror: Mirror
    journal: Journal
    clock: Clock
    chance: Random
    quarantine: Quarantine
    withheld: WithheldUnits
    recovery: Recovery
    macs: MacClaims
    removals: Removals

    def actors(self) -> Actors:
        """Return the tasks of this room, which run until the controller stops."""
        return {"recovery": self.recovery.run()}


def build(  # noqa: PLR0913, PLR0917 - what rules are kept on
    store: Store,
    mirror: Mirror,
    journal: Journal,
    clock: Clock,
    chance: Random,
    quarantine: float,
    recovery_time: float,
) -> RuleParts:
    """Make the rules of a controller; `quarantine` and `recovery_time` are in seconds."""
    macs = MacClaims(mirror, journal)
    return RuleParts(
        mirror,
        journal,
        clock,
        chance,
        Quarantine(store, journal, quarantine),
        WithheldUnits(mirror, journal),
        Recovery(mirror, journal, clock, recovery_time),
        macs,
        Removals(mirror, journal, macs),
    )
