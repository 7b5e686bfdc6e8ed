"""A watch that outlives the endpoints it runs on.

It keeps no more than the last revision that it yielded, and begins again after it: etcd sends each revision whole, so
none is lost and none comes twice.
"""

import asyncio
from collections.abc import AsyncIterator

from controller.clock import Clock
from controller.store.etcd import codec
from controller.store.etcd import rpc_pb2 as rpc
from controller.store.etcd.connection import WATCH, CallFailed, Connection, EtcdEndpoint, EtcdRefusal, Stream
from controller.store.port import RevisionCompacted, RevisionEvents, StoreUnavailable
from overlayd.model.ids import Revision

_SILENCE = 2.0
"""Seconds without a word after which the endpoint is asked for one, and seconds that it then has."""

_PAUSE = 0.1
"""Seconds between rounds over all endpoints."""

_ROUNDS = 20
"""How many rounds fail in a row before the watch is given up."""

_REQUIRE_LEADER = ("hasleader", "true")
"""An endpoint that the rest of the cluster has left ends the stream (etcd's client metadata)."""


class EtcdWatch:
    """A watch of one prefix."""

    def __init__(self, connection: Connection, clock: Clock, prefix: str, after: Revision) -> None:
        self._connection = connection
        self._clock = clock
        self._prefix = prefix
        self._position = after

    async def changes(self) -> AsyncIterator[RevisionEvents]:
        """Yield every change.

        Raises `RevisionCompacted`, `StoreUnavailable` when no endpoint has answered for seconds, or `Replaced` when the
        cluster is another one than it was.
        """
        failed = 0
        while True:
            endpoint = self._connection.endpoint
            reason = ""
            try:
                async for response in self._responses(endpoint):
                    failed = 0
                    for change in codec.changes(response.events):
                        yield change
                        self._position = change.revision
            except (CallFailed, EtcdRefusal) as error:
                reason = str(error)
            self._connection.leave(endpoint)
            failed += 1
            if failed >= _ROUNDS * self._connection.size:
                raise StoreUnavailable(f"no etcd endpoint lets itself be watched: {endpoint.target}: {reason}")
            if failed % self._connection.size == 0:
                await self._clock.sleep(_PAUSE)

    async def _responses(self, endpoint: EtcdEndpoint) -> AsyncIterator[rpc.WatchResponse]:
        """Yield the responses of one endpoint, and raise `CallFailed` when it falls silent.

        Raises `CallFailed`, `EtcdRefusal` or `RevisionCompacted`.
        """
        stream = endpoint.stream(WATCH, (*await self._connection.metadata(endpoint), _REQUIRE_LEADER))
        reading: asyncio.Task[rpc.WatchResponse] | None = None
        try:
            await stream.write(self._creation())
            while True:
                self._connection.timeline.check()
                # Cancelling a read would cancel the stream: it goes on while the endpoint is asked whether it lives.
                reading = asyncio.ensure_future(stream.read())
                if not await _speaks(stream, reading):
                    raise CallFailed(f"{endpoint.target} is silent")
                response = reading.result()
                self._connection.timeline.take(endpoint.target, response, 0)
                self._check(endpoint, response)
                yield response
        finally:
            stream.cancel()
            if reading is not None:
                reading.cancel()
                await asyncio.wait([reading])

    def _creation(self) -> rpc.WatchRequest:
        return rpc.WatchRequest(
            create_request=rpc.WatchCreateRequest(
                key=codec.first_below(self._prefix),
                range_end=codec.end_of(self._prefix),
                start_revision=self._position + 1,
                prev_kv=True,
            )
        )

    def _check(self, endpoint: EtcdEndpoint, response: rpc.WatchResponse) -> None:
        if response.compact_revision:
            raise RevisionCompacted
        if response.canceled:
            self._connection.forget_token()  # a token that ran out shows here, and as words only
            raise CallFailed(f"{endpoint.target}: the watch was cancelled: {response.cancel_reason}")


async def _speaks(stream: Stream[rpc.WatchResponse], reading: asyncio.Task[rpc.WatchResponse]) -> bool:
    """Return whether an endpoint says anything, by itself or when it is asked."""
    if await _done(reading):
        return True
    await stream.write(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))
    return await _done(reading)


async def _done(reading: "asyncio.Task[rpc.WatchResponse]") -> bool:
    done, _ = await asyncio.wait([reading], timeout=_SILENCE)
    return bool(done)
