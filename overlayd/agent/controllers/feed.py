"""Following the feed: what this host knows of the cluster."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import structlog

from overlayd.agent.controllers.claims import Claims
from overlayd.agent.controllers.client import ControllerClient, Registered
from overlayd.agent.runtime.backoff import Backoff
from overlayd.agent.runtime.signals import Changes
from overlayd.model.address import IpAddress
from overlayd.model.cluster import Cluster
from overlayd.model.errors import Forbidden, OverlayError, Unauthenticated
from overlayd.model.ids import Revision
from overlayd.wire.feed import FEED_VERSION, Bookmark, Delta, FeedMessage, InSync, Snapshot

_log = structlog.get_logger(__name__)


class ClusterFeed:
    """The cluster according to the feed, kept while no controller can be reached.

    `version` is the version of the feed that brought it. `in_sync` is false until a controller has sent the mark in
    this run: until then the cluster is the cached one, by which items are added but none deleted. `syncs` counts the
    in-sync marks, `bookmarks` those that brought a later revision of the same records, and `changes` everything else
    that other parts may need to know. `revisions` counts both.
    """

    def __init__(self, client: ControllerClient, cached: Cluster, claims: Claims) -> None:
        self.cluster = cached
        self.claims = claims
        self.version = FEED_VERSION
        self.in_sync = False
        self.problem: OverlayError | None = None
        self.changes = Changes()
        self.bookmarks = Changes()
        self.revisions = Changes(self.changes, self.bookmarks)
        self.syncs = Changes()
        self.announced: IpAddress | None = None
        """This host's address as it was last registered."""
        self._client = client
        self._following: asyncio.Timeout | None = None
        self._staged: Cluster | None = None

    @property
    def controller(self) -> str:
        """The URL of the controller that sends the feed, or was asked for it."""
        return self._client.followed

    @property
    def _resumable(self) -> Revision | None:
        """The revision after which a controller can resume, None when it must send a snapshot."""
        return (self.cluster.revision or None) if self.version == FEED_VERSION else None

    async def run(self, name: str, address: Callable[[], Awaitable[IpAddress]]) -> None:
        """Register this host and follow the feed, from one controller or another, until cancelled."""
        backoff = Backoff()
        while True:
            try:
                current = await address()
                registered = await self._client.register(name, current, self.cluster)
                self.announced = current
                await self.claims.compare(registered, self.cluster)
                if await self._follow(backoff, registered):
                    continue
                delay = backoff.failed()
            except OverlayError as error:
                self._failed(error)
                delay = backoff.after(error)
            finally:
                self._staged = None
            self._client.leave_followed()
            await asyncio.sleep(delay)

    def restart(self) -> None:
        """Register this host again, and follow a new feed."""
        if self._following:
            self._following.reschedule(asyncio.get_running_loop().time())

    async def _follow(self, backoff: Backoff, registered: Registered) -> bool:
        """Follow one feed to its end; return whether to begin another one at once.

        That is so when another controller is known to be better, or this host has another address.

        A controller that cannot follow its store is kept while no other one can: its feed is as good as any. The others
        are asked from time to time.
        """
        now = asyncio.get_running_loop().time
        probing, ask_at = Backoff(shortest=5.0, longest=30.0), now()
        lineage = self.cluster.lineage if registered.lineage else None
        try:
            async with (
                asyncio.timeout(None) as self._following,
                aclosing(self._client.feed(self._resumable, lineage)) as messages,
            ):
                async for message in messages:
                    self._take(message)
                    if isinstance(message, InSync):
                        self._recovered()
                        backoff.succeeded()
                    elif isinstance(message, Bookmark) and message.stale and now() >= ask_at:
                        if await self._client.find_ready():
                            return True
                        ask_at = now() + probing.failed()
        except TimeoutError:
            return True
        finally:
            self._following = None
        return False

    def _take(self, message: FeedMessage) -> None:
        match message:
            case Snapshot(revision=revision, puts=puts):
                self._staged = (self._staged or Cluster()).changed(revision, puts)
            case Delta(revision=revision, puts=puts, deletes=deletes):
                self.cluster = self.cluster.changed(revision, puts, deletes)
                self.changes.set()
            case InSync(revision=revision, version=version, lineage=lineage):
                self.version = version
                before, cluster = self.cluster, (self._staged or self.cluster).changed(revision)
                # A controller that is older than lineages knows of none, and not that it has changed.
                self.cluster = replace(cluster, lineage=lineage or before.lineage)
                if before.lineage not in (None, self.cluster.lineage):
                    self.claims.note(before, self.cluster)
                self._staged = None
                self.in_sync = True
                self.syncs.set()
                self.changes.set()
            case Bookmark(revision=revision):
                if revision != self.cluster.revision:
                    self.cluster = replace(self.cluster, revision=revision)
                    self.bookmarks.set()

    def _failed(self, error: OverlayError) -> None:
        if isinstance(error, Unauthenticated | Forbidden):
            if type(self.problem) is not type(error):
                _log.error(
                    "the controllers refuse this host's credential; going on with what is known. Let it join again",
                    problem=str(error),
                    controller=self.controller,
                )
                self.changes.set()
        elif self.problem is None:
            _log.warning(
                "cannot follow a controller; going on with what is known",
                problem=str(error),
                controller=self.controller,
            )
            self.changes.set()
        self.problem = error

    def _recovered(self) -> None:
        if self.problem is not None:
            _log.info("in sync with a controller again", controller=self.controller, revision=self.cluster.revision)
        self.problem = None
