"""The kernel is prepared for attachments after the first report, and what goes wrong with it ends nothing."""

import asyncio
import errno

import pytest

from overlayd.agent.attach.interfaces import prepare
from overlayd.agent.runtime.signals import Changes
from overlayd.kernel.port import KernelError
from tests.support.kernel.fake_kernel import FakeKernel

pytestmark = pytest.mark.anyio


class CountingKernel(FakeKernel):
    """Counts how often it is prepared, and refuses if it is to."""

    def __init__(self, refusal: KernelError | None = None) -> None:
        super().__init__()
        self.count = 0
        self._refusal = refusal

    def prepare(self) -> None:
        self.count += 1
        if self._refusal:
            raise self._refusal


async def test_the_kernel_is_prepared_once_and_after_the_first_report() -> None:
    kernel, reports = CountingKernel(), Changes()
    task = asyncio.create_task(prepare(kernel, reports))
    await asyncio.sleep(0)
    assert not task.done()
    assert kernel.count == 0
    reports.set()
    await task
    reports.set()
    assert kernel.count == 1


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM])
async def test_a_failure_is_left_to_the_first_attachment(code: int) -> None:
    kernel, reports = CountingKernel(KernelError(code, "load pyroute2")), Changes()
    reports.set()
    await prepare(kernel, reports)
    assert kernel.count == 1
