"""Garbage collection: what a runtime no longer knows of its own is detached."""

from collections.abc import Awaitable, Callable, Collection

from overlayd.agent.checkpoint import Attachment, AttachmentRecords
from overlayd.model.errors import OverlayError
from overlayd.model.ids import NetworkName
from overlayd.wire.cni import Attached, Command, GcRequest, Request
from overlayd.wire.cni_error import CniError, Code
from overlayd.wire.cni_version import GC


class Collector:
    """Detaches on behalf of a GC. Two runtimes on one host must have configs of different names."""

    def __init__(self, detach: Callable[[Request], Awaitable[None]], records: AttachmentRecords) -> None:
        self._detach = detach
        self._records = records

    def stale(self, request: GcRequest) -> list[Attachment]:
        """Return what the config attached until now that the runtime does not list."""
        return [
            attachment
            for attachment in self._records.attachments.values()
            if attachment.conf == request.conf and not _is_among(attachment, request.valid)
        ]

    async def collect(self, stale: Collection[Attachment]) -> None:
        """Detach them all, each for itself; raise `CniError` that names those that could not be detached."""
        failures = []
        for attachment in stale:
            if self._records.attachments.get(attachment.endpoint.key) is not attachment:
                continue  # its DEL came in between
            try:
                await self._detach(_deletion(attachment))
            except (OverlayError, OSError) as error:
                endpoint = attachment.endpoint
                failures.append(f"{endpoint.interface} of {endpoint.container_id}: {error}")
        if failures:
            raise CniError(Code.NOT_COLLECTED, f"not collected: {failures[0]}", "; ".join(failures[1:]))


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
