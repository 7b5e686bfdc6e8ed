"""Builds the parts of this room."""

from dataclasses import dataclass

from controller.actors import Actors
from controller.clock import Clock
from controller.health.alarms import AlarmLog
from controller.health.convergence import Statuses
from controller.health.writability import Writability
from controller.rules.wiring import RuleParts
from controller.services.wiring import ServiceParts
from controller.store.port import Store


@dataclass(frozen=True, slots=True)
class HealthParts:
    """What is known of the store, of the hosts, and of what runs out."""

    writability: Writability
    statuses: Statuses
    alarms: AlarmLog
    clock: Clock

    def actors(self) -> Actors:
        """Return the tasks of this room, which run until the controller stops."""
        return {"writability": self.writability.run(), "alarms": self.alarms.run(self.clock)}


def build(store: Store, rules: RuleParts, services: ServiceParts) -> HealthParts:
    """Build the parts of this room for one controller."""
    statuses = Statuses(rules.mirror, services.hosts, services.networks, rules.recovery)
    return HealthParts(Writability(store, rules.clock), statuses, AlarmLog(rules.mirror), rules.clock)
