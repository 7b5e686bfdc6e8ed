"""The parts of this room, joined."""

from dataclasses import dataclass
from pathlib import Path

from overlayd.agent.attach.request import AttachmentName
from overlayd.agent.attach.wiring import AttachParts
from overlayd.agent.holdings.wiring import HoldingParts
from overlayd.agent.netavark import request
from overlayd.agent.netavark.server import NetavarkServer
from overlayd.agent.netavark.users import UserDoor, Users
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.records.detach_queue import DetachQueue, QueuedKind
from overlayd.agent.runtime.actors import Actors
from overlayd.kernel.spaces import namespaces
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import NetworkName
from overlayd.model.network import Network
from overlayd.wire.cni.error import CniError
from overlayd.wire.cni.requests import unpack


@dataclass(frozen=True, slots=True)
class NetavarkParts:
    """The server for the plugin of root's podman, the queue of its teardowns, and the door for other users."""

    server: NetavarkServer
    queue: DetachQueue[AttachmentName]
    users: UserDoor

    def actors(self, interval: float) -> Actors:
        """Return the tasks that run until the agent stops; one drains the queue every `interval` seconds."""
        return {"teardown queue": self.queue.run(interval)}


def build(
    attach: AttachParts,
    records: AttachmentRecords,
    holdings: HoldingParts,
    queue_dir: Path,
    users: Users,
) -> NetavarkParts:
    """Build the parts. The launcher queues teardowns in `queue_dir`."""

    async def network(name: NetworkName) -> Network:
        return holdings.blocks.network_or_none(name) or await holdings.client.network(name)

    kind = QueuedKind(".teardown", read, attach.attachments.detach, AttachmentName.__eq__)
    queue = DetachQueue(queue_dir, kind)
    server = NetavarkServer(attach.attachments, network, queue)
    return NetavarkParts(server, queue, UserDoor(server, attach.attachments, records, users, namespaces.owner))


def read(frame: bytes) -> AttachmentName:
    """Return the attachment that a queued teardown names; raise `InvalidValue`."""
    try:
        _, stdin = unpack(frame)
    except CniError as error:
        raise InvalidValue(error.msg) from error
    return request.name_of(request.parse(stdin))
