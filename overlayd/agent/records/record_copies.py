"""Copies of the attachments' records on disk, for a start that finds the records on the tmpfs removed.

The alias of an interface names its owner, but not its ports, its limits and its labels. A copy is used only for an
interface that exists: those of an earlier boot are ignored.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import structlog

from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from overlayd.agent.runtime.logs import Complaint
from overlayd.agent.runtime.signals import Changes
from overlayd.model.endpoint import EndpointKey
from overlayd.model.errors import InvalidValue

_log = structlog.get_logger(__name__)

PACE = 0.5
"""Seconds between two rounds of writing: the answers to runtimes wait for none of them."""


def loaded(directory: Path) -> AttachmentRecords:
    """Return the copies in a directory, as far as they can be read. Only a lost record needs a copy.

    One of a newer agent may be of an earlier boot, whose interfaces are gone. Damaged ones are removed: a crash of the
    machine leaves such, and the interfaces that they described ended with it.
    """
    copies = AttachmentRecords(directory)
    try:
        copies.load()
        copies.discard_damaged()
    except (InvalidValue, OSError) as error:
        _log.warning("copies of records cannot be read, and lost records not be made of them", problem=str(error))
    return copies


class RecordCopies:
    """Writes each change of `records` to `copies`, some moments later."""

    def __init__(self, records: AttachmentRecords, copies: AttachmentRecords) -> None:
        self._records = records
        self._copies = copies
        self._failure = Complaint("records of attachments cannot be copied to the state directory")

    async def run(self, attachments: Changes) -> None:
        """Copy until cancelled."""
        seen = -1
        while True:
            seen = await attachments.wait(seen)
            wanted = dict(self._records.attachments)
            try:
                await asyncio.to_thread(self._copy, wanted)
                self._failure.over()
            except OSError as error:
                self._failure.because(str(error))
            await asyncio.sleep(PACE)

    def _copy(self, wanted: Mapping[EndpointKey, Attachment]) -> None:
        for key in [key for key in self._copies.attachments if key not in wanted]:
            self._copies.remove(key)
        for key, attachment in wanted.items():
            if self._copies.attachments.get(key) != attachment:
                self._copies.put(attachment)
