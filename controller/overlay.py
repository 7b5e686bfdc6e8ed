"""All services of one controller on one store."""

import asyncio
from collections.abc import Callable, Collection
from copy import copy
from random import Random, SystemRandom

from controller.clock import Clock
from controller.health.alarms import AlarmLog
from controller.health.convergence import Statuses
from controller.health.writability import Writability
from controller.past.archive import Archive
from controller.rules.quarantine import QUARANTINE, Quarantine
from controller.rules.recovery import RECOVERY_TIME, Recovery
from controller.rules.withheld import Withheld
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
from controller.state.actor import CONTROLLER, Actor
from controller.state.change_record import Recorder
from controller.state.journal import Journal
from controller.state.lineages import Known, ensured
from controller.state.mirror import Mirror
from controller.state.store_time import StoreTime
from controller.state.transaction_meter import CommitMeter
from controller.store.port import Store
from controller.streams.connections import Connections
from controller.streams.feed import Feeds
from controller.streams.watches import Watches
from overlayd.model.address import IpAddress

_LOG_MAX = 10_000
"""How many changes of intent are kept for agents that resume or are slow."""

_CHANCE = SystemRandom()


class Overlay:
    """The overlay as a controller offers it, to itself or to another actor: what that one changes bears its name."""

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
        """`addresses` are those at which hosts reach this controller, none for one that serves nobody."""
        self._addresses = addresses
        self.mirror = Mirror(store, clock, _LOG_MAX)
        self.connections = Connections(store, clock, controller)
        self.watches = Watches(self.mirror, clock)
        self.feeds = Feeds(self.mirror, self.connections, clock)
        self.endpoint_sets = EndpointSets(clock)
        self.archive = Archive(store, self.mirror, clock)
        self.writability = Writability(store, clock)
        self.clock = clock
        self.time = StoreTime(store, clock)
        self._store = store
        self._quarantine = quarantine
        self._recovery_time = recovery_time
        self._chance = chance
        self._withholding = asyncio.Lock()
        self._joining = asyncio.Lock()
        self._write_to(Journal(store, self.mirror, clock, self.time, Recorder(controller), CONTROLLER, chance))
        self.sessions = Sessions(self.tokens, clock)

    @property
    def commits(self) -> CommitMeter:
        """How the transactions of this controller end."""
        return self._journal.commits

    def acting(self, by: Actor, is_waiting: Callable[[], bool] | None = None) -> "Overlay":
        """Return this overlay as an actor uses it; it changes nothing for one who does not wait for that any more."""
        overlay = copy(self)
        overlay._write_to(self._journal.acting(by, is_waiting))  # noqa: SLF001 - a copy of our own
        return overlay

    def _write_to(self, journal: Journal) -> None:
        self._journal = journal
        quarantine = Quarantine(self._store, journal, self._quarantine)
        self.tokens = Tokens(self.mirror, journal, self.clock, self._joining)
        self.recovery = recovery = Recovery(self.mirror, journal, self.clock, self._recovery_time)
        withheld = Withheld(self.mirror, journal)
        self.departures = Departures(self.mirror, journal, quarantine, self.tokens, withheld)
        self.networks = Networks(self.mirror, journal, self._chance, self._addresses, recovery)
        self.hosts = Hosts(self.mirror, journal, self.departures, self._chance, recovery)
        self.blocks = Blocks(self.mirror, journal, quarantine, self.networks, self.hosts, self._chance, recovery)
        self.reservations = Reservations(
            self.mirror, journal, quarantine, self.networks, self.hosts, self._chance, self._withholding, recovery
        )
        self.statements = Statements(self.mirror, journal, quarantine, self.reservations, withheld)
        self.endpoints = Endpoints(self.mirror, journal, self.hosts)
        self.statuses = Statuses(self.mirror, self.hosts, self.networks, recovery)

    async def load(self, known: Known | None = None) -> None:
        """Read the store, of which this may be known from before; everything else needs this first."""
        await ensured(self._store, known)
        await self.mirror.load()

    def known(self) -> Known | None:
        """Return what is to be known of the store when it is opened again, None when it has no lineage."""
        record = self.mirror.lineage
        return Known(record.lineage, self.mirror.revision, self._store.cluster) if record else None

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
