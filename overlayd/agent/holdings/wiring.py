"""Builds the parts of this room."""

from dataclasses import dataclass
from functools import partial

from overlayd.agent.controllers.client import ControllerClient
from overlayd.agent.controllers.wiring import ControllerParts
from overlayd.agent.holdings.blocks import HeldBlocks
from overlayd.agent.holdings.publication import Publication
from overlayd.agent.holdings.reservations import HeldReservations
from overlayd.agent.holdings.shared_addresses import SharedAddresses
from overlayd.agent.holdings.status_report import report
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.runtime.actors import Actors
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.agent.runtime.signals import Changes


@dataclass(frozen=True, slots=True)
class HoldingParts:
    """What this host owns, and its publication to the controllers."""

    blocks: HeldBlocks
    reservations: HeldReservations
    publication: Publication
    shared_addresses: SharedAddresses
    client: ControllerClient
    controllers: ControllerParts
    reconciler: Reconciler

    def actors(self, attached: Changes) -> Actors:
        """Return the actors of this room; `attached` counts attachments that came or went."""
        return {
            "blocks": self.blocks.run(attached),
            "reservations": self.reservations.run(attached),
            "shared addresses": self.shared_addresses.run(attached),
            "publication": self.publication.run(attached),
            "report": report(self.controllers.feed_client, self.controllers.feed, self.reconciler),
        }


def build(
    controllers: ControllerParts,
    records: AttachmentRecords,
    turn: KernelTurn,
    reconciler: Reconciler,
) -> HoldingParts:
    """Build the parts; nothing is claimed yet."""
    client, feed = controllers.client, controllers.feed
    publication = Publication(client, feed, records, partial(reconciler.notice, "publication"))
    return HoldingParts(
        HeldBlocks(controllers.host, client, feed, records),
        HeldReservations(client, feed, records, publication),
        publication,
        SharedAddresses(turn, client, feed, records, reconciler),
        client,
        controllers,
        reconciler,
    )
