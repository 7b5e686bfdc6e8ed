"""What a host has in use, for a store that was restored from a backup and may not know of it."""

from dataclasses import dataclass

from overlayd.model.address import IpAddress
from overlayd.model.block import Block
from overlayd.model.ids import NetworkName, Revision, Vni
from overlayd.model.lineage import Lineage
from overlayd.model.reservation import Reservation


@dataclass(frozen=True, slots=True)
class Statement:
    """What a host knew at a revision of a lineage (None: unknown lineage), and what its containers have.

    `vnis` are the VNIs of the networks that it knows, `blocks` the blocks of all hosts in these. `addresses` are in use
    on this host and in none of its blocks; `reservations` are held by its containers.
    """

    knew: Lineage | None
    revision: Revision
    vnis: tuple[tuple[NetworkName, Vni], ...] = ()
    blocks: tuple[Block, ...] = ()
    addresses: tuple[tuple[NetworkName, IpAddress], ...] = ()
    reservations: tuple[Reservation, ...] = ()

    def vni(self, network: NetworkName) -> Vni | None:
        """Return the VNI by which the host knows a network."""
        return next((vni for name, vni in self.vnis if name == network), None)
