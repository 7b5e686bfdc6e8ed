"""The VTEP address of this host, which may change while the agent runs."""

import asyncio
import contextlib
from collections.abc import Sequence
from urllib.parse import urlsplit

import structlog

from overlayd.agent.controllers.client import ControllerClient
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.controllers.underlay import source_address
from overlayd.agent.runtime.signals import Changes
from overlayd.model.address import IpAddress
from overlayd.model.errors import Unavailable

_log = structlog.get_logger(__name__)


class OwnAddress:
    """A given address, or else the source address of the route to the first controller that has a route."""

    def __init__(self, given: IpAddress | None, controllers: Sequence[str]) -> None:
        self._given = given
        self._controllers = [urlsplit(url).hostname or "" for url in controllers]

    async def current(self) -> IpAddress:
        """Return the present address; raise `Unavailable` when no route has a usable source address."""
        if self._given is not None:
            return self._given
        reasons = []
        for controller in self._controllers:
            try:
                return await source_address(controller)
            except Unavailable as error:
                reasons.append(str(error))
        raise Unavailable("; ".join(reasons))

    async def follow(
        self, drift: Changes, interval: float, feed: ClusterFeed, clients: Sequence[ControllerClient]
    ) -> None:
        """Register again whenever the address has changed, until cancelled; `interval` is in seconds."""
        while True:
            seen = drift.count
            # Without a route the address stays: it may come back, and no controller could be reached with another one.
            with contextlib.suppress(Unavailable):
                address = await self.current()
                if feed.announced not in {None, address}:
                    _log.info("this host has another address", before=str(feed.announced), address=str(address))
                    feed.restart()
                    for client in clients:
                        client.renew()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await drift.wait(seen)
