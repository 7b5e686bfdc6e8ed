"""The rooms of one controller, joined on one store."""

import asyncio
from collections.abc import Collection
from random import Random, SystemRandom

from controller.clock import Clock
from controller.health import wiring as health_wiring
from controller.journal.change_record import Recorder
from controller.journal.journal import Journal
from controller.journal.transaction_meter import TransactionMeter
from controller.past.archive import Archive
from controller.rules import wiring as rule_wiring
from controller.rules.defaults import HOST_BLOCKS, HOST_NETWORKS, QUARANTINE, RECOVERY_TIME
from controller.services import wiring as service_wiring
from controller.state import wiring as state_wiring
from controller.state.lineages import KnownLineage, ensured
from controller.store.port import Store
from controller.streams import wiring as stream_wiring
from overlayd.model.address import IpAddress

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
        host_networks: int = HOST_NETWORKS,
        host_blocks: int = HOST_BLOCKS,
    ) -> None:
        """`addresses` are those at which hosts reach this controller, none for one that serves no hosts.

        `host_networks` is how many networks each host may make, and `host_blocks` how many blocks of a family it may
        hold in one network.
        """
        self.clock = clock
        self._store = store

        state = state_wiring.build(store, clock)
        self.time = state.time
        self.mirror = mirror = state.mirror
        self._journal = journal = Journal(store, mirror, clock, self.time, Recorder(controller), chance)
        self.archive = Archive(store, mirror, clock)

        rules = rule_wiring.build(store, mirror, journal, clock, chance, quarantine, recovery_time)
        self.recovery = rules.recovery

        services = service_wiring.build(rules, addresses, host_networks, host_blocks)
        self.tokens, self.sessions = services.tokens, services.sessions
        self.networks, self.hosts = services.networks, services.hosts
        self.departures, self.statements = services.departures, services.statements
        self.blocks, self.reservations = services.blocks, services.reservations
        self.endpoints, self.endpoint_sets = services.endpoints, services.endpoint_sets

        streams = stream_wiring.build(store, mirror, clock, controller)
        self.turns, self.connections = streams.turns, streams.connections
        self.feeds, self.watches = streams.feeds, streams.watches

        health = health_wiring.build(store, rules, services)
        self.writability, self.statuses = health.writability, health.statuses

        self._rooms = (state, rules, services, streams, health)

    @property
    def commits(self) -> TransactionMeter:
        """How the transactions of this controller end."""
        return self._journal.commits

    async def load(self, known: KnownLineage | None = None) -> None:
        """Read the store; `known` is what is known of it from an earlier run. Must be called before anything else."""
        await ensured(self._store, known)
        await self.mirror.load()

    def known(self) -> KnownLineage | None:
        """Return the lineage and revision to record for the next opening of the store, None when it has no lineage."""
        record = self.mirror.lineage
        return KnownLineage(record.lineage, self.mirror.revision, self._store.cluster) if record else None

    async def run(self) -> None:
        """Follow the store and serve feeds, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for room in self._rooms:
                for name, actor in room.actors().items():
                    tasks.create_task(actor, name=name)
