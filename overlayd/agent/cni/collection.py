"""GC: detaches what a config attached and its runtime no longer lists as valid."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from overlayd.agent.attach.request import AttachmentName
from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from overlayd.agent.runtime.under_way import UnderWay
from overlayd.model.endpoint import CNI
from overlayd.model.errors import OverlayError
from overlayd.model.ids import NetworkName
from overlayd.wire.cni.error import CniError, Code
from overlayd.wire.cni.requests import GcRequest

Detach = Callable[[AttachmentName, NetworkName | None], Awaitable[None]]


class Collector:
    """Detaches on behalf of a GC. Two runtimes on one host must have configs of different names.

    A GC never detaches what an ADD makes at the same time (CNI SPEC, section "GC"), and neither waits for the other: an
    attachment that is made while a GC runs, or was not answered yet when it came, is too new for the runtime's list.
    """

    def __init__(self, detach: Detach, records: AttachmentRecords) -> None:
        self._detach = detach
        self._records = records
        self._arriving = UnderWay[AttachmentName]()

    @contextmanager
    def arriving(self, name: AttachmentName) -> Iterator[None]:
        """Exclude an attachment from GCs until the end of the block."""
        with self._arriving.counted(name):
            yield

    async def collect(self, request: GcRequest) -> None:
        """Detach each attachment of the config that the runtime does not list.

        Raises `CniError` that names those that could not be detached.
        """
        failures = []
        for attachment in self._stale(request):
            endpoint = attachment.endpoint
            is_same = self._records.attachments.get(endpoint.key) is attachment
            if not is_same or self._is_arriving(attachment):
                continue  # its DEL came in between, and perhaps another ADD
            try:
                await self._detach(AttachmentName.of(endpoint), attachment.owner or NetworkName(endpoint.network))
            except (OverlayError, OSError) as error:
                failures.append(f"{endpoint.interface} of {endpoint.container_id}: {error}")
        if failures:
            raise CniError(Code.NOT_COLLECTED, f"not collected: {failures[0]}", "; ".join(failures[1:]))

    def _stale(self, request: GcRequest) -> list[Attachment]:
        return [
            attachment
            for attachment in self._records.attachments.values()
            if attachment.owner == request.conf
            and attachment.endpoint.workload.attached_by == CNI
            and (attachment.endpoint.container_id, attachment.endpoint.interface) not in request.valid
            and not self._is_arriving(attachment)
        ]

    def _is_arriving(self, attachment: Attachment) -> bool:
        return AttachmentName.of(attachment.endpoint) in self._arriving
