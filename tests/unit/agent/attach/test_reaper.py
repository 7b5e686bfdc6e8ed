"""The reaper deletes together what was retired at about the same time, and says when it is gone."""

import asyncio
import errno
from collections.abc import Iterable

import pytest

from overlayd.agent.attach.reaper import Reaper
from overlayd.dataplane.items import NamespaceRef, network_namespace
from overlayd.kernel.port import KernelError
from overlayd.model.ids import NetworkName
from tests.support.agents.loopback import running
from tests.support.controllers.clusters import endpoint
from tests.support.kernel.fake_kernel import FakeKernel

pytestmark = pytest.mark.anyio

BLUE, GREEN = (network_namespace(NetworkName(name)) for name in ("blue", "green"))
WEB, DB = endpoint(1, "web", "10.32.0.5"), endpoint(1, "db", "10.32.0.6", "green")


class CountingKernel(FakeKernel):
    """Records what it is asked to reap, and refuses a given number of times."""

    def __init__(self, refusals: int = 0) -> None:
        super().__init__()
        self.strokes: list[frozenset[NamespaceRef]] = []
        self._refusals = refusals

    def reap(self, namespaces: Iterable[NamespaceRef]) -> None:
        self.strokes.append(frozenset(namespaces))
        if len(self.strokes) <= self._refusals:
            raise KernelError(errno.EBUSY, "not now")


async def test_what_is_retired_together_is_reaped_at_one_stroke() -> None:
    kernel = CountingKernel()
    reaper = Reaper(kernel)
    async with running(reaper.run()):
        for each in (WEB, DB, endpoint(1, "more", "10.32.0.7")):
            reaper.retired(each)
        await asyncio.gather(reaper.free(WEB), reaper.free(DB))
        assert kernel.strokes == [{BLUE, GREEN}]
        reaper.retired(WEB)
        await reaper.free(WEB)
    assert kernel.strokes == [{BLUE, GREEN}, {BLUE}]


async def test_only_what_had_the_interface_or_an_address_is_waited_for() -> None:
    reaper = Reaper(CountingKernel())
    reaper.retired(WEB)
    for other in (
        endpoint(1, "web", "10.32.0.9", interface="eth1"),
        endpoint(1, "db", "10.32.0.9"),
        endpoint(1, "db", "10.32.0.5", "green"),
    ):
        await reaper.free(other)
    for same in (endpoint(1, "web", "10.32.0.9", "green"), endpoint(1, "db", "10.32.0.5")):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reaper.free(same), 0.01)


async def test_what_the_kernel_refuses_is_tried_again() -> None:
    kernel = CountingKernel(refusals=2)
    reaper = Reaper(kernel)
    async with running(reaper.run()):
        reaper.retired(WEB)
        await reaper.free(WEB)
    assert kernel.strokes == [{BLUE}] * 3
