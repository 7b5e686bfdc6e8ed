"""Builds the parts of this room."""

from dataclasses import dataclass

from controller.actors import Actors
from controller.clock import Clock
from controller.state.mirror import Mirror
from controller.store.port import Store
from controller.streams.connections import HostConnections
from controller.streams.feed import Feeds
from controller.streams.turns import Turns
from controller.streams.watches import Watches


@dataclass(frozen=True, slots=True)
class StreamParts:
    """The streams of one controller, and the hosts that are connected to it."""

    turns: Turns
    connections: HostConnections
    feeds: Feeds
    watches: Watches

    def actors(self) -> Actors:
        """Return the tasks of this room, which run until the controller stops."""
        return {
            "turns": self.turns.run(),
            "connections": self.connections.run(),
            "feeds": self.feeds.run(),
            "watches": self.watches.run(),
        }


def build(store: Store, mirror: Mirror, clock: Clock, controller: str) -> StreamParts:
    """Make the streams of the controller with this id; none is open yet."""
    turns, connections = Turns(clock), HostConnections(store, clock, controller)
    return StreamParts(turns, connections, Feeds(mirror, connections, turns, clock), Watches(mirror, turns, clock))
