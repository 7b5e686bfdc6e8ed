"""The hosts that are connected to this controller, announced in the store.

All of them hang on one lease, so that they vanish with the controller, and the cost of keeping them grows with
controllers and not with hosts. Changes are written together, some times a second.
"""

import asyncio
from dataclasses import replace

import structlog

from controller.clock import Clock
from controller.state import host_presence, keys
from controller.state.host_presence import HostPresence, HostProblem
from controller.store.port import (
    TRANSACTION_MAX,
    DeleteKey,
    LeaseId,
    LeaseLost,
    PutKey,
    Store,
    StoreUnavailable,
    Transaction,
)
from controller.throttle import Throttle
from overlayd.model.errors import AlreadyExists, NotFound
from overlayd.model.ids import HostId, Revision

LEASE_TTL = 10.0
"""Seconds until the hosts of a dead controller count as not connected."""

_FLUSH_INTERVAL = 0.2
"""Seconds between writes, at least."""

_RETRY_INTERVAL = 1.0
"""Seconds between attempts at a store that takes no writes."""

_log = structlog.get_logger()


class HostConnections:
    """The presences that this controller vouches for."""

    def __init__(self, store: Store, clock: Clock, controller: str) -> None:
        self._store = store
        self._clock = clock
        self._controller = controller
        self._lease: LeaseId | None = None
        self._live: dict[HostId, HostPresence] = {}
        self._unwritten: set[HostId] = set()
        self._changed = asyncio.Event()
        self._unwritable, self._not_kept = Throttle(), Throttle()

    def connect(self, host: HostId, instance: str) -> None:
        """Announce a host; an earlier connection of the same host is replaced."""
        self._set(HostPresence(host, self._controller, instance))

    def disconnect(self, host: HostId) -> None:
        """Withdraw the announcement of a host."""
        del self._live[host]
        self._mark({host})

    def instance(self, host: HostId) -> str:
        """Return the instance of a host that is connected to this controller."""
        return self._live[host].instance

    def report(self, host: HostId, instance: str, applied: Revision, problems: tuple[HostProblem, ...]) -> None:
        """Record the report of a connected host.

        Raises `NotFound` when the host has no feed from this controller, `AlreadyExists` when another instance has it.
        """
        known = self._live.get(host)
        if known is None:
            raise NotFound(f"host {host} has no feed from this controller", field="host")
        if known.instance != instance:
            raise AlreadyExists(f"another instance of host {host} is connected", field="instance")
        self._set(replace(known, applied=applied, problems=problems))

    async def run(self) -> None:
        """Write changes and keep the lease, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_changes(), name="presence-writes")
            tasks.create_task(self._keep_lease(), name="presence-lease")

    async def withdraw(self) -> None:
        """Withdraw every announcement at once; the last thing that a controller does."""
        if self._lease is not None:
            await self._store.revoke(self._lease)

    def _set(self, announced: HostPresence) -> None:
        if self._live.get(announced.host) != announced:
            self._live[announced.host] = announced
            self._mark({announced.host})

    def _mark(self, hosts: set[HostId]) -> None:
        self._unwritten |= hosts
        self._changed.set()

    async def _write_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            hosts, self._unwritten = self._unwritten, set()
            try:
                await self._write(sorted(hosts))
            except StoreUnavailable as error:
                if count := self._unwritable.count(self._clock.now()):
                    _log.warning("presence not written", error=str(error), count=count)
                self._mark(hosts)
                await self._clock.sleep(_RETRY_INTERVAL)
            except LeaseLost:
                self._begin_anew()
            await self._clock.sleep(_FLUSH_INTERVAL)

    async def _write(self, hosts: list[HostId]) -> None:
        if self._lease is None:
            self._lease = await self._store.grant(LEASE_TTL)
        for start in range(0, len(hosts), TRANSACTION_MAX):
            ops = tuple(self._op(host, self._lease) for host in hosts[start : start + TRANSACTION_MAX])
            await self._store.commit(Transaction((), ops))

    def _op(self, host: HostId, lease: LeaseId) -> PutKey | DeleteKey:
        announced = self._live.get(host)
        if announced is None:
            return DeleteKey(keys.presence(host, self._controller))
        return PutKey(announced.key, host_presence.encode(announced), lease)

    async def _keep_lease(self) -> None:
        while True:
            await self._clock.sleep(LEASE_TTL / 4)
            if self._lease is None:
                continue
            try:
                await self._store.keep_alive(self._lease)
            except StoreUnavailable as error:
                if count := self._not_kept.count(self._clock.now()):
                    _log.warning("presence lease not kept", error=str(error), count=count)
            except LeaseLost:
                self._begin_anew()

    def _begin_anew(self) -> None:
        self._lease = None
        self._mark(set(self._live))
