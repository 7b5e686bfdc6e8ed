"""Builds the parts of this room."""

from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from overlayd.agent.records import record_copies
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.records.held_addresses import HeldAddresses
from overlayd.agent.records.quarantine import RestingAddresses
from overlayd.agent.records.record_copies import RecordCopies
from overlayd.agent.records.recovery import recover
from overlayd.agent.runtime.actors import Actors
from overlayd.agent.runtime.signals import Changes
from overlayd.kernel.port import Kernel
from overlayd.model.ids import HostId


@dataclass(frozen=True, slots=True)
class RecordParts:
    """The records, their copies, the addresses in quarantine, and those that are held for runtimes."""

    attachments: AttachmentRecords
    copies: AttachmentRecords
    resting: RestingAddresses
    held: HeldAddresses

    def recover(self, kernel: Kernel, host: HostId) -> None:
        """Delete what a killed agent had taken out of use, then restore records that are lost.

        Raises `KernelError`, or `OSError` when a record cannot be written.
        """
        kernel.reap(kernel.leftovers())
        recover(kernel, host, self.attachments, self.copies.attachments)

    def actors(self, attached: Changes) -> Actors:
        """Return the actors of this room; `attached` counts attachments that came or went."""
        return {"copies of records": RecordCopies(self.attachments, self.copies).run(attached)}


def build(run_dir: Path, state_dir: Path) -> RecordParts:
    """Read the records; raise `InvalidValue` that names the file of a newer agent, or `OSError`."""
    records = AttachmentRecords(run_dir / "attachments")
    records.load()
    copies = record_copies.loaded(state_dir / "attachments")
    held = HeldAddresses(run_dir / "held-addresses")
    held.load()
    return RecordParts(records, copies, RestingAddresses(run_dir / "resting", monotonic), held)
