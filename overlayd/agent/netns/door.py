"""Answering `overlayd netns` on the control socket."""

import asyncio
from collections.abc import Mapping

from overlayd.agent.attach.attachments import Attachments
from overlayd.agent.attach.request import AttachmentName
from overlayd.agent.control.server import Command
from overlayd.agent.netns import request
from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from overlayd.model.errors import OverlayError, Unavailable
from overlayd.model.ids import ContainerId
from overlayd.wire.fields import Fields, Json

DEADLINE = 30.0
"""Seconds for one request, as for one of CNI."""


class NamespaceDoor:
    """Attaches namespaces that have names, and detaches them again; attachments of other runtimes stay."""

    def __init__(self, attachments: Attachments, records: AttachmentRecords) -> None:
        self._attachments = attachments
        self._records = records

    @property
    def commands(self) -> Mapping[str, Command]:
        """What it answers on the control socket."""
        return {
            "netns-attach": self.attach,
            "netns-detach": self.detach,
            "netns-list": self.listed,
            "netns-withdraw": self.withdraw,
        }

    async def attach(self, fields: Fields) -> dict[str, Json]:
        """Attach a namespace to one network, and return what it has been given.

        Raises what `Attachments.attach` does, with names of options as fields, or `Unavailable` after the deadline.
        """
        with request.named_as_options():
            asked = request.attach_request(fields)
            try:
                async with asyncio.timeout(DEADLINE):
                    await self._free(asked.name)
                    return request.shown_result(await self._attachments.attach(asked))
            except TimeoutError:
                raise Unavailable(f"not done within {DEADLINE:.0f} s; the agent goes on as before") from None

    async def detach(self, fields: Fields) -> dict[str, Json]:
        """Detach a namespace from every network that this way attached it to, and return from which.

        What cannot be detached keeps no other one attached; its error is raised after that.
        """
        detached: list[Json] = []
        failure: OverlayError | None = None
        with request.named_as_options():
            name = request.namespace_name(fields.text("namespace"))
            for attachment in self._attached(name):
                try:
                    await self._attachments.detach(AttachmentName.of(attachment.endpoint))
                except OverlayError as error:
                    failure = failure or error
                else:
                    detached.append(request.shown_attachment(attachment))
            if failure:
                raise failure
        return {"detached": detached}

    async def withdraw(self, fields: Fields) -> dict[str, Json]:
        """Detach one interface of a namespace, or keep it from being attached; it need not be there.

        A client calls it for an attach to which it has got no answer.
        """
        with request.named_as_options():
            await self._attachments.detach(request.attachment_name(fields))
        return {}

    async def listed(self, _: Fields) -> dict[str, Json]:
        """Return the namespaces that are attached this way."""
        return {"attachments": [request.shown_attachment(each) for each in self._attached()]}

    async def _free(self, name: AttachmentName) -> None:
        """Forget an attachment of this name whose namespace is gone, perhaps deleted while no agent ran."""
        if (found := self._attachments.find(name)) is not None:
            await self._attachments.release(found)

    def _attached(self, name: ContainerId | None = None) -> list[Attachment]:
        """Return the attachments of this way, of all namespaces or of one, in the order of their names."""
        found = (
            each
            for each in self._records.attachments.values()
            if each.endpoint.workload.attached_by == request.RUNTIME and name in {None, each.endpoint.container_id}
        )
        return sorted(found, key=lambda each: each.endpoint.key)
