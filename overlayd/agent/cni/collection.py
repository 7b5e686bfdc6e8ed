"""Garbage collection: what a runtime no longer knows of its own is detached."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from overlayd.agent.runtime.under_way import UnderWay
from overlayd.model.errors import OverlayError
from overlayd.model.ids import ContainerId, InterfaceName, NetworkName
from overlayd.wire.cni import Attached, Command, GcRequest, Request
from overlayd.wire.cni_error import CniError, Code
from overlayd.wire.cni_version import GC

_Place = tuple[NetworkName, ContainerId, InterfaceName]


class Collector:
    """Detaches on behalf of a GC. Two runtimes on one host must have configs of different names.

    A GC and an ADD never get in each other's way (CNI SPEC, section "GC"), and neither waits for the other: what is
    attached while a GC runs, or was not yet answered when it came, is too new for the runtime's list.
    """

    def __init__(self, detach: Callable[[Request], Awaitable[None]], records: AttachmentRecords) -> None:
        self._detach = detach
        self._records = records
        self._arriving = UnderWay[_Place]()

    @contextmanager
    def arriving(self, request: Request) -> Iterator[None]:
        """Leave alone what an ADD makes until the end of the block."""
        with self._arriving.counted((request.network, request.container_id, request.interface)):
            yield

    async def collect(self, request: GcRequest) -> None:
        """Detach what the config attached that the runtime does not list, each for itself.

        Raises `CniError` that names those that could not be detached.
        """
        failures = []
        for attachment in self._stale(request):
            endpoint = attachment.endpoint
            is_same = self._records.attachments.get(endpoint.key) is attachment
            if not is_same or self._is_arriving(attachment):
                continue  # its DEL came in between, and perhaps another ADD
            try:
                await self._detach(_deletion(attachment))
            except (OverlayError, OSError) as error:
                failures.append(f"{endpoint.interface} of {endpoint.container_id}: {error}")
        if failures:
            raise CniError(Code.NOT_COLLECTED, f"not collected: {failures[0]}", "; ".join(failures[1:]))

    def _stale(self, request: GcRequest) -> list[Attachment]:
        return [
            attachment
            for attachment in self._records.attachments.values()
            if attachment.conf == request.conf
            and not _is_among(attachment, request.valid)
            and not self._is_arriving(attachment)
        ]

    def _is_arriving(self, attachment: Attachment) -> bool:
        endpoint = attachment.endpoint
        return (endpoint.network, endpoint.container_id, endpoint.interface) in self._arriving


def _is_among(attachment: Attachment, valid: frozenset[Attached]) -> bool:
    return (attachment.endpoint.container_id, attachment.endpoint.interface) in valid


def _deletion(attachment: Attachment) -> Request:
    endpoint = attachment.endpoint
    return Request(
        command=Command.DEL,
        version=GC,
        conf=attachment.conf or NetworkName(endpoint.network),
        network=endpoint.network,
        container_id=endpoint.container_id,
        interface=endpoint.interface,
        sandbox="",
    )
