"""Deleting the devices of detached endpoints: many at once, after the runtime has its answer."""

import asyncio

from overlayd.agent.runtime.backoff import Backoff
from overlayd.agent.runtime.logs import Complaint
from overlayd.agent.runtime.signals import Changes
from overlayd.dataplane.items import network_namespace
from overlayd.kernel.port import Kernel, KernelError
from overlayd.model.endpoint import Endpoint

LINGER = 0.05
"""Seconds to wait for more of them: each stroke takes the kernel some 20 ms, in which others wait for it."""


class Reaper:
    """Deletes the devices of endpoints that were taken out of use.

    It remembers which, because their names and addresses are free only then. A restarted agent has no such list: before
    it attaches anything it deletes every device that is out of use.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._waiting: list[Endpoint] = []
        self._retired = Changes()
        self._reaped = Changes()

    def retired(self, endpoint: Endpoint) -> None:
        """Have the devices of an endpoint deleted soon."""
        self._waiting.append(endpoint)
        self._retired.set()

    async def free(self, endpoint: Endpoint) -> None:
        """Return when nothing is left of endpoints that had this one's interface, or an address of it."""
        while any(_share_something(endpoint, other) for other in self._waiting):
            await self._reaped.wait(self._reaped.count)

    async def run(self) -> None:
        """Delete until cancelled."""
        backoff, seen = Backoff(), 0
        failure = Complaint("what detached containers left cannot be deleted yet")
        while True:
            await self._retired.wait(seen)
            await asyncio.sleep(LINGER)
            seen, count = self._retired.count, len(self._waiting)
            try:
                await asyncio.to_thread(self._kernel.reap, {network_namespace(each.network) for each in self._waiting})
            except KernelError as error:
                failure.because(str(error))
                await asyncio.sleep(backoff.failed())
                self._retired.set()
                continue
            backoff.succeeded()
            failure.over()
            del self._waiting[:count]
            self._reaped.set()


def _share_something(one: Endpoint, other: Endpoint) -> bool:
    if (one.container_id, one.interface) == (other.container_id, other.interface):
        return True
    return one.network == other.network and not set(one.addresses).isdisjoint(other.addresses)
