"""All services of one controller on one store."""

import asyncio
from collections.abc import Collection
from random import Random, SystemRandom

from controller.clock import Clock
from controller.health.alarms import AlarmLog
from controller.health.convergence import Statuses
from controller.health.writability import Writability
from controller.journal.change_record import Recorder
from controller.journal.journal import Journal
from controller.journal.transaction_meter import TransactionMeter
from controller.past.archive import Archive
from controller.rules.defaults import QUARANTINE, RECOVERY_TIME
from controller.rules.quarantine import Quarantine
from controller.rules.recovery import Recovery
from controller.rules.withheld_units import WithheldUnits
from controller.services.blocks import Blocks
from controller.services.departures import Departures
from controller.services.endpoint_sets import EndpointSets
from controller.services.endpoints import Endpoints
from controller.services.hosts import Hosts
from controller.services.networks import Networks
from controller.services.reservations import Reservations
from controller.services.sessions import Sessions
from controller.services.statements import Statements
from controller.services.tokens import Tokens
from controller.state.lineages import KnownLineage, ensured
from controller.state.mirror import Mirror
from controller.state.store_time import StoreTime
from controller.store.port import Store
from controller.streams.connections import HostConnections
from controller.streams.feed import Feeds
from controller.streams.watches import Watches
from overlayd.model.address import IpAddress

_LOG_MAX = 10_000
"""How many changes of intent are kept for agents that resume or are slow."""

_CHANCE = SystemRandom()


class Overlay:
    """The overlay as one controller offers it. Reads come from its mirror; each write names its requester."""

    def __init__(  # noqa: PLR0913, PLR0917 - what a controller is made of
        self,
        store: Store,
        clock: Clock,
        controller: str,
        quarantine: float = QUARANTINE,
        chance: Random = _CHANCE,
        addresses: Collection[IpAddress] = (),
        recovery_time: float = RECOVERY_TIME,
    ) -> None:
        """`addresses` are those at which hosts reach this controller, none for one that serves no hosts."""
        self.clock = clock
        self._store = store
        self.time = StoreTime(store, clock)
        self.mirror = mirror = Mirror(store, clock, _LOG_MAX)
        self._journal = journal = Journal(store, mirror, clock, self.time, Recorder(controller), chance)
        self.archive = Archive(store, mirror, clock)

        resting = Quarantine(store, journal, quarantine)
        withheld = WithheldUnits(mirror, journal)
        self.recovery = recovery = Recovery(mirror, journal, clock, recovery_time)

        self.tokens = Tokens(mirror, journal, clock)
        self.sessions = Sessions(self.tokens, clock)
        self.departures = Departures(mirror, journal, resting, self.tokens, withheld)
        self.networks = Networks(mirror, journal, chance, addresses, recovery)
        self.hosts = Hosts(mirror, journal, self.departures, chance, recovery)
        self.blocks = Blocks(mirror, journal, resting, self.networks, self.hosts, chance, recovery)
        self.reservations = Reservations(mirror, journal, resting, self.networks, self.hosts, chance, recovery)
        self.statements = Statements(mirror, journal, resting, self.reservations, withheld)
        self.endpoints = Endpoints(mirror, journal, self.hosts)
        self.endpoint_sets = EndpointSets(clock)

        self.connections = HostConnections(store, clock, controller)
        self.feeds = Feeds(mirror, self.connections, clock)
        self.watches = Watches(mirror, clock)

        self.writability = Writability(store, clock)
        self.statuses = Statuses(mirror, self.hosts, self.networks, recovery)

    @property
    def commits(self) -> TransactionMeter:
        """How the transactions of this controller end."""
        return self._journal.commits

    async def load(self, known: KnownLineage | None = None) -> None:
        """Read the store; `known` is what is known of it from an earlier run. Must be called before anything else."""
        await ensured(self._store, known)
        await self.mirror.load()

    def known(self) -> KnownLineage | None:
        """Return what to note about the store for its next opening, None when it has no lineage."""
        record = self.mirror.lineage
        return KnownLineage(record.lineage, self.mirror.revision, self._store.cluster) if record else None

    async def run(self) -> None:
        """Follow the store and serve feeds, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.mirror.run(), name="mirror")
            tasks.create_task(self.feeds.run(), name="feeds")
            tasks.create_task(self.watches.run(), name="watches")
            tasks.create_task(self.connections.run(), name="connections")
            tasks.create_task(self.sessions.run(), name="sessions")
            tasks.create_task(self.writability.run(), name="writability")
            tasks.create_task(self.endpoint_sets.run(), name="endpoint sets")
            tasks.create_task(self.departures.run(self.clock), name="departures")
            tasks.create_task(self.recovery.run(), name="recovery")
            tasks.create_task(self.statements.run(self.clock), name="statements")
            tasks.create_task(AlarmLog(self.mirror).run(self.clock), name="alarms")
