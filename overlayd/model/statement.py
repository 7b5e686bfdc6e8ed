"""What a host says that it uses, to a store that may have lost it."""

from dataclasses import dataclass

from overlayd.model.address import IpAddress
from overlayd.model.block import Block
from overlayd.model.ids import NetworkName, Revision, Vni
from overlayd.model.lineage import Lineage
from overlayd.model.reservation import Reservation


@dataclass(frozen=True, slots=True)
class Statement:
    """What a host knows as of a revision of a lineage (None: it does not know which), and what its containers have.

    `vnis` are those of the networks that it knows, `blocks` those of all hosts in them. `addresses` are in use here,
    but in no block of this host; `reservations` are held by containers of this host.
    """

    knew: Lineage | None
    revision: Revision
    vnis: tuple[tuple[NetworkName, Vni], ...] = ()
    blocks: tuple[Block, ...] = ()
    addresses: tuple[tuple[NetworkName, IpAddress], ...] = ()
    reservations: tuple[Reservation, ...] = ()

    def vni(self, network: NetworkName) -> Vni | None:
        """Return the VNI that the host knows a network by."""
        return next((vni for name, vni in self.vnis if name == network), None)
