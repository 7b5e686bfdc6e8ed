"""Reporting the applied revision and the problems of this host to the controllers."""

import asyncio

import structlog

from overlayd.agent.controllers.client import ControllerClient
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.runtime.backoff import Backoff
from overlayd.agent.runtime.signals import Changes
from overlayd.model.errors import OverlayError

_log = structlog.get_logger(__name__)

PACE = 0.1
"""Seconds from one report to the next, at least."""


async def report(client: ControllerClient, feed: ClusterFeed, reconciler: Reconciler) -> None:
    """Report every change of the reconciler's status, and the whole of it after every in-sync mark, until cancelled."""
    wake = Changes(reconciler.reports, feed.syncs, feed.claims.changes)
    backoff = Backoff()
    reported = None
    now = asyncio.get_running_loop().time
    while True:
        seen, due = wake.count, now() + PACE
        current = (feed.syncs.count, reconciler.status, feed.claims.problems)
        # A revision that was applied in another lineage, which had later ones, means nothing in this one.
        is_of_this = reconciler.status.applied <= feed.cluster.revision
        if current != reported and reconciler.status.is_pruned and is_of_this:
            try:
                await client.report(reconciler.status.applied, (*reconciler.status.problems, *feed.claims.problems))
                reported = current
                backoff.succeeded()
            except OverlayError as error:
                _log.debug("status not reported yet", reason=str(error))
                await asyncio.sleep(backoff.after(error))
                continue
        await wake.wait(seen)
        await asyncio.sleep(due - now())
