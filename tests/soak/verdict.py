"""What a history must be: nothing ever belonged to two, and every write that was acknowledged took effect.

Pure: histories and acknowledgements in, faults out.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from overlayd.model.address import IpAddress, contains, overlap
from overlayd.model.block import Block
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.endpoint import Endpoint
from overlayd.model.host import Host
from overlayd.model.ids import HostId, NetworkName, Revision
from overlayd.model.network import Network
from overlayd.model.reservation import Reservation

Claim = tuple[str, object]
"""What only one record may have at a time: a number, an address, a VNI."""

Memory = Mapping[RecordKey, Record | None]
"""How everything is, for all one knows, that only one client writes; None stands for what is gone."""


@dataclass(frozen=True, slots=True)
class RecordChange:
    """What one transaction made of one record."""

    key: RecordKey
    before: Record | None
    after: Record | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One transaction, as the history has it."""

    revision: Revision
    changes: tuple[RecordChange, ...]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A controller said that as of a revision a record is so."""

    revision: Revision
    record: Record


@dataclass
class Replay:
    """The history, gone through from its beginning."""

    state: dict[RecordKey, Record] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    _claims: dict[Claim, RecordKey] = field(default_factory=dict)
    _past: defaultdict[RecordKey, list[tuple[Revision, Record | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _reserved: dict[tuple[NetworkName, IpAddress], RecordKey] = field(default_factory=dict)
    _held: defaultdict[tuple[NetworkName, HostId], set[RecordKey]] = field(default_factory=lambda: defaultdict(set))

    def take(self, entry: Entry) -> None:
        """Take in the next transaction: first what goes, then what comes."""
        for change in entry.changes:
            if (known := self.state.get(change.key)) != change.before:
                self._fault(entry, f"{change.key} was {known}, and the change says {change.before}")
            if known is not None:
                self._remove(change.key, known)
        for change in entry.changes:
            if change.after is not None:
                self._put(entry, change.key, change.after)
            self._past[change.key].append((entry.revision, change.after))
        for change in entry.changes:
            self._check(entry, change)

    def at(self, key: RecordKey, revision: Revision) -> Record | None:
        """Return a record as it was at a revision."""
        past = self._past.get(key, [])
        place = bisect_right(past, revision, key=lambda change: change[0])
        return past[place - 1][1] if place else None

    def _remove(self, key: RecordKey, record: Record) -> None:
        del self.state[key]
        if isinstance(record, Block | Endpoint):
            self._held[record.network, record.host].discard(key)
        for claim in claims(record):
            if self._claims.get(claim) == key:
                del self._claims[claim]
        if isinstance(record, Reservation):
            for address in record.addresses:
                self._reserved.pop((record.network, address), None)

    def _put(self, entry: Entry, key: RecordKey, record: Record) -> None:
        self.state[key] = record
        if isinstance(record, Block | Endpoint):
            self._held[record.network, record.host].add(key)
        for claim in claims(record):
            if (holder := self._claims.setdefault(claim, key)) != key:
                self._fault(entry, f"{claim} belongs to {holder} and to {key}")
        if isinstance(record, Reservation):
            self._reserved |= {(record.network, address): key for address in record.addresses}

    def _check(self, entry: Entry, change: RecordChange) -> None:
        before, after = change.before, change.after
        if isinstance(before, Block) and isinstance(after, Block) and before.host != after.host:
            self._fault(entry, f"block {after.cidr} of {after.network} went from {before.host} to {after.host}")
        if isinstance(before, Host) and isinstance(after, Host) and before.number != after.number:
            self._fault(entry, f"host {after.id} had number {before.number} and has {after.number}")
        if isinstance(before, Block) and after is None:
            users = (each for each in self._of(before.network, before.host) if isinstance(each, Endpoint))
            for user in users:
                if any(address in before.cidr for address in user.addresses):
                    self._fault(entry, f"{before} was given back under {user}")
        if isinstance(after, Endpoint):
            for address in after.addresses:
                if not self._may_have(after, address):
                    self._fault(entry, f"{after.host} published {address} of {after.network} and has no right to it")

    def _may_have(self, endpoint: Endpoint, address: IpAddress) -> bool:
        reserved = self.state.get(self._reserved.get((endpoint.network, address), RecordKey.of(endpoint)))
        if isinstance(reserved, Reservation):
            holder = reserved.holder
            return holder is not None and (holder.host, holder.container_id) == (endpoint.host, endpoint.container_id)
        held = self._of(endpoint.network, endpoint.host)
        return any(isinstance(block, Block) and address in block.cidr for block in held)

    def _of(self, network: NetworkName, host: HostId) -> list[Record]:
        return [self.state[key] for key in self._held[network, host]]

    def _fault(self, entry: Entry, what: str) -> None:
        self.faults.append(f"revision {entry.revision}: {what}")


def claims(record: Record) -> Iterator[Claim]:
    """Yield what a record has that no other one may have."""
    match record:
        case Host(number=number, address=address):
            yield "host number", number
            yield "VTEP address", address
        case Network(vni=vni):
            yield "VNI", vni
        case Endpoint(network=network, addresses=addresses, mac=mac):
            yield "MAC", (network, mac)
            for each in addresses:
                yield "address", (network, each)
        case Reservation(network=network, addresses=addresses):
            for each in addresses:
                yield "reserved address", (network, each)
        case Block():
            return


def overlapping_blocks(records: Iterable[Record]) -> list[str]:
    """Return the pairs of blocks of one network that share an address."""
    by_network = defaultdict[tuple[NetworkName, int], list[Block]](list)
    for record in records:
        if isinstance(record, Block):
            by_network[record.network, record.family].append(record)
    found = []
    for blocks in by_network.values():
        blocks.sort(key=lambda block: (int(block.cidr.network_address), block.cidr.prefixlen))
        found += [f"{one} and {other} overlap" for one, other in pairwise(blocks) if overlap(one.cidr, other.cidr)]
    return found


def outside_their_network(records: Iterable[Record]) -> list[str]:
    """Return the blocks that lie in no range of their network."""
    known = list(records)
    networks = {record.name: record for record in known if isinstance(record, Network)}
    return [
        f"{block} lies in no range of its network"
        for block in known
        if isinstance(block, Block)
        and not any(contains(pool.range, block.cidr) for pool in getattr(networks.get(block.network), "pools", ()))
    ]


def lost(replay: Replay, acknowledged: Iterable[Acknowledged]) -> list[str]:
    """Return the acknowledged writes that the history does not have."""
    return [
        f"revision {each.revision}: {each.record} was acknowledged, and the history has {found}"
        for each in acknowledged
        if (found := replay.at(RecordKey.of(each.record), each.revision)) != each.record
    ]


def misremembered(stored: Mapping[RecordKey, Record], owner: HostId, remembered: Memory) -> list[str]:
    """Return where the final state differs from what the only writer of a key had acknowledged."""
    found = {key: record for key in remembered if (record := stored.get(key)) and not _is_anothers(record, owner)}
    return [
        f"{key} is {found.get(key)}, and {owner} had {record} acknowledged"
        for key, record in remembered.items()
        if found.get(key) != record
    ]


def _is_anothers(record: Record, owner: HostId) -> bool:
    """Return whether a record is a block that another host got after this one had given it back."""
    return isinstance(record, Block) and record.host != owner


def judge(
    history: Sequence[Entry],
    stored: Mapping[RecordKey, Record],
    acknowledged: Iterable[Acknowledged],
    remembered: Mapping[HostId, Memory],
) -> list[str]:
    """Return every fault: of the history, of what is stored at the end, and of what clients had acknowledged."""
    replay = Replay()
    for entry in sorted(history, key=lambda entry: entry.revision):
        replay.take(entry)
    strays = [f"{key} is stored and in no history" for key in stored if key not in replay.state]
    strays += [f"{key} is not stored as the history ends" for key, r in replay.state.items() if stored.get(key) != r]
    return [
        *replay.faults,
        *strays,
        *overlapping_blocks(stored.values()),
        *outside_their_network(stored.values()),
        *lost(replay, acknowledged),
        *(fault for owner, memory in remembered.items() for fault in misremembered(stored, owner, memory)),
    ]
