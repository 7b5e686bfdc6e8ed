"""Which addresses of one network are given out, withheld or free; follows each change of the store."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

from overlayd.ipam import addresses
from overlayd.ipam.free_blocks import FreeBlocks, FreeNumbers
from overlayd.model.address import Family, IpAddress, IpNetwork
from overlayd.model.ids import HostId, Vni
from overlayd.model.network import Network, Pool


class Withholding(StrEnum):
    """The reason why no host may get a unit, a range as large as a block.

    In QUARANTINE are those given back, until their leases end; those of RESERVATIONS have a reserved address at least;
    those that are CLAIMED are used by a host, of which the store had lost that or the network.
    """

    QUARANTINE = "quarantine"
    RESERVATIONS = "reservations"
    CLAIMED = "claimed"


@dataclass(frozen=True, slots=True)
class Claimant:
    """The host that uses a unit, and the VNI by which it knows the network."""

    host: HostId
    vni: Vni


class AddressSpace:
    """The addresses of a network. Allocations may be known before the network is, and after it was deleted."""

    def __init__(self) -> None:
        self._network: Network | None = None
        self._blocks: set[IpNetwork] = set()
        self._withheld: dict[IpNetwork, Withholding] = {}
        self._claimants: dict[IpNetwork, Claimant] = {}
        self._claims: set[IpAddress] = set()
        self._resting: set[IpAddress] = set()
        self._vacancies: dict[IpNetwork, FreeBlocks] = {}
        self._reservable: dict[Family, FreeNumbers] = {}
        self._claims_by_unit: dict[IpNetwork, set[IpAddress]] = {}
        self._misfits: set[IpNetwork] = set()

    @property
    def is_empty(self) -> bool:
        return not (self._network or self._blocks or self._withheld or self._claims or self._resting)

    @property
    def withheld(self) -> Mapping[IpNetwork, Withholding]:
        """The units that no host may get."""
        return self._withheld

    @property
    def claimants(self) -> Mapping[IpNetwork, Claimant]:
        """The hosts that use withheld units, which may be of any size."""
        return self._claimants

    @property
    def resting(self) -> AbstractSet[IpAddress]:
        """The addresses of deleted reservations, in quarantine."""
        return self._resting

    def vacancies(self, pool: Pool) -> FreeBlocks:
        """Return the free units of a pool of the network."""
        return self._vacancies[pool.range]

    def unit(self, address: IpAddress) -> IpNetwork | None:
        """Return the unit in which an address lies, None when it is in no pool."""
        pool = self._pool(address)
        return self._vacancies[pool.range].around(address) if pool else None

    def reserved_in(self, unit: IpNetwork) -> AbstractSet[IpAddress]:
        """Return the addresses of reservations in a unit."""
        return self._claims_by_unit.get(unit, frozenset())

    def reservable(self, family: Family) -> Iterator[int]:
        """Yield the free addresses, as integers, of the units that are withheld for reservations, the lowest first."""
        return iter(self._reservable.get(family, ()))

    def set_network(self, network: Network | None) -> None:
        """Apply a change of the network; None means that it was deleted."""
        known, self._network = self._network, network
        if not (known and network) or (known.pools, known.reserved) != (network.pools, network.reserved):
            self._rebuild()

    def set_block(self, unit: IpNetwork, *, there: bool) -> None:
        """Record which host has a unit; None means that no host has it."""
        if there:
            self._blocks.add(unit)
            self._take(unit)
        else:
            self._blocks.discard(unit)
            self._give(unit)

    def set_withheld(self, unit: IpNetwork, reason: Withholding | None, claimant: Claimant | None = None) -> None:
        """Record why a unit is withheld, and for which host if for one; or that it is not withheld."""
        before = self._withheld.pop(unit, None)
        self._claimants.pop(unit, None)
        if claimant:
            self._claimants[unit] = claimant
        if before is Withholding.RESERVATIONS and reason is not before:
            self._close(unit)
        if reason is None:
            self._give(unit)
            return
        self._withheld[unit] = reason
        self._take(unit)
        if reason is Withholding.RESERVATIONS:
            self._open(unit)

    def set_claim(self, address: IpAddress, *, there: bool) -> None:
        """Record which reservation has an address; None means that no reservation has it."""
        unit = self.unit(address)
        if there:
            self._claims.add(address)
        else:
            self._claims.discard(address)
        if unit:
            self._assign(address, unit, there=there)
            self._offer(address, unit)

    def set_resting(self, address: IpAddress, *, there: bool) -> None:
        """Record whether an address is in quarantine."""
        if there:
            self._resting.add(address)
        else:
            self._resting.discard(address)
        if unit := self.unit(address):
            self._offer(address, unit)

    def _rebuild(self) -> None:
        network, self._misfits, self._claims_by_unit = self._network, set(), {}
        self._vacancies = {pool.range: FreeBlocks(network, pool) for pool in network.pools} if network else {}
        self._reservable = {family: FreeNumbers(0, 0) for family in Family}
        for taken in (*self._blocks, *self._withheld):
            self._take(taken)
        for address in self._claims:
            if unit := self.unit(address):
                self._assign(address, unit, there=True)
        for withheld, reason in self._withheld.items():
            if reason is Withholding.RESERVATIONS:
                self._open(withheld)

    def _take(self, unit: IpNetwork) -> None:
        if vacancies := self._fitting(unit):
            vacancies.take(unit)
            return
        # Left by a network of the same name before this one, whose blocks had another size.
        self._misfits.add(unit)
        for overlapped in self._vacancies.values():
            overlapped.take(unit)

    def _give(self, unit: IpNetwork) -> None:
        if unit in self._blocks or unit in self._withheld:
            return
        if self._misfits:
            self._rebuild()  # for what a misfit overlaps may be taken by others too
        elif vacancies := self._fitting(unit):
            vacancies.give(unit)

    def _fitting(self, unit: IpNetwork) -> FreeBlocks | None:
        """Return the vacancies of the pool that has exactly this unit."""
        pool = self._network.pool_of(unit) if self._network else None
        return self._vacancies[pool.range] if pool and pool.block_length == unit.prefixlen else None

    def _open(self, unit: IpNetwork) -> None:
        """Offer the free addresses of a unit to reservations."""
        if self._network and self._fitting(unit):
            reservable = self._reservable[Family.of(unit)]
            for first, end in addresses.spans(self._network, unit):
                reservable.give(first, end)
            for address in (*self.reserved_in(unit), *(each for each in self._resting if each in unit)):
                reservable.take(int(address), int(address) + 1)

    def _close(self, unit: IpNetwork) -> None:
        first, last = int(unit.network_address), int(unit.broadcast_address)
        if self._reservable:
            self._reservable[Family.of(unit)].take(first, last + 1)

    def _assign(self, address: IpAddress, unit: IpNetwork, *, there: bool) -> None:
        claims = self._claims_by_unit.setdefault(unit, set())
        if there:
            claims.add(address)
        else:
            claims.discard(address)
        if not claims:
            del self._claims_by_unit[unit]

    def _offer(self, address: IpAddress, unit: IpNetwork) -> None:
        """Offer an address to reservations, or withdraw it."""
        number, reservable = int(address), self._reservable[Family.of(address)]
        if address in self._claims or address in self._resting:
            reservable.take(number, number + 1)
        elif (
            self._network
            and self._withheld.get(unit) is Withholding.RESERVATIONS
            and any(first <= number < end for first, end in addresses.spans(self._network, unit))
        ):
            reservable.give(number, number + 1)

    def _pool(self, address: IpAddress) -> Pool | None:
        pools = self._network.pools if self._network else ()
        return next((pool for pool in pools if address in pool.range), None)
