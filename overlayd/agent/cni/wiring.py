"""Builds the parts of this room."""

from dataclasses import dataclass
from pathlib import Path

from overlayd.agent.attach.wiring import AttachParts
from overlayd.agent.cni.collection import Collector
from overlayd.agent.cni.del_queue import del_queue
from overlayd.agent.cni.readiness import Readiness
from overlayd.agent.cni.server import CniServer
from overlayd.agent.holdings.wiring import HoldingParts
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.records.detach_queue import DetachQueue
from overlayd.agent.runtime.actors import Actors
from overlayd.wire.cni.requests import Request


@dataclass(frozen=True, slots=True)
class CniParts:
    """The server for the launcher, and the queue of DELs."""

    server: CniServer
    queue: DetachQueue[Request]

    def actors(self, interval: float) -> Actors:
        """Return the actors of this room; the queue is drained every `interval` seconds."""
        return {"queue": self.queue.run(interval)}


def build(
    attach: AttachParts,
    records: AttachmentRecords,
    holdings: HoldingParts,
    reconciler: Reconciler,
    queue_dir: Path,
) -> CniParts:
    """Build the parts. The launcher queues DELs in `queue_dir`."""
    detach = attach.attachments.detach
    queue = del_queue(queue_dir, detach)
    readiness = Readiness(holdings.blocks, attach.addressing, reconciler.ensure, holdings.client)
    return CniParts(CniServer(attach.attachments, Collector(detach, records), readiness, queue), queue)
