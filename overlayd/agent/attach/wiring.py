"""Builds the parts of this room."""

from dataclasses import dataclass
from time import monotonic

from overlayd.agent.attach.addressing import Addressing
from overlayd.agent.attach.attachments import Attachments
from overlayd.agent.attach.interfaces import prepare
from overlayd.agent.attach.leaks import Leaks
from overlayd.agent.holdings.wiring import HoldingParts
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.records.wiring import RecordParts
from overlayd.agent.runtime.actors import Actors
from overlayd.agent.runtime.kernel_lock import KernelTurn


@dataclass(frozen=True, slots=True)
class AttachParts:
    """The attachments, and the addresses that they are given."""

    attachments: Attachments
    addressing: Addressing
    leaks: Leaks
    turn: KernelTurn
    reconciler: Reconciler

    def actors(self) -> Actors:
        """Return the actors of this room."""
        return {
            "announcements": self.attachments.announcements.run(),
            "reaper": self.attachments.reaper.run(),
            "leaks": self.leaks.run(),
            "preparation": prepare(self.turn.kernel, self.reconciler.reports),
        }


def build(
    turn: KernelTurn, recorded: RecordParts, holdings: HoldingParts, reconciler: Reconciler, grace: float
) -> AttachParts:
    """Build the parts. A container that vanished without a DEL is detached after `grace` seconds."""
    records = recorded.attachments
    addressing = Addressing(records, holdings.blocks, holdings.reservations, recorded.resting, recorded.held)
    attachments = Attachments(turn, records, holdings.blocks, addressing, reconciler)
    leaks = Leaks(attachments, records, grace, monotonic)
    return AttachParts(attachments, addressing, leaks, turn, reconciler)
