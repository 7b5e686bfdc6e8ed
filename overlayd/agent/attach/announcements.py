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
        self._again: asyncio.Queue[tuple[float, Endpoint]] = asyncio.Queue()

    async def announce(self, endpoint: Endpoint) -> None:
        """Announce an endpoint now, and once more later; raise `KernelError`. The caller holds the kernel lock."""
        await self._tell(endpoint)
        self._again.put_nowait((asyncio.get_running_loop().time() + self._interval, endpoint))

    async def run(self) -> None:
        """Repeat announcements, until cancelled."""
        while True:
            due, endpoint = await self._again.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            async with self._turn.taken():
                if self._is_current(endpoint):
                    try:
                        await self._tell(endpoint)
                    except KernelError as error:
                        _log.warning("an address is announced once only", problem=str(error), network=endpoint.network)

    async def _tell(self, endpoint: Endpoint) -> None:
        """Announce to the containers on this host, and to those behind the tunnel.

        A bridge forwards no announcement to a port with neighbour suppression (net/bridge/br_arp_nd_proxy.c), so the
        tunnel gets one of its own.
        """
        for ns, dev in (
            (NamespaceRef(endpoint.sandbox), endpoint.interface),
            (network_namespace(endpoint.network), ownership.VXLAN),
        ):
            await self._turn.call(self._turn.kernel.announce, ns, dev, endpoint.mac, endpoint.addresses)
