"""Reporting the applied revision and the problems of this host to the controllers."""

import asyncio
import contextlib
from dataclasses import dataclass

import structlog

from overlayd.agent.controllers.client import ControllerClient
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.controllers.problem import Problem
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.runtime.backoff import Backoff
from overlayd.agent.runtime.signals import Changes
from overlayd.model.errors import OverlayError
from overlayd.model.ids import Revision

_log = structlog.get_logger(__name__)

PACE = 0.1
"""Seconds from one report to the next, at least."""

BOOKMARKS_AT_ONCE, BOOKMARK_PACE = 10, 2.0
"""How many reports may have no other reason than bookmarks, and the seconds after which there may be one more.

So after a few changes, a command that waits for a revision sees it at once. In a cluster that changes all the time, a
host whose networks do not change reports once in `BOOKMARK_PACE` seconds.
"""


@dataclass(frozen=True, slots=True)
class _Content:
    """The content of a report, without its revision; a change of it makes a report due at once."""

    syncs: int
    changed: Revision
    problems: tuple[Problem, ...]


@dataclass(slots=True)
class Allowance:
    """Lets something happen `at_once` times at once, and once more each `pace` seconds."""

    at_once: int
    pace: float
    _spent_until: float = 0.0

    def next(self, now: float) -> float:
        """Return when it may happen next: `now`, or later."""
        return max(now, self._spent_until - (self.at_once - 1) * self.pace)

    def use(self, now: float) -> None:
        """Record that it happens."""
        self._spent_until = max(now, self._spent_until) + self.pace


async def report(client: ControllerClient, feed: ClusterFeed, reconciler: Reconciler) -> None:
    """Report every change of the reconciler's status, and the whole of it after every in-sync mark, until cancelled.

    A revision of a bookmark, which changed nothing here, may be reported some seconds later.
    """
    wake = Changes(reconciler.reports, feed.bookmarks, feed.syncs, feed.claims.changes)
    backoff, bookmarks = Backoff(), Allowance(BOOKMARKS_AT_ONCE, BOOKMARK_PACE)
    reported: tuple[_Content, Revision] | None = None
    now = asyncio.get_running_loop().time
    while True:
        seen, due, later = wake.count, now() + PACE, None
        status = reconciler.status
        content = _Content(feed.syncs.count, status.changed, (*status.problems, *feed.claims.problems))
        # A revision that was applied in another lineage, which had later ones, means nothing in this one.
        is_of_this = status.applied <= feed.cluster.revision
        if (content, status.applied) != reported and status.is_pruned and is_of_this:
            if reported and content == reported[0] and (later := bookmarks.next(now())) <= now():
                bookmarks.use(now())
                later = None
            if later is None:
                try:
                    await client.report(status.applied, content.problems)
                    reported = (content, status.applied)
                    backoff.succeeded()
                except OverlayError as error:
                    _log.debug("status not reported yet", reason=str(error))
                    await asyncio.sleep(backoff.after(error))
                    continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(later):
                await wake.wait(seen)
        await asyncio.sleep(due - now())
