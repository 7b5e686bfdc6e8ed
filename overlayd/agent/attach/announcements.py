"""Announcing to a segment that addresses now have another MAC or are on another host (gratuitous ARP, RFC 5227)."""

import asyncio
from collections.abc import Callable

import structlog

from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.dataplane import ownership
from overlayd.dataplane.items import NamespaceRef, network_namespace
from overlayd.kernel.port import KernelError
from overlayd.model.endpoint import Endpoint

_log = structlog.get_logger(__name__)

INTERVAL = 2.0
"""Seconds between the two announcements of an address (RFC 5227 section 1.1: ANNOUNCE_INTERVAL, ANNOUNCE_NUM)."""


class Announcements:
    """Announces the addresses of endpoints, each twice, as the first announcement may get lost.

    `is_current` returns whether an endpoint still exists and has all its addresses.
    """

    def __init__(self, turn: KernelTurn, is_current: Callable[[Endpoint], bool], interval: float = INTERVAL) -> None:
        self._turn = turn
        self._is_current = is_current
        self._interval = interval
        self._again: asyncio.Queue[tuple[float, Endpoint, bool]] = asyncio.Queue()

    async def announce(self, endpoint: Endpoint, *, is_handed_over: bool = False) -> None:
        """Announce an endpoint now, and once more later; raise `KernelError`. The caller holds the kernel lock.

        With `is_handed_over` only behind the tunnel: the runtime has another name for the interface in the sandbox.
        """
        await self._tell(endpoint, is_handed_over=is_handed_over)
        self._again.put_nowait((asyncio.get_running_loop().time() + self._interval, endpoint, is_handed_over))

    async def run(self) -> None:
        """Repeat announcements, until cancelled."""
        while True:
            due, endpoint, is_handed_over = await self._again.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            async with self._turn.taken():
                if self._is_current(endpoint):
                    try:
                        await self._tell(endpoint, is_handed_over=is_handed_over)
                    except KernelError as error:
                        _log.warning("an address is announced once only", problem=str(error), network=endpoint.network)

    async def _tell(self, endpoint: Endpoint, *, is_handed_over: bool) -> None:
        """Announce to the containers on this host, and to those behind the tunnel.

        A bridge forwards no announcement to a port with neighbour suppression (net/bridge/br_arp_nd_proxy.c), so the
        tunnel gets one of its own.
        """
        places = [(network_namespace(endpoint.network), ownership.VXLAN)]
        if not is_handed_over:
            places.insert(0, (NamespaceRef(endpoint.sandbox), endpoint.interface))
        for ns, dev in places:
            await self._turn.call(self._turn.kernel.announce, ns, dev, endpoint.mac, endpoint.addresses)
