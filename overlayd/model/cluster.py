"""What one host knows of the cluster, as of one revision."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from overlayd.model.address import IpAddress
from overlayd.model.block import Block, BlockKey
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.host import Host
from overlayd.model.ids import HostId, NetworkName, Revision
from overlayd.model.lineage import Lineage
from overlayd.model.network import Network
from overlayd.model.reservation import Reservation, ReservationKey

UNKNOWN = Revision(0)
"""Before the first revision of any store."""

Record = Network | Host | Block | Endpoint | Reservation
"""The objects that a feed carries."""


@dataclass(frozen=True, slots=True)
class RecordKey:
    """What a deletion names: the kind of a record and its key among that kind."""

    kind: type[Record]
    key: NetworkName | HostId | BlockKey | EndpointKey | ReservationKey

    @classmethod
    def of(cls, record: Record) -> "RecordKey":
        """Return the key of a record."""
        match record:
            case Network(name=name):
                return cls(Network, name)
            case Host(id=host):
                return cls(Host, host)
            case Block() | Endpoint() | Reservation():
                return cls(type(record), record.key)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Networks, hosts, blocks, endpoints and reservations by key. A value: `changed` returns another one.

    `lineage` is what the revision belongs to, None where no controller has said so.
    """

    revision: Revision = UNKNOWN
    networks: Mapping[NetworkName, Network] = field(default_factory=lambda: MappingProxyType({}))
    hosts: Mapping[HostId, Host] = field(default_factory=lambda: MappingProxyType({}))
    blocks: Mapping[BlockKey, Block] = field(default_factory=lambda: MappingProxyType({}))
    endpoints: Mapping[EndpointKey, Endpoint] = field(default_factory=lambda: MappingProxyType({}))
    reservations: Mapping[ReservationKey, Reservation] = field(default_factory=lambda: MappingProxyType({}))
    lineage: Lineage | None = None

    def changed(self, revision: Revision, puts: Iterable[Record] = (), deletes: Iterable[RecordKey] = ()) -> "Cluster":
        """Return the cluster after these changes. A deleted network takes all that is in it with it."""
        puts, deletes = tuple(puts), tuple(deletes)
        if not puts and not deletes:
            return replace(self, revision=revision)
        before: dict[type[Record], Mapping[object, Record]] = {
            Network: self.networks,  # type: ignore[dict-item]
            Host: self.hosts,  # type: ignore[dict-item]
            Block: self.blocks,  # type: ignore[dict-item]
            Endpoint: self.endpoints,  # type: ignore[dict-item]
            Reservation: self.reservations,  # type: ignore[dict-item]
        }
        # What does not change stays the same table: readers tell by that that nothing of theirs has changed.
        touched = {deleted.kind for deleted in deletes} | {type(record) for record in puts}
        gone = {deleted.key for deleted in deletes if deleted.kind is Network}
        if gone:
            touched |= {Block, Endpoint, Reservation}
        after = {kind: dict(before[kind].items()) for kind in touched}
        for deleted in deletes:
            after[deleted.kind].pop(deleted.key, None)
        if gone:
            for kind in (Block, Endpoint, Reservation):
                after[kind] = {k: r for k, r in after[kind].items() if getattr(r, "network", None) not in gone}
        for record in puts:
            after[type(record)][RecordKey.of(record).key] = record
        changed = Cluster(
            revision,
            *(MappingProxyType(after[kind]) if kind in touched else before[kind] for kind in before),  # type: ignore[arg-type]
        )
        return replace(changed, lineage=self.lineage)

    def has_records_of(self, other: "Cluster") -> bool:
        """Tell whether both came of one another by nothing but revisions; comparing them costs nothing."""
        return all(
            mine is theirs
            for mine, theirs in (
                (self.networks, other.networks),
                (self.hosts, other.hosts),
                (self.blocks, other.blocks),
                (self.endpoints, other.endpoints),
                (self.reservations, other.reservations),
            )
        )

    def has_hosts_of(self, other: "Cluster") -> bool:
        """Tell whether networks, hosts and blocks came of one another unchanged, as `has_records_of`."""
        return self.networks is other.networks and self.hosts is other.hosts and self.blocks is other.blocks

    @property
    def records(self) -> tuple[Record, ...]:
        """Every record, networks and hosts before what refers to them."""
        return (
            *self.networks.values(),
            *self.hosts.values(),
            *self.blocks.values(),
            *self.endpoints.values(),
            *self.reservations.values(),
        )

    def reserved(self, network: NetworkName) -> dict[IpAddress, Reservation]:
        """Return the reservations of a network by the addresses that they hold."""
        return {
            address: reservation
            for reservation in self.reservations.values()
            if reservation.network == network
            for address in reservation.addresses
        }

    def blocks_of(self, network: NetworkName, host: HostId) -> tuple[Block, ...]:
        """Return the blocks of a network that one host owns, by address."""
        owned = [block for block in self.blocks.values() if block.network == network and block.host == host]
        return tuple(sorted(owned, key=lambda block: (block.family, int(block.cidr.network_address))))
