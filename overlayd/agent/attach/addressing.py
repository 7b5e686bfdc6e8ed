"""The addresses of attachments, one of each family that their network has, and their MACs."""

import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress

from overlayd.agent.attach.address_choice import AnyOf, Supply, asked_address, asked_ranges, free_address
from overlayd.agent.attach.request import AttachmentName, AttachRequest
from overlayd.agent.holdings.blocks import HeldBlocks
from overlayd.agent.holdings.reservations import HeldReservations
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.records.held_addresses import HeldAddresses
from overlayd.agent.records.quarantine import RestingAddresses
from overlayd.model.address import Family, IpAddress
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.errors import AlreadyExists, Exhausted, InvalidValue, Unavailable
from overlayd.model.ids import MacAddress, NetworkName, is_own_mac
from overlayd.model.network import Network
from overlayd.model.reservation import Reservation


class Addressing:
    """Gives out the addresses of this host's blocks, and those of reservations that are asked for."""

    def __init__(
        self,
        records: AttachmentRecords,
        blocks: HeldBlocks,
        reservations: HeldReservations,
        resting: RestingAddresses,
        held: HeldAddresses,
    ) -> None:
        self._records = records
        self._blocks = blocks
        self._reservations = reservations
        self._resting = resting
        self._held = held
        self._macs = Macs(records, reservations)
        self._busy: dict[EndpointKey, list[IpAddress]] = {}
        self._last: dict[tuple[NetworkName, Family], IpAddress] = {}

    @asynccontextmanager
    async def chosen(self, network: Network, request: AttachRequest) -> AsyncIterator[Endpoint]:
        """Choose addresses and MAC; no other attachment gets them until the end of the block.

        By then there must be a record of the endpoint, or else a reservation that was claimed is released again.

        Raises:
            InvalidValue: a requested address is not one that this host can give out.
            NotFound: there is no such reservation.
            AlreadyExists: an address or a MAC that is asked for is taken.
            InUse: this host is draining or being forgotten, or another endpoint claimed the reservation a moment later.
            Exhausted: neither this host's blocks nor the network have an address left.
            Unavailable: it takes a controller to go on, and none answers.
        """
        name, host = request.name, self._blocks.host
        key = name.key(host)
        busy = self._busy[key] = []
        try:
            async with AsyncExitStack() as held:
                named = self._reservations.asked_for(network, request.reservations, request.addresses)
                claimed = [
                    await held.enter_async_context(self._reservations.claimed(each, key))
                    for each in named
                    if not each.shared
                ]
                if request.is_handed_over:
                    busy += self._checked_held(request)
                else:
                    busy += (address for reservation in claimed for address in reservation.addresses)
                    for family in sorted(network.families - {Family.of(address) for address in busy}):
                        busy.append(await self._new_address(request, family))
                yield Endpoint(
                    network=name.network,
                    container_id=name.container_id,
                    interface=name.interface,
                    host=host,
                    addresses=tuple(sorted(busy, key=Family.of)),
                    mac=held.enter_context(self._macs.chosen(key, request.mac or _first_mac(claimed))),
                    sandbox=request.sandbox,
                    workload=request.workload,
                    shares=tuple(sorted(reservation.name for reservation in named if reservation.shared)),
                )
        finally:
            del self._busy[key]

    async def hold(
        self,
        name: AttachmentName,
        family: Family,
        wanted: IpAddress | None = None,
        intended_for: MacAddress | None = None,
    ) -> IpAddress:
        """Choose an address of a network for a runtime before it attaches; it is held until `let_go`.

        An address that a reservation holds is given to those who ask for it, and is claimed by the attachment. Of
        `name` only the network counts. With `intended_for`, the MAC of an endpoint that is to be created, the address
        is among `intended` until `settle`. Raises as `chosen` does, or `OSError` when that cannot be written.
        """
        async with self._blocks.attaching(name.network) as network:
            if family not in network.families:
                raise InvalidValue(f"network {network.name} has no IPv{family} range", field="family")
            request = AttachRequest(name, "", addresses=() if wanted is None else (wanted,))
            if wanted is not None and self._reservations.asked_for(network, (), (wanted,)):
                if wanted in self._supply(network, family).taken:
                    raise AlreadyExists(f"{wanted} is taken", field="address")
                address = wanted
            else:
                address = await self._new_address(request, family)
            self._held.put(name.network, address, intended_for)
            return address

    def has_reserved(self, request: AttachRequest) -> bool:
        """Return whether a reservation holds one of the addresses that a request names."""
        return any(self._reservations.at(request.name.network, address) for address in request.addresses)

    def held(self) -> frozenset[tuple[NetworkName, IpAddress]]:
        """Return the addresses that are held, each with its network."""
        return self._held.all()

    def intended(self) -> dict[tuple[NetworkName, IpAddress], MacAddress]:
        """Return the held addresses of endpoints that are not created yet, with the MACs these are to have."""
        return self._held.intended()

    def settle(self, network: NetworkName, address: IpAddress) -> None:
        """Record that the endpoint of a held address is created; raise `OSError` when that cannot be written."""
        if (network, address) in self._held.intended():
            self._held.put(network, address)

    def let_go(self, network: NetworkName, address: IpAddress) -> None:
        """Hold an address no longer; does nothing when it is not held."""
        self._held.remove(network, address)

    def _checked_held(self, request: AttachRequest) -> tuple[IpAddress, ...]:
        name = request.name.network
        for address in request.addresses:
            if address not in self._held.of(name):
                raise InvalidValue(f"{address} of network {name} is not held for it", field="address")
            if address in self._records.addresses(name):
                raise AlreadyExists(f"{address} of network {name} is another endpoint's", field="address")
        return request.addresses

    def lost(self, endpoint: Endpoint) -> frozenset[IpAddress]:
        """Return the addresses of an endpoint that reservations hold which it does not hold (any more)."""
        return self._reservations.lost(endpoint)

    def shared(self, endpoint: Endpoint) -> frozenset[IpAddress]:
        """Return the addresses of shared reservations for which an endpoint may speak."""
        return self._reservations.shared(endpoint)

    def has_free(self, network: Network, family: Family, *, resting: bool = False) -> bool:
        """Return whether a block of this host has a free address; one in quarantine counts only with `resting`."""
        try:
            free_address(self._supply(network, family), () if resting else self._resting.of(network.name))
        except Exhausted:
            return False
        return True

    def freed(self, endpoint: Endpoint) -> None:
        """Put the addresses of a detached endpoint into quarantine."""
        self._resting.add(endpoint.network, endpoint.addresses)

    async def _new_address(self, request: AttachRequest, family: Family) -> IpAddress:
        """Choose an address; get further blocks while those of this host have no free address outside the quarantine.

        Other attachments that wait for the same block may use it up: then the choice is repeated. While no controller
        answers, attaching goes on with addresses in quarantine.
        """
        name = request.name.network
        while True:
            try:
                return self._choose(request, family, use_resting=False)
            except Exhausted:
                if asked_ranges(request, self._blocks.network(name), family):
                    raise  # the next block need not lie in them
            try:
                await self._blocks.grow(name, family)
            except Unavailable:
                with suppress(Exhausted):
                    return self._choose(request, family, use_resting=True)
                raise
            except Exhausted as full:
                if resting := [each for each in self._resting.of(name) if Family.of(each) is family]:
                    why = f"{full.detail}; of this host's own addresses {len(resting)} rest, just freed"
                    raise Exhausted(why) from full
                raise

    def _choose(self, request: AttachRequest, family: Family, *, use_resting: bool) -> IpAddress:
        name = request.name.network
        resting = () if use_resting else self._resting.of(name)
        supply = self._supply(self._blocks.network(name), family)
        if (asked := asked_address(request, supply, resting)) is not None:
            return asked
        address = free_address(supply, resting, self._last.get((name, family)))
        self._last[name, family] = address
        return address

    def _supply(self, network: Network, family: Family) -> Supply:
        """Return this host's blocks, and the addresses of them that attachments have, unfinished ones included."""
        name = network.name
        busy = {address for (other, *_), chosen in self._busy.items() if other == name for address in chosen}
        taken = AnyOf(busy, self._records.addresses(name), self._held.of(name))
        return Supply(network, family, self._blocks.held(name, family), taken)


class Macs:
    """Gives each attachment a MAC that no other endpoint of its network has, as far as this host knows."""

    def __init__(self, records: AttachmentRecords, reservations: HeldReservations) -> None:
        self._records = records
        self._reservations = reservations
        self._given: dict[EndpointKey, MacAddress] = {}

    @contextmanager
    def chosen(self, key: EndpointKey, wanted: MacAddress | None) -> Iterator[MacAddress]:
        """Give an endpoint a MAC, which no other one gets until the end of the block.

        Raises `AlreadyExists` when another endpoint of its network has the MAC that is wanted.
        """
        if wanted is not None:
            self._check_free(key, wanted)
        self._given[key] = mac = wanted or _random_mac()
        try:
            yield mac
        finally:
            del self._given[key]

    def _check_free(self, key: EndpointKey, wanted: MacAddress) -> None:
        known = {each.key: each.mac for each in self._records.endpoints if not self._reservations.lost(each)}
        others = (
            f"container {other[2]} on this host"
            for other, mac in (known | self._given).items()
            if mac == wanted and other[0] == key[0] and other != key
        )
        holder = next(others, None) or self._reservations.holder_of_mac(wanted, key)
        if holder:
            raise AlreadyExists(f"{wanted} is the MAC of {holder} in network {key[0]}", field="mac")


def _random_mac() -> MacAddress:
    """Return a random, locally administered, unicast MAC (IEEE 802 U/L and I/G bits: 1 and 0)."""
    while True:
        octets = bytearray(os.urandom(6))
        octets[0] = (octets[0] & 0xFC) | 0x02
        mac = MacAddress(octets.hex(":"))
        if not is_own_mac(mac):
            return mac


def _first_mac(reservations: Iterable[Reservation]) -> MacAddress | None:
    return next((reservation.mac for reservation in reservations if reservation.mac), None)
