"""The route of the feed: one stream of JSON lines for each host, open as long as the host is."""

import asyncio
from functools import lru_cache
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from controller.api import answers
from controller.api.bodies import Instance
from controller.api.services import Services
from controller.services.feed import Feed, Feeds
from overlayd.model.ids import HostId, Revision
from overlayd.wire import schema1
from overlayd.wire.feed import FEED_VERSION, FeedMessage, encode_line

_WRITE_MAX = 10.0
"""Seconds that a reader may take for one message before its feed ends."""

router = APIRouter(prefix="/v1", tags=["feed"])


class FeedResponse(Response):
    """Sends a host's feed until the host goes away, is too slow, or the feed ends."""

    media_type = "application/x-ndjson"

    def __init__(self, feeds: Feeds, host: HostId, instance: str, after: Revision | None, version: int) -> None:
        super().__init__(headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._feeds = feeds
        self._host = host
        self._instance = instance
        self._after = after
        self._version = version

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI has it
        with self._feeds.open(self._host, self._instance) as feed:
            async with asyncio.TaskGroup() as tasks:
                disconnect = tasks.create_task(_end_on_disconnect(receive, feed), name=f"feed-{self._host}-disconnect")
                await self._send(feed, send)
                disconnect.cancel()

    async def _send(self, feed: Feed, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for message in feed.messages(self._after):
                async with asyncio.timeout(_WRITE_MAX):
                    await send(
                        {"type": "http.response.body", "body": _encoded(message, self._version), "more_body": True}
                    )
        except TimeoutError:
            return  # an unfinished response: the server closes the connection
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@lru_cache(maxsize=16)
def _encoded(message: FeedMessage, version: int) -> bytes:
    """Return the line of a message; many hosts are told the same at the same time."""
    if version == schema1.VERSION:
        return encode_line(schema1.narrow(message), schema1.encode_tagged)
    return encode_line(message)


async def _end_on_disconnect(receive: Receive, feed: Feed) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    feed.end()


@router.get(
    "/feed",
    summary="Follow the intent as a host",
    response_model=None,
    responses={
        200: {"content": {"application/x-ndjson": {}}, "description": "JSON objects, one a line, without end."},
        **answers.refusals(404, 409, 422, 503),
    },
)
async def feed(
    overlay: Services,
    host: Annotated[str, Query(description="The host's id.", examples=["h-7f3a"])],
    instance: Annotated[Instance, Query()],
    after: Annotated[int | None, Query(ge=0, description="The revision that the host knows.", examples=[42])] = None,
    version: Annotated[int, Query(ge=1, description="The version of the feed that the host reads.", examples=[2])] = 1,
) -> FeedResponse:
    """Stream what a host must know: all hosts, and the networks in which it owns a block.

    First comes a snapshot, or what changed after `after`; then `in-sync`; then a `delta` as things change, and
    `bookmark` messages that say that nothing did. The host counts as connected while the stream is open.

    A host that reads an older version of the feed is told what that one has words for.
    """
    resumed = None if after is None else Revision(after)
    await overlay.feeds.admit(HostId(host), instance, resumed)
    known = overlay.hosts.get(HostId(host))
    return FeedResponse(overlay.feeds, known.id, instance, resumed, min(version, FEED_VERSION))
