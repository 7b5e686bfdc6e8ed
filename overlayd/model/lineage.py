"""The lineage of a store, and what a host states to a store of another lineage.

Revisions can be compared only within one lineage. A store that is restored from a backup continues from an older state,
and then gives the same revision numbers to other changes. A *lineage* identifies one such sequence of changes. It is
random, made with the store, and replaced when the store is found to be older than a revision that was seen before. Its
part `cluster` is made once and never replaced.
"""

import re
import secrets
from dataclasses import dataclass, replace

from overlayd.model.address import IpAddress
from overlayd.model.block import Block
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import NetworkName, Revision, Vni, quoted
from overlayd.model.reservation import Reservation

_FORM = re.compile(r"([0-9a-f]{16})\.([0-9a-f]{16})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Lineage:
    """A cluster, and one sequence of changes (`course`) in it."""

    cluster: str
    course: str

    def __str__(self) -> str:
        """Return the text form, as messages and the store have it."""
        return f"{self.cluster}.{self.course}"

    @classmethod
    def founded(cls) -> "Lineage":
        """Return the lineage of a new cluster."""
        return cls(secrets.token_hex(8), secrets.token_hex(8))

    def renewed(self) -> "Lineage":
        """Return the lineage of a restored store: the same cluster with a new course."""
        return replace(self, course=secrets.token_hex(8))


@dataclass(frozen=True, slots=True)
class Statement:
    """What a host knew at a revision of a lineage (None: unknown lineage), and what its containers have.

    A store that was restored from a backup may not know of these.

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


def parse_lineage(text: str, field: str = "lineage") -> Lineage:
    """Read a lineage; raise `InvalidValue`."""
    found = _FORM.fullmatch(text)
    if not found:
        raise InvalidValue(f"{quoted(text)} is no lineage", field=field)
    return Lineage(*found.groups())
