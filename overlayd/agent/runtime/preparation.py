"""Preparing the kernel's messages while the agent has nothing else to do, so that no attachment waits for it."""

import asyncio

import structlog

from overlayd.agent.runtime.signals import Changes
from overlayd.kernel.port import Kernel, KernelError

_log = structlog.get_logger(__name__)


async def prepare(kernel: Kernel, reports: Changes) -> None:
    """Prepare the kernel's messages once, after the first report: the agent's start does not pay for them."""
    await reports.wait(0)
    try:
        await asyncio.to_thread(kernel.prepare)
    except KernelError as error:  # too few descriptors, perhaps: the first attachment tries again
        _log.warning("cannot prepare for attachments", problem=str(error))
