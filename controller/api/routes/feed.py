"""The route of the feed: one stream of JSON lines for each host, open as long as the host is."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query

from controller.api.bodies import response_bodies
from controller.api.bodies.request_bodies import Instance
from controller.api.http.dependencies import Services
from controller.api.http.line_response import LineResponse
from controller.streams.feed import Feed, Feeds
from controller.streams.feed_lines import FeedLines
from overlayd.model.ids import HostId, Revision
from overlayd.model.lineage import parse_lineage
from overlayd.wire.feed import FEED_VERSION

router = APIRouter(prefix="/v1", tags=["feed"])


@dataclass(frozen=True, slots=True)
class OpenFeed:
    """A host's feed in one of its versions, as lines."""

    feed: Feed
    encoder: FeedLines
    after: Revision | None
    version: int

    async def lines(self) -> AsyncIterator[bytes]:
        async for message in self.feed.messages(self.after):
            yield self.encoder.of(message, self.version)

    def end(self) -> None:
        self.feed.end()


@contextmanager
def opened_feed(feeds: Feeds, host: HostId, instance: str, after: Revision | None, version: int) -> Iterator[OpenFeed]:
    with feeds.open(host, instance) as feed:
        yield OpenFeed(feed, feeds.lines, after, version)


@router.get(
    "/feed",
    summary="Follow the intent as a host",
    response_model=None,
    responses={
        200: {"content": {"application/x-ndjson": {}}, "description": "JSON objects, one a line, without end."},
        **response_bodies.refusals(404, 409, 422, 503),
    },
)
async def feed(
    overlay: Services,
    host: Annotated[str, Query(description="The host's id.", examples=["h-7f3a"])],
    instance: Annotated[Instance, Query()],
    after: Annotated[int | None, Query(ge=0, description="The revision that the host knows.", examples=[42])] = None,
    lineage: Annotated[
        str | None, Query(description="The lineage of that revision, as the last `in-sync` named it.")
    ] = None,
    version: Annotated[int, Query(ge=1, description="The version of the feed that the host reads.", examples=[2])] = 1,
) -> LineResponse:
    """Stream what a host must know: all hosts, and the networks in which it owns a block.

    First comes a snapshot, or what changed after `after` if that is a revision of the lineage that the store has; then
    `in-sync`; then a `delta` as things change, and `bookmark` messages that say that nothing did. The host counts as
    connected while the stream is open.

    A host that reads an older version of the feed gets what that version can express.
    """
    known_lineage = None if lineage is None else parse_lineage(lineage)
    resumed = await overlay.feeds.admit(
        HostId(host), instance, None if after is None else Revision(after), known_lineage
    )
    known = overlay.hosts.welcome(HostId(host))
    return LineResponse(opened_feed(overlay.feeds, known.id, instance, resumed, min(version, FEED_VERSION)))
