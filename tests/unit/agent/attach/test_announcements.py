"""An address that came is announced, and once more while its endpoint has it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from overlayd.agent.attach.announcements import Announcements
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.diff import diff
from overlayd.kernel.port import KernelError
from overlayd.model.endpoint import Endpoint
from overlayd.model.network import Topology
from tests.support.agents.loopback import running
from tests.support.controllers import clusters
from tests.support.kernel.fake_kernel import FakeKernel

pytestmark = pytest.mark.anyio

WEB = clusters.endpoint(1, "web", "10.32.0.2,fd00:32::2")
OTHER = clusters.endpoint(1, "db", "10.32.0.3")
ONCE = [(dev, WEB.mac, address) for dev in ("eth0", "vx0") for address in WEB.addresses]


class Segment:
    """A host with two endpoints on a segment; `current` are those that it still has."""

    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.current = {WEB, OTHER}
        for endpoint in (WEB, OTHER):
            self.kernel.add_sandbox(endpoint.sandbox)
        desired = resolve(clusters.dual(Topology.SWITCHED), clusters.site(), [WEB, OTHER])
        assert all(outcome.done for outcome in self.kernel.apply(diff(desired, frozenset())))
        self.turn = KernelTurn(self.kernel)
        self.announcements = Announcements(self.turn, self.current.__contains__, interval=0.01)

    async def announce(self, endpoint: Endpoint) -> None:
        async with self.turn.taken():
            await self.announcements.announce(endpoint)


@asynccontextmanager
async def segment() -> AsyncIterator[Segment]:
    made = Segment()
    try:
        async with running(made.announcements.run()):
            yield made
    finally:
        made.turn.close()


async def repeated(made: Segment) -> None:
    """Return when all that was announced has had its second turn: another endpoint's has, announced after it."""
    await made.announce(OTHER)
    async with asyncio.timeout(5):
        while [mac for _, mac, _ in made.kernel.announced].count(OTHER.mac) < 4:
            async with made.turn.taken():
                await made.turn.call(made.kernel.namespaces)


async def test_every_address_is_announced_twice_to_the_host_and_through_the_tunnel() -> None:
    async with segment() as made:
        await made.announce(WEB)
        assert made.kernel.announced == ONCE
        await repeated(made)
        assert [each for each in made.kernel.announced if each[1] == WEB.mac] == [*ONCE, *ONCE]


async def test_what_is_gone_or_moved_on_is_not_announced_again() -> None:
    async with segment() as made:
        await made.announce(WEB)
        made.current.discard(WEB)
        await repeated(made)
        assert [each for each in made.kernel.announced if each[1] == WEB.mac] == ONCE


async def test_what_cannot_be_announced_is_the_callers_to_know_the_first_time_only() -> None:
    async with segment() as made:
        await made.announce(WEB)
        made.kernel.remove_sandbox(WEB.sandbox)
        await repeated(made)
        with pytest.raises(KernelError):
            await made.announce(WEB)
