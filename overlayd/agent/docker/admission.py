"""Seeing to it that Docker's rules do not drop what goes in or out by an uplink."""

import asyncio
from collections.abc import Callable

import structlog

from overlayd.agent.runtime.logs import Complaint
from overlayd.agent.runtime.signals import Changes
from overlayd.kernel.port import KernelError

_log = structlog.get_logger(__name__)


class UplinkAdmission:
    """Keeps Docker from dropping uplink traffic: checks its rules when it starts and every `interval` seconds."""

    def __init__(self, admit_uplinks: Callable[[], bool], starts: Changes, interval: float) -> None:
        self._admit_uplinks = admit_uplinks
        self._starts = starts
        self._interval = interval

    async def admit(self) -> None:
        """Check Docker's rules once, and admit the uplinks where needed; raise `KernelError`."""
        if await asyncio.to_thread(self._admit_uplinks):
            _log.info("Docker drops what the host forwards: a rule in DOCKER-USER lets the uplinks pass")

    async def run(self) -> None:
        """Check Docker's rules until cancelled."""
        failure = Complaint("cannot see whether Docker drops what goes through the uplinks")
        while True:
            seen = self._starts.count
            try:
                await self.admit()
                failure.over()
            except KernelError as error:
                failure.because(str(error))
            try:
                async with asyncio.timeout(self._interval):
                    await self._starts.wait(seen)
            except TimeoutError:
                continue
