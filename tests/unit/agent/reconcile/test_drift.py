"""Noticing that others changed what is ours in the kernel."""

import asyncio
import errno
from contextlib import closing

import pytest

from overlayd.agent.reconcile.drift import Drift, heard
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.dataplane.items import HOST, NamespaceRef
from tests.support.agents.loopback import running
from tests.support.controllers.clusters import host
from tests.support.kernel.fake_kernel import FakeKernel

pytestmark = pytest.mark.anyio

BLUE = NamespaceRef("/run/netns/ov-blue")


class UnheardKernel(FakeKernel):
    """Lets something happen after it reported of a change, of which its descriptor says nothing.

    So does the kernel when a name is unmounted before its descriptor is watched again (epoll_ctl(2) asks the file).
    """

    unheard: frozenset[NamespaceRef] = frozenset()
    looks = 0

    def changed(self) -> frozenset[NamespaceRef]:
        self.looks += 1
        found = super().changed()
        reported = found | self.unheard
        self.unheard = frozenset({BLUE}) if found else frozenset()
        return reported


async def test_what_happens_before_it_listens_again_is_found() -> None:
    kernel = UnheardKernel()
    with closing(KernelTurn(kernel)) as turn:
        drift = Drift(turn)
        async with running(drift.run()), asyncio.timeout(20):
            while not kernel.looks:  # noqa: ASYNC110 - a look sets no event
                await asyncio.sleep(0.01)
            kernel.set_underlay(host(1).address, None)
            seen = 0
            while drift.suspects != {HOST, BLUE}:
                seen = await drift.changes.wait(seen)


async def test_suspects_are_taken_once() -> None:
    turn = KernelTurn(FakeKernel())
    drift = Drift(turn)
    drift.suspect(frozenset({HOST}))
    drift.suspect(frozenset({BLUE}))
    assert drift.changes.count == 2
    assert drift.take() == {HOST, BLUE}
    assert drift.take() == frozenset()
    turn.close()


async def test_where_notifications_cannot_be_read_everything_is_suspect() -> None:
    kernel = FakeKernel()
    kernel.failing = errno.ENOBUFS
    assert heard(kernel).namespaces == {HOST}
    kernel.failing = None
    assert heard(kernel).namespaces == frozenset()
