"""Detaching containers that vanished without a DEL: a runtime that was killed sends none."""

import asyncio
from collections.abc import Callable

import structlog

from overlayd.agent.attach.attachments import Attachments
from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from overlayd.agent.runtime.logs import Complaint
from overlayd.kernel.port import KernelError
from overlayd.model.errors import OverlayError

_log = structlog.get_logger(__name__)


class Leaks:
    """Detaches containers that are gone, and were gone `grace` seconds ago: a DEL may be on its way.

    `now` tells the time in seconds and never jumps. What it has seen ends with the process.
    """

    def __init__(
        self, attachments: Attachments, records: AttachmentRecords, grace: float, now: Callable[[], float]
    ) -> None:
        self._attachments = attachments
        self._records = records
        self._grace = grace
        self._now = now
        self._since: dict[Attachment, float] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        failure = Complaint("cannot tell which containers are gone")
        while True:
            try:
                await self.look()
                failure.over()
            except KernelError as error:
                failure.because(str(error))
            await asyncio.sleep(self._grace / 2)

    async def look(self) -> None:
        """Find the containers that are gone, and free those gone longer than the grace time; raise `KernelError`."""
        gone, now = await self._attachments.gone(self._records.attachments.values()), self._now()
        self._since = {each: self._since.get(each, now) for each in gone}
        for attachment, since in self._since.items():
            if now - since >= self._grace:
                await self._free(attachment)

    async def _free(self, attachment: Attachment) -> None:
        endpoint = attachment.endpoint
        about = {"network": endpoint.network, "container": endpoint.container_id, "interface": endpoint.interface}
        try:
            if await self._attachments.free_unused(attachment):
                addresses = [str(address) for address in endpoint.addresses]
                _log.warning("freed what a container left that is gone without a DEL", **about, addresses=addresses)
        except (OverlayError, OSError) as error:
            _log.warning("cannot free yet what a container left that is gone", **about, reason=str(error))
