"""Publishing the endpoints of this host to the controllers."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace

import structlog

from overlayd.agent.controllers.assignments import Holdings
from overlayd.agent.controllers.client import PART_MAX, ControllerClient, in_parts
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.controllers.problem import Problem
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.runtime.backoff import Backoff
from overlayd.agent.runtime.signals import Changes
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.errors import OverlayError, Unavailable
from overlayd.model.ids import NetworkName

_log = structlog.get_logger(__name__)

LINGER, PACE = 0.02, 0.1
"""Seconds from a change to the request that tells of it, and from one request to the next at least.

What is attached at the same time goes together, and takes no time from those whose runtime still waits for the answer.
"""

_ASK_AGAIN, _ASK_AGAIN_LONGEST = 1.0, 10.0
"""Seconds until an endpoint that was refused is published again: what stood in its way may be gone."""

Notice = Callable[[tuple[Problem, ...]], None]
"""Takes what is wrong with the publication, to be reported."""


class Publication:
    """Publishes the endpoints of this host in batches, after the runtime has its answer.

    After every in-sync mark the whole set is published: the controllers may have changed, or lost something. An
    endpoint that the controllers refuse is reported as a problem and published again from time to time.
    """

    def __init__(self, client: ControllerClient, feed: ClusterFeed, records: AttachmentRecords, notice: Notice) -> None:
        self._client = client
        self._feed = feed
        self._records = records
        self._notice = notice
        self._published: dict[EndpointKey, Endpoint] = {}
        self._refused: dict[EndpointKey, tuple[Endpoint, OverlayError]] = {}
        self._again = Backoff(_ASK_AGAIN, _ASK_AGAIN_LONGEST)
        self._again_at: float | None = None
        self._syncs = 0
        self._told = Changes()
        self._known = Cluster()
        self._holdings = Holdings(self._known, client.host)
        self._kept: dict[EndpointKey, tuple[Endpoint, Endpoint | None]] = {}
        self.problem: OverlayError | None = None
        """Why the endpoints of this host cannot be published now, while that is so."""

    async def run(self, attachments: Changes) -> None:
        """Publish until cancelled."""
        wake = Changes(attachments, self._feed.changes, self._feed.syncs)
        backoff = Backoff()
        now = asyncio.get_running_loop().time
        while True:
            seen, due = wake.count, now() + PACE
            try:
                await self._publish()
                self._told.set()
                self.problem = None
                self._notice(self._problems())
                backoff.succeeded()
            except OverlayError as error:
                self.problem = error if isinstance(error, Unavailable) else None
                self._notice((*self._problems(), *_whole(error)))
                await asyncio.sleep(backoff.after(error))
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._again_at):
                    await wake.wait(seen)
            await asyncio.sleep(max(due - now(), LINGER))

    async def settled(self, key: EndpointKey) -> None:
        """Return when the whole set is published after the last in-sync mark, and the endpoint of `key` deleted.

        An endpoint that this host still has is not waited for.
        """
        gone = key not in self._records.attachments
        while self._syncs != self._feed.syncs.count or (gone and key in self._published):
            await self._told.wait(self._told.count)

    def _problems(self) -> tuple[Problem, ...]:
        """Return a problem for each endpoint that the controllers refuse."""
        return tuple(
            Problem(
                f"endpoint {endpoint.network}/{endpoint.container_id}/{endpoint.interface}",
                f"the controllers refuse it: {error.detail}",
                endpoint.network,
            )
            for endpoint, error in self._refused.values()
        )

    def _endpoints(self) -> dict[EndpointKey, Endpoint]:
        """Return this host's endpoints without addresses that now belong to another endpoint: they would be refused."""
        known, self._known = self._known, self._feed.cluster
        if known is not self._known:
            self._holdings = Holdings(self._known, self._client.host)
        before, self._kept = self._kept, {}
        unchanged: dict[NetworkName, bool] = {}
        for key, attachment in self._records.attachments.items():
            kept, endpoint = before.get(key), attachment.endpoint
            name = endpoint.network
            if name not in unchanged:
                unchanged[name] = _holds_the_same(known, self._known, name)
            is_known = kept is not None and kept[0] is endpoint and unchanged[name]
            self._kept[key] = kept if kept and is_known else (endpoint, self._with_kept_addresses(endpoint))
        return {key: kept for key, (_, kept) in self._kept.items() if kept}

    def _with_kept_addresses(self, endpoint: Endpoint) -> Endpoint | None:
        addresses = self._holdings.kept(endpoint)
        if addresses == endpoint.addresses:
            return endpoint
        return replace(endpoint, addresses=addresses) if addresses else None

    async def _publish(self) -> None:
        if self._feed.syncs.count == 0:
            return
        endpoints = self._endpoints()
        if self._syncs != (syncs := self._feed.syncs.count):
            refused = await self._client.replace_endpoints(endpoints.values())
            self._syncs = syncs
            self._published, self._refused = {}, {}
            self._take(endpoints.values(), refused)
        else:
            await self._publish_changes(endpoints)
        self._plan_next()

    async def _publish_changes(self, endpoints: dict[EndpointKey, Endpoint]) -> None:
        """Publish what has changed: removals first, as they free addresses and MACs for what comes."""
        self._refused = {key: known for key, known in self._refused.items() if key in endpoints}
        gone = [key for key in self._published if key not in endpoints]
        for start in range(0, len(gone), PART_MAX):
            deletes = gone[start : start + PART_MAX]
            await self._client.publish((), deletes)
            for key in deletes:
                del self._published[key]
        changed = [each for key, each in endpoints.items() if self._is_due(key, each)]
        for puts in in_parts(changed):
            self._take(puts, await self._client.publish(puts, ()))

    def _is_due(self, key: EndpointKey, endpoint: Endpoint) -> bool:
        """Return whether an endpoint must be published: the controllers do not know it in this form."""
        published = self._published.get(key)
        if published is endpoint or published == endpoint:
            return False
        refused = self._refused.get(key)
        is_late = self._again_at is not None and self._again_at <= asyncio.get_running_loop().time()
        return refused is None or refused[0] != endpoint or is_late

    def _take(self, puts: Iterable[Endpoint], refused: dict[EndpointKey, OverlayError]) -> None:
        """Record which of the endpoints the controllers accepted and which they refused."""
        for endpoint in puts:
            if error := refused.get(endpoint.key):
                self._published.pop(endpoint.key, None)
                self._refused[endpoint.key] = (endpoint, error)
            else:
                self._refused.pop(endpoint.key, None)
                self._published[endpoint.key] = endpoint

    def _plan_next(self) -> None:
        """Set the time at which refused endpoints are published again."""
        now = asyncio.get_running_loop().time()
        if not self._refused:
            self._again.succeeded()
            self._again_at = None
        elif self._again_at is None or self._again_at <= now:
            self._again_at = now + self._again.failed()


def _holds_the_same(one: Cluster, other: Cluster, network: NetworkName) -> bool:
    """Return whether both clusters have the same objects in a network; the comparison is cheap."""
    return (
        one.networks.get(network) is other.networks.get(network)
        and one.blocks.of(network) is other.blocks.of(network)
        and one.reservations.of(network) is other.reservations.of(network)
    )


def _whole(error: OverlayError) -> tuple[Problem, ...]:
    """Return the problem to report when the controllers refuse the whole publication of this host."""
    if isinstance(error, Unavailable):
        return ()
    return (Problem("endpoints of this host", f"the controllers refuse them: {error}"),)
