"""The store in an etcd cluster (v3.4 or newer), shared by any number of controllers."""

import asyncio
import math
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import grpc

from controller.clock import Clock
from controller.store.etcd import codec
from controller.store.etcd import rpc_pb2 as rpc
from controller.store.etcd.cluster import EtcdCluster
from controller.store.etcd.connection import (
    ATTEMPT_MAX,
    CALL_MAX,
    COMPACT,
    LEASE_GRANT,
    LEASE_KEEP_ALIVE,
    LEASE_REVOKE,
    RANGE,
    TXN,
    CallFailed,
    Connection,
    EtcdRefusal,
)
from controller.store.etcd.slots import PREFIX as SLOTS
from controller.store.etcd.slots import Claim, Slots
from controller.store.etcd.watching import EtcdWatch
from controller.store.port import (
    PAGE_MAX,
    Abandoned,
    Committed,
    Conflict,
    Count,
    KeyValue,
    LeaseId,
    LeaseLost,
    Page,
    PutKey,
    RevisionCompacted,
    RevisionEvents,
    StoreUnavailable,
    Transaction,
    always,
)
from overlayd.model.ids import Revision

_CLEANING_INTERVAL = 3600.0
"""Seconds between looks for slots that dead controllers left."""

_NOTHING = f"{SLOTS}nothing".encode()
"""A key that is never written."""

_SLOT_LIFE = 100_000
"""Revisions after which a slot that was not written counts as left. Its user would notice, and take another one."""


class EtcdStore:
    """A `Store` in etcd. Made inside the event loop that uses it."""

    def __init__(self, cluster: EtcdCluster, clock: Clock) -> None:
        self._clock = clock
        self._connection = Connection(cluster, clock)
        self._slots = Slots()

    @property
    def cluster(self) -> str:
        return self._connection.timeline.cluster

    async def run(self) -> None:
        """Clean up regularly behind controllers that died, until cancelled; raises `Replaced`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._clean_up(), name="store-slots")
            tasks.create_task(self._connection.timeline.end(), name="store-timeline")

    async def _clean_up(self) -> None:
        while True:
            await self._clock.sleep(_CLEANING_INTERVAL)
            try:
                await self._clean()
            except StoreUnavailable:
                continue  # there is always another time

    async def close(self) -> None:
        with suppress(StoreUnavailable, TimeoutError):  # another controller finds what is left
            async with asyncio.timeout(ATTEMPT_MAX):
                await self._delete_slots(self._slots.prefix, None)
        await self._connection.close()

    async def current_revision(self) -> Revision:
        answer = await self._repeat_range(rpc.RangeRequest(key=b"\0"))
        return Revision(answer.header.revision)

    async def get(self, key: str, revision: Revision | None = None) -> KeyValue | None:
        answer = await self._repeat_range(rpc.RangeRequest(key=key.encode(), revision=revision or 0))
        return next((codec.key_value(found) for found in answer.kvs), None)

    async def page(
        self,
        prefix: str,
        *,
        limit: int = PAGE_MAX,
        after_key: str | None = None,
        revision: Revision | None = None,
    ) -> Page:
        request = rpc.RangeRequest(
            key=codec.first_below(after_key or prefix),
            range_end=codec.end_of(prefix),
            limit=limit,
            revision=revision or 0,
        )
        answer = await self._repeat_range(request)
        at = revision or Revision(answer.header.revision)
        return Page(tuple(codec.key_value(found) for found in answer.kvs), at, answer.more)

    async def count(self, prefix: str) -> Count:
        request = rpc.RangeRequest(key=codec.first_below(prefix), range_end=codec.end_of(prefix), count_only=True)
        answer = await self._repeat_range(request)
        return Count(answer.count, Revision(answer.header.revision))

    async def commit(self, transaction: Transaction, go_on: Callable[[], bool] = always) -> Committed | Conflict:
        compares = [codec.compare(wanted) for wanted in transaction.compares]
        ops = [codec.operation(op) for op in transaction.ops]
        deadline = self._clock.now() + CALL_MAX
        while True:
            with self._slots.claimed() as claim:
                request = rpc.TxnRequest(
                    compare=[*compares, claim.compare()], success=[*ops, claim.put()], failure=[claim.read()]
                )
                outcome = await self._committed(transaction, request, claim)
            if outcome is not None:
                return outcome
            if self._clock.now() >= deadline:
                raise StoreUnavailable("etcd answers no transaction in time")
            if not go_on():
                raise Abandoned("the client has disconnected")

    async def _committed(
        self, transaction: Transaction, request: rpc.TxnRequest, claim: Claim
    ) -> Committed | Conflict | None:
        """Return the result of a transaction; None when it did not happen and never will, so it may be sent again."""
        endpoint = self._connection.endpoint
        try:
            answer = await self._connection.once(endpoint, TXN, request)
        except CallFailed:
            self._connection.leave(endpoint)
            try:
                happened = claim.happened(await self._connection.repeat(TXN, claim.question()))
            except EtcdRefusal as refused:
                raise _unavailable(refused) from None
            return None if happened is None else Committed(happened)
        except EtcdRefusal as refused:
            leases = [op.lease for op in transaction.ops if isinstance(op, PutKey) and op.lease is not None]
            if refused.code is grpc.StatusCode.NOT_FOUND and leases:
                raise LeaseLost(leases[0]) from None
            raise _unavailable(refused) from None
        revision = Revision(answer.header.revision)
        if answer.succeeded:
            claim.slot.revision = revision
            return Committed(revision)
        if claim.is_lost(answer):
            claim.slot.revision = Revision(0)
            return None
        return Conflict(revision)

    async def check_writable(self) -> None:
        # etcd weighs what a transaction may write before it looks at the comparisons (quotaKVServer.Txn), so that this
        # one, of which nothing ever happens, is refused where others would be.
        never = rpc.Compare(target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, key=_NOTHING, mod_revision=-1)
        put = rpc.RequestOp(request_put=rpc.PutRequest(key=_NOTHING, value=b"x"))
        try:
            await self._connection.repeat(TXN, rpc.TxnRequest(compare=[never], success=[put]))
        except EtcdRefusal as refused:
            raise _unavailable(refused) from None

    async def grant(self, ttl: float) -> LeaseId:
        lease = LeaseId(secrets.randbits(62) + 1)  # ours, so that a grant whose answer was lost can be repeated
        try:
            await self._connection.repeat(LEASE_GRANT, rpc.LeaseGrantRequest(TTL=math.ceil(ttl), ID=lease))
        except EtcdRefusal as refused:
            if refused.code is not grpc.StatusCode.FAILED_PRECONDITION:  # granted already
                raise _unavailable(refused) from None
        return lease

    async def keep_alive(self, lease: LeaseId) -> None:
        deadline = self._clock.now() + CALL_MAX
        while True:
            endpoint = self._connection.endpoint
            try:
                await self._keep_alive(lease)
            except CallFailed as failed:
                self._connection.leave(endpoint)
                if self._clock.now() >= deadline:
                    raise StoreUnavailable(f"etcd does not keep a lease: {failed}") from None
                await self._clock.sleep(0.1)
            except EtcdRefusal as refused:
                self._connection.forget_token()  # it may be that alone
                raise _unavailable(refused) from None
            else:
                return

    async def revoke(self, lease: LeaseId) -> None:
        try:
            await self._connection.repeat(LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=lease))
        except EtcdRefusal as refused:
            if refused.code is not grpc.StatusCode.NOT_FOUND:  # gone already
                raise _unavailable(refused) from None

    async def watch(self, prefix: str, after_revision: Revision) -> AsyncIterator[RevisionEvents]:
        async for changes in EtcdWatch(self._connection, self._clock, prefix, after_revision).changes():
            yield changes

    async def compact(self, revision: Revision) -> None:
        if revision <= 0:
            return
        try:
            await self._connection.repeat(COMPACT, rpc.CompactionRequest(revision=revision))
        except EtcdRefusal as refused:
            if refused.code is not grpc.StatusCode.OUT_OF_RANGE:  # compacted already
                raise _unavailable(refused) from None

    async def _repeat_range(self, request: rpc.RangeRequest) -> rpc.RangeResponse:
        try:
            return await self._connection.repeat(RANGE, request)
        except EtcdRefusal as refused:
            if refused.code is grpc.StatusCode.OUT_OF_RANGE:
                raise RevisionCompacted from None
            raise _unavailable(refused) from None

    async def _keep_alive(self, lease: LeaseId) -> None:
        endpoint = self._connection.endpoint
        stream = endpoint.stream(LEASE_KEEP_ALIVE, await self._connection.metadata(endpoint), ATTEMPT_MAX)
        try:
            await stream.write(rpc.LeaseKeepAliveRequest(ID=lease))
            answer = await stream.read()
        finally:
            stream.cancel()
        if answer.TTL <= 0:
            raise LeaseLost(lease)

    async def _clean(self) -> None:
        await self._delete_slots(SLOTS, Revision(await self.current_revision() - _SLOT_LIFE))

    async def _delete_slots(self, prefix: str, until: Revision | None) -> None:
        """Delete slots below a prefix, those last written before a revision only if one is given."""
        page = await self.page(prefix)
        for found in page.items:
            if until is None or found.mod_revision < until:
                unchanged = rpc.Compare(
                    target=rpc.Compare.MOD,
                    result=rpc.Compare.EQUAL,
                    key=found.key.encode(),
                    mod_revision=found.mod_revision,
                )
                delete = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=found.key.encode()))
                try:
                    await self._connection.repeat(TXN, rpc.TxnRequest(compare=[unchanged], success=[delete]))
                except EtcdRefusal as refused:
                    raise _unavailable(refused) from None


def _unavailable(refused: EtcdRefusal) -> StoreUnavailable:
    return StoreUnavailable(f"etcd refuses: {refused}")
