"""DELs that were answered with success before they were executed."""

from pathlib import Path

from overlayd.agent.cni.collection import Detach
from overlayd.agent.cni.translation import name_of
from overlayd.agent.records.detach_queue import DetachQueue, QueuedKind
from overlayd.model.errors import InvalidValue
from overlayd.wire.cni import requests as cni
from overlayd.wire.cni.error import CniError
from overlayd.wire.cni.requests import Command, Request


def del_queue(directory: Path, detach: Detach) -> DetachQueue[Request]:
    """Return the queue of DELs in a directory."""

    async def execute(request: Request) -> None:
        await detach(name_of(request), request.conf)

    return DetachQueue(directory, QueuedKind(".del", read, execute, concerns))


def read(frame: bytes) -> Request:
    """Return a DEL from what the launcher forwards; raise `InvalidValue` when it is none."""
    try:
        request = cni.parse(*cni.unpack(frame))
    except CniError as error:
        raise InvalidValue(error.msg) from error
    if isinstance(request, Request) and request.command is Command.DEL:
        return request
    raise InvalidValue("it is no DEL")


def concerns(queued: Request, request: Request) -> bool:
    """Return whether a request is about what a queued DEL would detach: by its network, or by its config."""
    theirs, ours = ((each.container_id, each.interface) for each in (request, queued))
    return theirs == ours and (request.network == queued.network or request.conf == queued.conf)
