"""What one host knows of the cluster, as of one revision."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import assert_never

from overlayd.model import by_network
from overlayd.model.address import IpAddress
from overlayd.model.block import Block, BlockKey
from overlayd.model.by_network import ByNetwork
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

    What a change leaves alone stays the same object: each table, and of blocks, endpoints and reservations the table of
    each network. Readers tell by that that nothing of theirs has changed. `lineage` is what the revision belongs to,
    None where no controller has said so.
    """

    revision: Revision = UNKNOWN
    networks: Mapping[NetworkName, Network] = field(default_factory=lambda: MappingProxyType({}))
    hosts: Mapping[HostId, Host] = field(default_factory=lambda: MappingProxyType({}))
    blocks: ByNetwork[BlockKey, Block] = field(default_factory=ByNetwork)
    endpoints: ByNetwork[EndpointKey, Endpoint] = field(default_factory=ByNetwork)
    reservations: ByNetwork[ReservationKey, Reservation] = field(default_factory=ByNetwork)
    lineage: Lineage | None = None

    def changed(self, revision: Revision, puts: Iterable[Record] = (), deletes: Iterable[RecordKey] = ()) -> "Cluster":
        """Return the cluster after these changes. A deleted network takes all that is in it with it."""
        put, deleted = _Puts.of(puts), _Deletes.of(deletes)
        return Cluster(
            revision,
            by_network.changed(self.networks, put.networks, deleted.networks),
            by_network.changed(self.hosts, put.hosts, deleted.hosts),
            self.blocks.changed(put.blocks, deleted.blocks, deleted.networks),
            self.endpoints.changed(put.endpoints, deleted.endpoints, deleted.networks),
            self.reservations.changed(put.reservations, deleted.reservations, deleted.networks),
            self.lineage,
        )

    def has_records_of(self, other: "Cluster") -> bool:
        """Tell whether both came of one another by nothing but revisions; comparing them costs nothing."""
        is_same = self.endpoints is other.endpoints and self.reservations is other.reservations
        return is_same and self.has_hosts_of(other)

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
        held = self.reservations.of(network).values()
        return {address: reservation for reservation in held for address in reservation.addresses}

    def blocks_of(self, network: NetworkName, host: HostId) -> tuple[Block, ...]:
        """Return the blocks of a network that one host owns, by address."""
        owned = [block for block in self.blocks.of(network).values() if block.host == host]
        return tuple(sorted(owned, key=lambda block: (block.family, int(block.cidr.network_address))))


@dataclass(slots=True)
class _Puts:
    """Records by kind, each with its key."""

    networks: list[tuple[NetworkName, Network]] = field(default_factory=list)
    hosts: list[tuple[HostId, Host]] = field(default_factory=list)
    blocks: list[tuple[BlockKey, Block]] = field(default_factory=list)
    endpoints: list[tuple[EndpointKey, Endpoint]] = field(default_factory=list)
    reservations: list[tuple[ReservationKey, Reservation]] = field(default_factory=list)

    @classmethod
    def of(cls, records: Iterable[Record]) -> "_Puts":
        found = cls()
        for record in records:
            match record:
                case Network():
                    found.networks.append((record.name, record))
                case Host():
                    found.hosts.append((record.id, record))
                case Block():
                    found.blocks.append((record.key, record))
                case Endpoint():
                    found.endpoints.append((record.key, record))
                case Reservation():
                    found.reservations.append((record.key, record))
                case _:
                    assert_never(record)
        return found


@dataclass(slots=True)
class _Deletes:
    """Keys by kind."""

    networks: list[NetworkName] = field(default_factory=list)
    hosts: list[HostId] = field(default_factory=list)
    blocks: list[BlockKey] = field(default_factory=list)
    endpoints: list[EndpointKey] = field(default_factory=list)
    reservations: list[ReservationKey] = field(default_factory=list)

    @classmethod
    def of(cls, deletes: Iterable[RecordKey]) -> "_Deletes":
        found = cls()
        lists: dict[type[Record], list[object]] = {
            Network: found.networks,  # type: ignore[dict-item]
            Host: found.hosts,  # type: ignore[dict-item]
            Block: found.blocks,  # type: ignore[dict-item]
            Endpoint: found.endpoints,  # type: ignore[dict-item]
            Reservation: found.reservations,  # type: ignore[dict-item]
        }
        for deleted in deletes:
            lists[deleted.kind].append(deleted.key)
        return found
