"""The desired state of the whole cluster, in memory, with the indexes that its readers need."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from overlayd.model.address import IpAddress, IpNetwork
from overlayd.model.block import Block, BlockKey
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.host import Host
from overlayd.model.ids import HostId, MacAddress, NetworkName, Revision
from overlayd.model.network import Network, Topology
from overlayd.model.reservation import Reservation, ReservationKey


@dataclass(frozen=True, slots=True)
class RecordChange:
    """What one revision made of one record; None where it did not or does not exist."""

    key: RecordKey
    before: Record | None
    after: Record | None


@dataclass(frozen=True, slots=True)
class IntentChange:
    """The records that one revision changed and that hosts may get."""

    revision: Revision
    records: tuple[RecordChange, ...]


class Intent:
    """Every record as of one revision. Changed by the mirror, read by everyone."""

    def __init__(self) -> None:
        self._networks: dict[NetworkName, Network] = {}
        self._hosts: dict[HostId, Host] = {}
        self._blocks: defaultdict[NetworkName, dict[IpNetwork, Block]] = defaultdict(dict)
        self._endpoints: defaultdict[NetworkName, dict[EndpointKey, Endpoint]] = defaultdict(dict)
        self._reservations: defaultdict[NetworkName, dict[ReservationKey, Reservation]] = defaultdict(dict)
        self._members: defaultdict[NetworkName, Counter[HostId]] = defaultdict(Counter)
        self._blocks_by_host: defaultdict[HostId, dict[BlockKey, Block]] = defaultdict(dict)
        self._endpoints_by_host: defaultdict[HostId, dict[EndpointKey, Endpoint]] = defaultdict(dict)
        self._reservations_by_address: dict[tuple[NetworkName, IpAddress], Reservation] = {}
        self._reservations_by_holder: defaultdict[EndpointKey, dict[ReservationKey, Reservation]] = defaultdict(dict)
        self._reservations_by_host: defaultdict[HostId, dict[ReservationKey, Reservation]] = defaultdict(dict)
        self._holders_of_macs: dict[tuple[NetworkName, MacAddress], tuple[RecordKey, ...]] = {}

    @property
    def networks(self) -> Mapping[NetworkName, Network]:
        return self._networks

    @property
    def hosts(self) -> Mapping[HostId, Host]:
        return self._hosts

    def find(self, key: RecordKey) -> Record | None:
        """Return the record with this key, None when there is none."""
        match key.key:
            case str(name) if key.kind is Network:
                return self._networks.get(NetworkName(name))
            case str(name):
                return self._hosts.get(HostId(name))
            case (network, part):
                if isinstance(part, str):
                    return self._reservations_in(network).get((network, part))
                return self._blocks_in(network).get(part)
            case (network, _, _, _) as endpoint:
                return self._endpoints_in(network).get(endpoint)

    def blocks_in(self, network: NetworkName) -> Collection[Block]:
        return self._blocks_in(network).values()

    def blocks_of(self, host: HostId) -> Collection[Block]:
        return self._blocks_by_host[host].values() if host in self._blocks_by_host else ()

    def endpoints_in(self, network: NetworkName) -> Collection[Endpoint]:
        return self._endpoints_in(network).values()

    def endpoints_of(self, host: HostId) -> Collection[Endpoint]:
        return self._endpoints_by_host[host].values() if host in self._endpoints_by_host else ()

    def reservations_in(self, network: NetworkName) -> Collection[Reservation]:
        return self._reservations_in(network).values()

    def reservation_at(self, network: NetworkName, address: IpAddress) -> Reservation | None:
        """Return the reservation that has an address, None when it is not reserved for a name."""
        return self._reservations_by_address.get((network, address))

    def held_by(self, endpoint: EndpointKey) -> Collection[Reservation]:
        """Return the reservations that an interface holds."""
        return self._reservations_by_holder[endpoint].values() if endpoint in self._reservations_by_holder else ()

    def held_on(self, host: HostId) -> Collection[Reservation]:
        """Return the reservations that interfaces of a host hold."""
        return self._reservations_by_host[host].values() if host in self._reservations_by_host else ()

    def holders_of(self, network: NetworkName, mac: MacAddress) -> tuple[RecordKey, ...]:
        """Return the endpoints and reservations of a network that have a MAC.

        These are a reservation and the endpoint that holds it, or one at most; an earlier release may have stored more.
        """
        return self._holders_of_macs.get((network, mac), ())

    def reservations(self) -> list[Reservation]:
        return [reservation for table in self._reservations.values() for reservation in table.values()]

    def blocks(self) -> list[Block]:
        return [block for table in self._blocks.values() for block in table.values()]

    def endpoints(self) -> list[Endpoint]:
        return [endpoint for table in self._endpoints.values() for endpoint in table.values()]

    def members(self, network: NetworkName) -> frozenset[HostId]:
        """Return the hosts that own a block of the network."""
        return frozenset(self._members.get(network, ()))

    def networks_of(self, host: HostId) -> frozenset[NetworkName]:
        """Return the networks of which the host owns a block: those that its feed has."""
        return frozenset(block.network for block in self.blocks_of(host))

    def is_switched(self, network: NetworkName) -> bool:
        found = self._networks.get(network)
        return found is not None and found.topology is Topology.SWITCHED

    def put(self, record: Record) -> RecordChange:
        """Add a record, or replace the one with the same key."""
        change = self.remove(RecordKey.of(record))
        match record:
            case Network():
                self._networks[record.name] = record
            case Host():
                self._hosts[record.id] = record
            case Block():
                self._blocks[record.network][record.cidr] = record
                self._blocks_by_host[record.host][record.key] = record
                self._members[record.network][record.host] += 1
            case Endpoint():
                self._endpoints[record.network][record.key] = record
                self._endpoints_by_host[record.host][record.key] = record
                self._hold_mac(record.network, record.mac, change.key)
            case Reservation():
                if record.mac:
                    self._hold_mac(record.network, record.mac, change.key)
                self._reservations[record.network][record.key] = record
                for address in record.addresses:
                    self._reservations_by_address[record.network, address] = record
                if holder := _holder_of(record):
                    self._reservations_by_holder[holder][record.key] = record
                    self._reservations_by_host[holder[1]][record.key] = record
        return RecordChange(change.key, change.before, record)

    def remove(self, key: RecordKey) -> RecordChange:
        """Remove the record with this key, if it is there."""
        before = self.find(key)
        match before:
            case Network():
                del self._networks[before.name]
            case Host():
                del self._hosts[before.id]
            case Block():
                del self._blocks[before.network][before.cidr]
                del self._blocks_by_host[before.host][before.key]
                self._leave(before.network, before.host)
            case Endpoint():
                del self._endpoints[before.network][before.key]
                del self._endpoints_by_host[before.host][before.key]
                self._leave_mac(before.network, before.mac, key)
            case Reservation():
                self._remove_reservation(before, key)
        return RecordChange(key, before, None)

    def _remove_reservation(self, before: Reservation, key: RecordKey) -> None:
        if before.mac:
            self._leave_mac(before.network, before.mac, key)
        del self._reservations[before.network][before.key]
        for address in before.addresses:
            del self._reservations_by_address[before.network, address]
        if holder := _holder_of(before):
            del self._reservations_by_holder[holder][before.key]
            if not self._reservations_by_holder[holder]:
                del self._reservations_by_holder[holder]
            del self._reservations_by_host[holder[1]][before.key]
            if not self._reservations_by_host[holder[1]]:
                del self._reservations_by_host[holder[1]]

    def _leave(self, network: NetworkName, host: HostId) -> None:
        members = self._members[network]
        members[host] -= 1
        if not members[host]:
            del members[host]

    def _hold_mac(self, network: NetworkName, mac: MacAddress, key: RecordKey) -> None:
        self._holders_of_macs[network, mac] = (*self.holders_of(network, mac), key)

    def _leave_mac(self, network: NetworkName, mac: MacAddress, key: RecordKey) -> None:
        left = tuple(holder for holder in self._holders_of_macs.pop((network, mac)) if holder != key)
        if left:
            self._holders_of_macs[network, mac] = left

    def _blocks_in(self, network: NetworkName) -> dict[IpNetwork, Block]:
        return self._blocks.get(network, {})

    def _endpoints_in(self, network: NetworkName) -> dict[EndpointKey, Endpoint]:
        return self._endpoints.get(network, {})

    def _reservations_in(self, network: NetworkName) -> dict[ReservationKey, Reservation]:
        return self._reservations.get(network, {})


def _holder_of(reservation: Reservation) -> EndpointKey | None:
    """Return the interface that holds a reservation."""
    holder = reservation.holder
    return (reservation.network, holder.host, holder.container_id, holder.interface) if holder else None
