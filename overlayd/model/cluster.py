"""The cluster as one host knows it at one revision: tables of records. A change copies only what it touches."""

from collections.abc import Collection, ItemsView, Iterable, Iterator, Mapping, ValuesView
from dataclasses import dataclass, field
from itertools import chain, compress, count
from operator import is_not
from types import MappingProxyType
from typing import TypeVar, assert_never, cast

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


Key = TypeVar("Key")
InNetwork = TypeVar("InNetwork", bound=tuple[NetworkName, *tuple[object, ...]])
"""The key of a record that belongs to a network, whose name comes first in it."""

Value = TypeVar("Value")


class ByNetwork(Mapping[InNetwork, Value]):
    """Records by their keys, in one table for each network. A value: `changed` returns another one.

    That one shares the tables of all networks that the change leaves alone, so a change of one network costs a copy of
    that network's table. A table that is the same object has the same records.
    """

    __slots__ = ("tables",)

    def __init__(self, tables: Mapping[NetworkName, Mapping[InNetwork, Value]] = MappingProxyType({})) -> None:
        self.tables = tables

    def of(self, network: NetworkName) -> Mapping[InNetwork, Value]:
        """Return the records of one network by their keys."""
        return self.tables.get(network) or cast("Mapping[InNetwork, Value]", _NONE)

    def changed(
        self, puts: Iterable[tuple[InNetwork, Value]], deletes: Iterable[InNetwork], gone: Collection[NetworkName]
    ) -> "ByNetwork[InNetwork, Value]":
        """Return the tables after these changes: networks that are gone first, then deletions, then puts."""
        tables = {name: table for name, table in self.tables.items() if name not in gone}
        added: dict[NetworkName, list[tuple[InNetwork, Value]]] = {}
        removed: dict[NetworkName, list[InNetwork]] = {}
        for key, value in puts:
            added.setdefault(key[0], []).append((key, value))
        for key in deletes:
            removed.setdefault(key[0], []).append(key)
        for name in added | removed:
            known = tables[name] if name in tables else MappingProxyType[InNetwork, Value]({})
            tables[name] = changed_table(known, added.get(name, ()), removed.get(name, ()))
        kept = {name: table for name, table in tables.items() if table}
        is_same = len(kept) == len(self.tables) and all(kept[name] is table for name, table in self.tables.items())
        return self if is_same else ByNetwork(MappingProxyType(kept))

    def __getitem__(self, key: InNetwork) -> Value:
        """Return a record; raise `KeyError` when there is none with this key."""
        return self.tables[key[0]][key]

    def __contains__(self, key: object) -> bool:
        """Return whether there is a record with this key."""
        return isinstance(key, tuple) and bool(key) and key in self.tables.get(key[0], _NONE)

    def __iter__(self) -> Iterator[InNetwork]:
        """Iterate over the keys, one network after the other."""
        return chain.from_iterable(self.tables.values())

    def __len__(self) -> int:
        """Return the number of records."""
        return sum(map(len, self.tables.values()))

    def values(self) -> ValuesView[Value]:
        """Return the records, one network after the other."""
        return _Values(self)

    def items(self) -> ItemsView[InNetwork, Value]:
        """Return keys and records, one network after the other."""
        return _Items(self)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Networks, hosts, blocks, endpoints and reservations by key. A value: `changed` returns another one.

    A table that a change does not touch stays the same object; blocks, endpoints and reservations have a table for each
    network. So readers compare objects to see whether their tables have changed. `lineage` is the lineage of the
    revision, None where no controller has sent one.
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
            changed_table(self.networks, put.networks, deleted.networks),
            changed_table(self.hosts, put.hosts, deleted.hosts),
            self.blocks.changed(put.blocks, deleted.blocks, deleted.networks),
            self.endpoints.changed(put.endpoints, deleted.endpoints, deleted.networks),
            self.reservations.changed(put.reservations, deleted.reservations, deleted.networks),
            self.lineage,
        )

    def has_records_of(self, other: "Cluster") -> bool:
        """Return whether one derives from the other with no change but the revision; the comparison is cheap."""
        is_same = self.endpoints is other.endpoints and self.reservations is other.reservations
        return is_same and self.has_hosts_of(other)

    def has_hosts_of(self, other: "Cluster") -> bool:
        """Return whether one has the networks, hosts and blocks of the other, compared as `has_records_of` does."""
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


def changed_table(
    table: Mapping[Key, Value], puts: Iterable[tuple[Key, Value]], deletes: Iterable[Key]
) -> Mapping[Key, Value]:
    """Return a table after these changes, the deletions first; the same one when it has all of them already.

    A record that equals the one that it replaces is not put: what reads the table may compare by identity.
    """
    after: dict[Key, Value] | None = None
    for key in deletes:
        if key in (table if after is None else after):
            after = _copy(table) if after is None else after
            del after[key]
    for key, value in puts:
        if (table if after is None else after).get(key) != value:
            after = _copy(table) if after is None else after
            after[key] = value
    return table if after is None else MappingProxyType(after)


def _copy(table: Mapping[Key, Value]) -> dict[Key, Value]:
    # Copying a dictionary as such does not hash its keys once more, as reading it through its proxy would.
    return table.copy() if isinstance(table, MappingProxyType | dict) else dict(table)


def differing(before: Mapping[Key, Value], after: Mapping[Key, Value]) -> tuple[list[Value], list[Value]]:
    """Return the records that only the first of two tables has, and those that only the second one has.

    They are compared by identity. A change leaves most of a table in its order, so that what both have at their
    beginnings and ends is passed over without hashing a key.
    """
    if before is after:
        return [], []
    old, new = list(before.values()), list(after.values())
    start = _in_common(old, new)
    old, new = old[start:], new[start:]
    end = _in_common(reversed(old), reversed(new))
    gone, come = old[: len(old) - end], new[: len(new) - end]
    kept = set(map(id, gone)) & set(map(id, come))
    return [each for each in gone if id(each) not in kept], [each for each in come if id(each) not in kept]


def _in_common(one: Iterable[object], other: Iterable[object]) -> int:
    """Return how many objects two sequences begin with that are the same in both."""
    pairs = list(map(is_not, one, other))
    return next(compress(count(), pairs), len(pairs))


class _Values(ValuesView[Value]):
    """Values that are not looked up one by one."""

    def __init__(self, whole: ByNetwork[InNetwork, Value]) -> None:
        super().__init__(whole)
        self._tables = whole.tables

    def __iter__(self) -> Iterator[Value]:
        return chain.from_iterable(table.values() for table in self._tables.values())


class _Items(ItemsView[InNetwork, Value]):
    """Keys and values that are not looked up one by one."""

    def __init__(self, whole: ByNetwork[InNetwork, Value]) -> None:
        super().__init__(whole)
        self._tables = whole.tables

    def __iter__(self) -> Iterator[tuple[InNetwork, Value]]:
        return chain.from_iterable(table.items() for table in self._tables.values())


_NONE: Mapping[object, object] = MappingProxyType({})
"""The table of each network without records: the same object, as that tells that nothing has changed."""
