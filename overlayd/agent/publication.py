"""Telling the controllers about this host: its endpoints, and how far its kernel is."""

import asyncio
from dataclasses import replace

import structlog

from overlayd.agent.backoff import Backoff
from overlayd.agent.changes import Changes
from overlayd.agent.checkpoint import AttachmentRecords
from overlayd.agent.client import ControllerClient
from overlayd.agent.feed import ClusterFeed
from overlayd.agent.holdings import Holdings
from overlayd.agent.reconcile import Reconciler
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.errors import OverlayError, Unavailable

_log = structlog.get_logger(__name__)

LINGER, PACE = 0.02, 0.1
"""Seconds from a change to the request that tells of it, and from one request to the next at least.

What is attached at the same time goes together, and takes no time from those whose runtime still waits for the answer.
"""

BATCH = 500
"""Endpoints in one request; the controller refuses bodies above 1 MiB."""


class Publication:
    """Publishes the endpoints of this host behind the answers to the runtime, in batches.

    After every in-sync mark the whole set is published: the controllers may have changed, or lost something.
    """

    def __init__(self, client: ControllerClient, feed: ClusterFeed, records: AttachmentRecords) -> None:
        self._client = client
        self._feed = feed
        self._records = records
        self._published: dict[EndpointKey, Endpoint] = {}
        self._syncs = 0
        self._told = Changes()
        self._known = Cluster()
        self._holdings = Holdings(self._known, client.host)
        self._kept: dict[EndpointKey, tuple[Endpoint, Endpoint | None]] = {}
        self.problem: OverlayError | None = None
        """Why the controllers do not know all endpoints of this host, while that is so."""

    async def run(self, attachments: Changes) -> None:
        """Publish for ever."""
        wake = Changes(attachments, self._feed.changes, self._feed.syncs)
        backoff = Backoff()
        now = asyncio.get_running_loop().time
        while True:
            seen, due = wake.count, now() + PACE
            try:
                await self._publish()
                self._told.set()
                self.problem = None
                backoff.succeeded()
            except OverlayError as error:
                if self.problem is None and not isinstance(error, Unavailable):
                    _log.warning("the controller refuses this host's endpoints", reason=str(error))
                self.problem = error
                await asyncio.sleep(backoff.after(error))
                continue
            await wake.wait(seen)
            await asyncio.sleep(max(due - now(), LINGER))

    async def settled(self, key: EndpointKey) -> None:
        """Return when the controllers know of no endpoint with this key that this host no longer has."""
        gone = key not in self._records.attachments
        while self._syncs != self._feed.syncs.count or (gone and key in self._published):
            await self._told.wait(self._told.count)

    def _endpoints(self) -> dict[EndpointKey, Endpoint]:
        """Return what this host has, without the addresses that are another one's by now: they would be refused."""
        cluster = self._feed.cluster
        if not self._known.has_records_of(cluster):
            self._known, self._holdings, self._kept = cluster, Holdings(cluster, self._client.host), {}
        before, self._kept = self._kept, {}
        for key, attachment in self._records.attachments.items():
            known = before.get(key)
            endpoint = attachment.endpoint
            self._kept[key] = (
                known if known and known[0] is endpoint else (endpoint, self._with_kept_addresses(endpoint))
            )
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
            await self._client.replace_endpoints(endpoints.values())
            self._syncs = syncs
            self._published = endpoints
            return
        known = self._published
        changed = [each for key, each in endpoints.items() if known.get(key) is not each and known.get(key) != each]
        gone = [key for key in self._published if key not in endpoints]
        for start in range(0, max(len(changed), len(gone)), BATCH):
            puts, deletes = changed[start : start + BATCH], gone[start : start + BATCH]
            await self._client.publish(puts, deletes)
            self._published.update((endpoint.key, endpoint) for endpoint in puts)
            for key in deletes:
                del self._published[key]


async def report(client: ControllerClient, feed: ClusterFeed, reconciler: Reconciler) -> None:
    """Report every change of the reconciler's status, and the whole of it after every in-sync mark, for ever."""
    wake = Changes(reconciler.reports, feed.syncs)
    backoff = Backoff()
    reported = None
    now = asyncio.get_running_loop().time
    while True:
        seen, due = wake.count, now() + PACE
        current = (feed.syncs.count, reconciler.status)
        if current != reported and reconciler.status.is_pruned:
            try:
                await client.report(reconciler.status.applied, reconciler.status.problems)
                reported = current
                backoff.succeeded()
            except OverlayError as error:
                _log.debug("status not reported yet", reason=str(error))
                await asyncio.sleep(backoff.after(error))
                continue
        await wake.wait(seen)
        await asyncio.sleep(due - now())
