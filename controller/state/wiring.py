"""Builds the parts of this room."""

from dataclasses import dataclass

from controller.actors import Actors
from controller.clock import Clock
from controller.state.mirror import Mirror
from controller.state.store_time import StoreTime
from controller.store.port import Store

_LOG_MAX = 10_000
"""How many changes of intent are kept for agents that resume or are slow."""


@dataclass(frozen=True, slots=True)
class StateParts:
    """The image of a store, and the time by which it forgets."""

    mirror: Mirror
    time: StoreTime

    def actors(self) -> Actors:
        """Return the tasks of this room, which run until the controller stops."""
        return {"mirror": self.mirror.run()}


def build(store: Store, clock: Clock) -> StateParts:
    """Make the image of a store; nothing is read yet."""
    return StateParts(Mirror(store, clock, _LOG_MAX), StoreTime(store, clock))
