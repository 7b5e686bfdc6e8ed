"""The addresses of an attachment: one of each family that its network has."""

import os
from collections.abc import AsyncIterator, Container, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from overlayd.agent.holdings.blocks import HeldBlocks
from overlayd.agent.holdings.reservations import HeldReservations
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.records.quarantine import RestingAddresses
from overlayd.ipam import addresses
from overlayd.model.address import Family, IpAddress
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.errors import AlreadyExists, Exhausted, InvalidValue, Unavailable
from overlayd.model.ids import MacAddress, NetworkName, is_own_mac
from overlayd.model.network import Network
from overlayd.model.reservation import Reservation
from overlayd.wire.cni import Request
from overlayd.wire.cni_wishes import Wishes

_RANGES = "runtimeConfig.ipRanges"


class Addressing:
    """Gives out the addresses of this host's blocks, and those of reservations that are asked for."""

    def __init__(
        self,
        records: AttachmentRecords,
        blocks: HeldBlocks,
        reservations: HeldReservations,
        resting: RestingAddresses,
    ) -> None:
        self._records = records
        self._blocks = blocks
        self._reservations = reservations
        self._resting = resting
        self._busy: dict[EndpointKey, list[IpAddress]] = {}
        self._macs: dict[EndpointKey, MacAddress] = {}
        self._last: dict[tuple[NetworkName, Family], IpAddress] = {}

    @asynccontextmanager
    async def chosen(self, network: Network, request: Request, key: EndpointKey) -> AsyncIterator[Endpoint]:
        """Choose addresses and MAC; they are given to nobody else until the end of the block.

        By then there must be a record of the endpoint, or else a reservation that was claimed is released again.

        Raises:
            InvalidValue: an address that is asked for is none that this host could give out.
            NotFound: there is no such reservation.
            AlreadyExists: an address or a MAC that is asked for is taken.
            InUse: this host is to get nothing new, or somebody else claimed the reservation a moment later.
            Exhausted: neither this host's blocks nor the network have an address left.
            Unavailable: it takes a controller to go on, and none answers.
        """
        busy = self._busy[key] = []
        try:
            async with AsyncExitStack() as claims:
                named = self._reserved(network, request.wishes)
                claimed = [
                    await claims.enter_async_context(self._reservations.claimed(reservation, key))
                    for reservation in named
                    if not reservation.shared
                ]
                busy += (address for reservation in claimed for address in reservation.addresses)
                for family in sorted(network.families - {Family.of(address) for address in busy}):
                    busy.append(await self._new_address(request, family))
                self._macs[key] = self._mac(key, request.wishes.mac or _first_mac(claimed))
                yield Endpoint(
                    network=request.network,
                    container_id=request.container_id,
                    interface=request.interface,
                    host=self._blocks.host,
                    addresses=tuple(sorted(busy, key=Family.of)),
                    mac=self._macs[key],
                    sandbox=request.sandbox,
                    workload=request.wishes.workload,
                    shares=tuple(sorted(reservation.name for reservation in named if reservation.shared)),
                )
        finally:
            del self._busy[key]
            self._macs.pop(key, None)

    def lost(self, endpoint: Endpoint) -> frozenset[IpAddress]:
        """Return the addresses of an endpoint that reservations hold which it does not hold (any more)."""
        return self._reservations.lost(endpoint)

    def shared(self, endpoint: Endpoint) -> frozenset[IpAddress]:
        """Return the addresses of shared reservations for which an endpoint may speak."""
        return self._reservations.shared(endpoint)

    def has_free(self, network: Network, family: Family, *, resting: bool = False) -> bool:
        """Tell whether a block of this host has a free address; one that rests counts only with `resting`."""
        used = self._used(network.name, *(() if resting else (self._resting.of(network.name),)))
        try:
            addresses.free_address(network, self._blocks.held(network.name, family), used)
        except Exhausted:
            return False
        return True

    def freed(self, endpoint: Endpoint) -> None:
        """Let the addresses of an endpoint rest that is gone."""
        self._resting.add(endpoint.network, endpoint.addresses)

    def _reserved(self, network: Network, wishes: Wishes) -> list[Reservation]:
        """Return the reservations that are asked for, by name or by address."""
        named = [self._reservations.get(network.name, name) for name in wishes.reservations]
        own = [reservation for reservation in named if not reservation.shared]
        for address in wishes.addresses:
            family = Family.of(address)
            if family not in network.families:
                raise InvalidValue(f"{address}: network {network.name} has no IPv{family} range", field="address")
            other = next((each for one in own for each in one.addresses if Family.of(each) is family), address)
            if other != address:
                raise InvalidValue(f"{address} is not {other}, which the reservation holds", field="address")
            reservation = self._reservations.at(network.name, address)
            if reservation and reservation.shared:
                raise InvalidValue(
                    f"{address} is shared by members of reservation {reservation.name}: ask for that by its name",
                    field="address",
                )
            if reservation and reservation not in named:
                named.append(reservation)
        return named

    def _mac(self, key: EndpointKey, wanted: MacAddress | None) -> MacAddress:
        """Return the MAC of an endpoint; raise `AlreadyExists` when another one in its network has it already."""
        if wanted is None:
            return _random_mac()
        known = {each.key: each.mac for each in self._records.endpoints if not self._reservations.lost(each)}
        others = (
            f"container {other[2]} on this host"
            for other, mac in (known | self._macs).items()
            if mac == wanted and other[0] == key[0] and other != key
        )
        holder = next(others, None) or self._reservations.holder_of_mac(wanted, key)
        if holder:
            raise AlreadyExists(f"{wanted} is the MAC of {holder} in network {key[0]}", field="mac")
        return wanted

    async def _new_address(self, request: Request, family: Family) -> IpAddress:
        """Choose an address; get further blocks while those of this host are full, or all that is free rests.

        What a further block has may all be given to others that wait for it too: then the choice is repeated. While no
        controller answers, attaching goes on: then an address is used again that rests.
        """
        while True:
            try:
                return self._choose(request, family, self._resting.of(request.network))
            except Exhausted:
                if _ranges(self._blocks.network(request.network), request.wishes, family):
                    raise  # whatever block comes next need not lie in them
            try:
                await self._blocks.grow(request.network, family)
            except Unavailable:
                with suppress(Exhausted):
                    return self._choose(request, family, frozenset())
                raise
            except Exhausted as full:
                if resting := self._resting_of(request.network, family):
                    why = f"{full.detail}; of this host's own addresses {len(resting)} rest, just freed"
                    raise Exhausted(why) from full
                raise

    def _resting_of(self, network: NetworkName, family: Family) -> list[IpAddress]:
        return [address for address in self._resting.of(network) if Family.of(address) is family]

    def _choose(self, request: Request, family: Family, resting: Container[IpAddress]) -> IpAddress:
        """Choose an address; one that is asked for may rest, as whoever asks for it insists."""
        network = self._blocks.network(request.network)
        held = self._blocks.held(request.network, family)
        taken, free_of = self._used(request.network), self._used(request.network, resting)
        wanted = next((address for address in request.wishes.addresses if Family.of(address) is family), None)
        if wanted is not None:
            return addresses.claim(network, held, taken, wanted)
        if ranges := _ranges(network, request.wishes, family):
            return addresses.free_address_within(network, held, free_of, ranges)
        last = (request.network, family)
        address = addresses.free_address(network, held, free_of, self._last.get(last))
        self._last[last] = address
        return address

    def _used(self, network: NetworkName, *others: Container[IpAddress]) -> Container[IpAddress]:
        """Return what attachments have of a network, those that are being made included, and what others have."""
        busy = {address for (name, *_), chosen in self._busy.items() if name == network for address in chosen}
        return _AnyOf(busy, self._records.addresses(network), *others)


class _AnyOf:
    """Several collections of addresses as one. Nothing is copied, as there may be thousands in each."""

    def __init__(self, *parts: Container[IpAddress]) -> None:
        self._parts = parts

    def __contains__(self, address: object) -> bool:
        return any(address in part for part in self._parts)


def _ranges(network: Network, wishes: Wishes, family: Family) -> list[tuple[IpAddress, IpAddress]]:
    """Return the ranges of a family in which an address is to lie; none when it may be any of the network's.

    Raises `InvalidValue` when one lies outside the network.
    """
    asked = [(each.first, each.last) for each in wishes.ranges if each.family is family]
    for first, last in asked:
        pool = next((pool for pool in network.pools if first in pool.range and last in pool.range), None)
        if pool is None:
            raise InvalidValue(f"{first} to {last} lies in no range of network {network.name}", field=_RANGES)
        if (first, last) == (pool.range.network_address, pool.range.broadcast_address):
            return []
    return asked


def _first_mac(reservations: Iterable[Reservation]) -> MacAddress | None:
    return next((reservation.mac for reservation in reservations if reservation.mac), None)


def _random_mac() -> MacAddress:
    """Return a random, locally administered, unicast MAC (IEEE 802 U/L and I/G bits: 1 and 0)."""
    while True:
        octets = bytearray(os.urandom(6))
        octets[0] = (octets[0] & 0xFC) | 0x02
        mac = MacAddress(octets.hex(":"))
        if not is_own_mac(mac):
            return mac
