"""The VTEP address of this host, which may change while the agent runs, and the addresses behind names."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

import structlog

from overlayd.agent.controllers.client import ControllerClient
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.runtime.signals import Changes
from overlayd.model.address import IpAddress
from overlayd.model.errors import OverlayError, Unavailable
from overlayd.model.host import check_vtep_address

_log = structlog.get_logger(__name__)

_DISCARD_PORT = 9
"""Connecting a UDP socket sends nothing; any port will do."""

_LOOKUP_MAX = 10.0
"""Seconds for the name of a destination: a resolver that is silent takes longer than anybody wants to wait."""


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


async def addresses_of(name: str) -> tuple[IpAddress, ...]:
    """Return the addresses of a controller by its name; raise `Unavailable` when it does not resolve."""
    try:
        async with asyncio.timeout(_LOOKUP_MAX):
            found = await asyncio.get_running_loop().getaddrinfo(name, _DISCARD_PORT, type=socket.SOCK_DGRAM)
    except (TimeoutError, OSError) as error:
        raise Unavailable(f"cannot resolve {name}: {error}") from error
    return tuple(ip_address(str(target[0]).partition("%")[0]) for *_, target in found)


async def source_address(destination: str) -> IpAddress:
    """Return the source address of the route to a destination; raise `Unavailable` when none is usable."""
    try:
        async with asyncio.timeout(_LOOKUP_MAX):
            (family, kind, _, _, target), *_ = await asyncio.get_running_loop().getaddrinfo(
                destination, _DISCARD_PORT, type=socket.SOCK_DGRAM
            )
        with socket.socket(family, kind | socket.SOCK_CLOEXEC) as probe:
            probe.connect(target)
            address = ip_address(probe.getsockname()[0])
        return check_vtep_address(address)
    except TimeoutError:
        raise Unavailable(f"no route to the controller {destination}: cannot resolve its name; set --vtep") from None
    except OSError as error:
        raise Unavailable(f"no route to the controller {destination}: {error}; set --vtep") from error
    except OverlayError as error:
        raise Unavailable(f"the route to the controller {destination} starts at {error}; set --vtep") from error
