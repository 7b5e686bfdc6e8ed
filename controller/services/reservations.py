"""Reservations: addresses that are held for a name, and go with it from host to host."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address

from controller.journal.actor import Requester
from controller.journal.journal import TransactionDraft, Written
from controller.journal.transaction_part import TransactionPart
from controller.rules import amendments, free_units
from controller.rules.free_choice import FreeChoice
from controller.rules.wiring import RuleParts
from controller.services.hosts import Hosts
from controller.services.networks import Networks
from controller.state import keys
from controller.state.address_space import Withholding
from controller.store.port import LeaseId, PutKey
from overlayd.ipam import addresses as ipam
from overlayd.model import ids
from overlayd.model.address import Family, IpAddress, IpNetwork, overlap
from overlayd.model.block import Block
from overlayd.model.cluster import RecordKey
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import AlreadyExists, InUse, InvalidValue, NotFound
from overlayd.model.host import HostState
from overlayd.model.ids import MacAddress, NetworkName, ReservationName, Revision
from overlayd.model.network import Network, NetworkState, Topology
from overlayd.model.reservation import Holder, Reservation


class _UnitNeeded(Exception):
    """No unit that is withheld for reservations has a free address."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """An address, and what it takes to reserve it beside its own key."""

    address: IpAddress
    part: TransactionPart


class Reservations:
    """The reservations of the cluster.

    An address is either in a block, and the host's to give out, or in a unit that is withheld from all hosts, and for
    reservations; what the network reserves is for reservations wherever it is.
    """

    def __init__(self, rules: RuleParts, networks: Networks, hosts: Hosts) -> None:
        self._mirror = rules.mirror
        self._journal = rules.journal
        self._quarantine = rules.quarantine
        self._chance = rules.chance
        self._recovery = rules.recovery
        self._removals = rules.removals
        self._macs = rules.macs
        self._networks = networks
        self._hosts = hosts
        self._withholding = asyncio.Lock()

    def select(self, network: NetworkName | None) -> list[Reservation]:
        """Return the reservations of a network, or all."""
        intent = self._mirror.intent
        return intent.reservations() if network is None else list(intent.reservations_in(network))

    def get(self, network: NetworkName, name: ReservationName) -> Reservation:
        """Return a reservation; raise `NotFound`."""
        found = self._mirror.intent.find(RecordKey(Reservation, (self._networks.get(network).name, name)))
        if not isinstance(found, Reservation):
            raise NotFound(f"there is no reservation {ids.quoted(name)} in network {network}", field="reservation")
        return found

    async def create(  # noqa: PLR0913, PLR0917 - what there is to know of a reservation
        self,
        by: Requester,
        network: NetworkName,
        name: ReservationName,
        addresses: Sequence[IpAddress] = (),
        families: Sequence[Family] = (),
        mac: MacAddress | None = None,
        *,
        shared: bool = False,
    ) -> Written[Reservation]:
        """Reserve these addresses, and a free one of each further family; of each that the network has, by default.

        Raises `NotFound`, `InvalidValue` (`shared` in a routed network, where announcements reach no other host),
        `AlreadyExists` (fields `name`, `addresses[0]`, `mac`), `InUse` when a host owns the block around an address or
        it is in quarantine, or `Exhausted`.
        """

        def draft(choice: FreeChoice, *, new_units: bool) -> TransactionDraft[Reservation]:
            self._recovery.refuse()
            found = self._networks.get(network)
            self._refuse_new(found, name, mac, shared=shared)
            choice.attempt()
            claims = [self._wanted(found, address, f"addresses[{index}]") for index, address in enumerate(addresses)]
            missing = {*(families or (() if addresses else found.families))} - {*map(Family.of, addresses)}
            claims += [self._free(found, family, choice, new_units=new_units) for family in sorted(missing)]
            reservation = Reservation(network, name, tuple(claim.address for claim in claims), mac, shared=shared)
            return TransactionDraft.of(self._made(reservation, claims), reservation)

        try:
            return await self._journal.write(by, partial(draft, FreeChoice(self._chance), new_units=False))
        except _UnitNeeded:
            # One at a time: the others then find room in the unit that the first one withheld.
            async with self._withholding:
                return await self._journal.write(by, partial(draft, FreeChoice(self._chance), new_units=True))

    async def update(
        self,
        by: Requester,
        network: NetworkName,
        name: ReservationName,
        change: Callable[[Reservation], Reservation],
        expected: Revision | None = None,
    ) -> Written[Reservation]:
        """Amend a reservation, of which only the MAC can change; it counts from the next attachment on.

        `expected` is the modification revision of the reservation that the caller saw. Raises `NotFound`, `Stale`,
        `InvalidValue`, or `AlreadyExists` when another one has the MAC.
        """

        def draft() -> TransactionDraft[Reservation]:
            found = self.get(network, name)
            key = keys.of(found)
            self._journal.expect(key, expected)
            amended = change(found)
            for field in ("network", "name", "addresses", "holder", "shared"):
                if getattr(amended, field) != getattr(found, field):
                    raise InvalidValue(f"the {field} of a reservation cannot be set", field=field)
            if amended == found:
                return TransactionDraft(found)
            if amended.mac is not None:
                self._macs.check_reservation(network, amended.mac, found)
            record = TransactionPart((self._journal.unchanged(key),), (self._mirror.put(amended),))
            return TransactionDraft.of(record + self._macs.claim(amended) + self._macs.release(found), amended)

        await self._journal.reach(expected)
        return await self._journal.write(by, draft)

    async def delete(
        self, by: Requester, network: NetworkName, name: ReservationName, expected: Revision | None = None
    ) -> Written[None]:
        """Remove a reservation; its addresses go into quarantine.

        Raises `NotFound`, `Stale`, or `InUse` while a container holds it.
        """

        def draft(lease: LeaseId) -> TransactionDraft[None]:
            found = self.get(network, name)
            self._journal.expect(keys.of(found), expected)
            if found.holder:
                raise InUse(
                    f"container {found.holder.container_id} on host {found.holder.host} holds reservation {name};"
                    f" detach it, or release it (overlayctl reservation release {network} {name})"
                )
            return TransactionDraft.of(self._removals.reservation(self._networks.get(network), found, lease), None)

        await self._journal.reach(expected)
        return await self._quarantine.write(by, draft)

    async def claim(
        self, by: Requester, network: NetworkName, name: ReservationName, holder: Holder
    ) -> Written[Reservation]:
        """Give a reservation to an interface, wherever it was: the last claim wins.

        The endpoint that had its addresses so far goes at once. Of a shared one it stays, and so does its right to
        claim them back. Raises `NotFound`, `InUse` when the host is to get nothing new, `AlreadyExists` when the
        interface holds another reservation of the same family, or `InvalidValue` when it is no member of a shared one.
        """

        def draft() -> TransactionDraft[Reservation]:
            found, host = self.get(network, name), self._hosts.get(holder.host)
            # What floats among containers that are there is nothing new to a host that drains.
            if host.state is HostState.FORGETTING or (host.state is HostState.DRAINING and not found.shared):
                raise InUse(f"host {host.name} is {host.state} and gets no reservation", field="host")
            if found.holder == holder:
                return TransactionDraft(found)
            if found.shared:
                return self._floated(found, holder)
            self._recovery.refuse()
            self._refuse_second(found, holder)
            return self._handed_over(found, holder, keys.host(host.id))

        return await self._journal.write(by, draft)

    async def release(
        self, by: Requester, network: NetworkName, name: ReservationName, holder: Holder | None = None
    ) -> Written[Reservation]:
        """Take a reservation from an interface, None: from whichever has it; its endpoint goes with it.

        Nothing happens when another interface holds it, or none. Raises `NotFound`.
        """

        def draft() -> TransactionDraft[Reservation]:
            found = self.get(network, name)
            if found.holder is None or holder not in (None, found.holder):
                return TransactionDraft(found)
            return self._handed_over(found, None)

        return await self._journal.write(by, draft)

    async def restore(self, by: Requester, said: Reservation) -> None:
        """Restore a reservation and its holder as a host states them; the store may have lost it.

        A reservation that exists is handed over to the holder that the host states.

        Raises `NotFound`, or the reason why it cannot be restored: `InvalidValue`, `AlreadyExists`, `InUse`.
        """

        def draft() -> TransactionDraft[None]:
            network = self._networks.get(said.network)
            found = self._mirror.intent.find(RecordKey(Reservation, said.key))
            if isinstance(found, Reservation):
                if found.addresses != said.addresses:
                    raise AlreadyExists(f"it has {', '.join(map(str, found.addresses))} by now", field="addresses")
                if found.holder == said.holder:
                    return TransactionDraft(None)
                handed = self._handed_over(found, said.holder)
                return TransactionDraft(None, handed.compares, handed.ops)
            claims = [self._wanted(network, each, f"addresses[{n}]") for n, each in enumerate(said.addresses)]
            if said.mac is not None:
                self._macs.check_reservation(said.network, said.mac, said)
            return TransactionDraft.of(self._made(said, claims), None)

        await self._journal.write(by, draft)

    def _refuse_new(self, network: Network, name: ReservationName, mac: MacAddress | None, *, shared: bool) -> None:
        """Raise why a network cannot have such a new reservation, whatever its addresses."""
        if network.state is NetworkState.DELETING:
            raise InUse(f"network {network.name} is being deleted", field="network")
        if self._mirror.mod_revision(keys.reservation(network.name, name)):
            raise AlreadyExists(f"network {network.name} has a reservation {name}", field="name")
        if mac is not None:
            self._macs.check_reservation(network.name, mac, None)
        if shared and network.topology is Topology.ROUTED:
            raise InvalidValue(
                f"network {network.name} is routed; only a switched one can share addresses", field="shared"
            )

    def _made(self, reservation: Reservation, claims: Sequence[_Claim]) -> TransactionPart:
        """Return the write that makes a reservation with the addresses of these claims."""
        compared = (keys.of(reservation), keys.network(reservation.network))
        name, holder = reservation.network, keys.claim(reservation.name)
        record = TransactionPart(
            tuple(self._journal.unchanged(key) for key in compared),
            (
                self._mirror.put(reservation),
                *(PutKey(keys.address(name, claim.address), holder) for claim in claims),
            ),
        )
        return TransactionPart.joined((record, *(claim.part for claim in claims), self._macs.claim(reservation)))

    def _wanted(self, network: Network, address: IpAddress, field: str) -> _Claim:
        """Return the claim of an address that the request names."""
        space = self._mirror.occupancy.space(network.name)
        unit = space.unit(address)
        if unit is None:
            raise InvalidValue(f"{address} lies in no range of network {network.name}", field=field)
        if address in ipam.special(network, unit):
            raise InvalidValue(f"{address} is the network, broadcast or gateway address of its range", field=field)
        if holder := self._mirror.intent.reservation_at(network.name, address):
            raise AlreadyExists(f"{address} belongs to reservation {holder.name}", field=field)
        if address in space.resting:
            raise InUse(f"{address} was reserved until a moment ago, and is in quarantine", field=field)
        if amendments.is_reserved(network, address):
            if address in ipam.reserved_of(network, unit):
                raise InvalidValue(f"{address} is kept for the host that gets {unit}", field=field)
            return self._claim_of(network, address, None)
        if isinstance(block := self._mirror.intent.find(RecordKey(Block, (network.name, unit))), Block):
            raise InUse(f"{address} is in block {block.cidr} of host {block.host}", field=field)
        if space.withheld.get(unit) is Withholding.QUARANTINE:
            raise InUse(f"{address} is in {unit}, which is in quarantine after its release", field=field)
        if claimant := next((each for part, each in space.claimants.items() if overlap(part, unit)), None):
            raise InUse(f"{address} is in {unit}, which host {claimant.host} uses", field=field)
        return self._claim_of(network, address, unit)

    def _free(self, network: Network, family: Family, choice: FreeChoice, *, new_units: bool) -> _Claim:
        """Return the claim of a free address, in a new unit if need be; raise `_UnitNeeded` when that may not be."""
        space = self._mirror.occupancy.space(network.name)
        underway = (ip_address(text) for text in self._journal.underway(keys.addresses_of(network.name)))
        taken = {int(address) for address in underway if Family.of(address) is family}
        number = choice.among(number for number in space.reservable(family) if number not in taken)
        if number is not None:
            address = family.address(number)
            return self._claim_of(network, address, space.unit(address))
        if not new_units:
            raise _UnitNeeded
        unit = choice.among(free_units.free(self._mirror, self._journal, network, family))
        if unit is None:
            raise free_units.exhausted(self._mirror, network, family)
        first, _ = next(ipam.spans(network, unit))
        return self._claim_of(network, family.address(first), unit)

    def _claim_of(self, network: Network, address: IpAddress, unit: IpNetwork | None) -> _Claim:
        """Return the claim of a free address; its unit, if it needs one, becomes or stays one of reservations."""
        claim = self._journal.unchanged(keys.address(network.name, address))
        if unit is None:
            return _Claim(address, TransactionPart((claim,)))
        withheld = keys.withheld(network.name, unit)
        compares = (claim, self._journal.unchanged(withheld), self._journal.unchanged(keys.block(network.name, unit)))
        if unit in self._mirror.occupancy.space(network.name).withheld:
            return _Claim(address, TransactionPart(compares))
        put = PutKey(withheld, keys.withholding(Withholding.RESERVATIONS))
        return _Claim(address, TransactionPart(compares, (put,)))

    def _refuse_second(self, reservation: Reservation, holder: Holder) -> None:
        families = {Family.of(address) for address in reservation.addresses}
        for other in self._mirror.intent.held_by(
            (reservation.network, holder.host, holder.container_id, holder.interface)
        ):
            if not other.shared and families & {Family.of(address) for address in other.addresses}:
                raise AlreadyExists(
                    f"{holder.interface} of container {holder.container_id} holds reservation {other.name} already",
                    field="holder",
                )

    def _floated(self, reservation: Reservation, holder: Holder) -> TransactionDraft[Reservation]:
        """Return the draft of another holder of a shared reservation; raise `InvalidValue` if that is no member."""
        key = (reservation.network, holder.host, holder.container_id, holder.interface)
        member = self._mirror.intent.find(RecordKey(Endpoint, key))
        if not isinstance(member, Endpoint) or reservation.name not in member.shares:
            raise InvalidValue(
                f"{holder.interface} of container {holder.container_id} is no member of reservation {reservation.name}",
                field="holder",
            )
        held = replace(reservation, holder=holder)
        compared = (keys.of(reservation), keys.endpoint(key), keys.holdings(holder.host), keys.host(holder.host))
        # The endpoint takes the reservation along when it goes: that must not miss this claim.
        ops = (self._mirror.put(held), PutKey(keys.holdings(holder.host), keys.EMPTY))
        return TransactionDraft(held, tuple(self._journal.unchanged(each) for each in compared), ops)

    def _handed_over(
        self, reservation: Reservation, holder: Holder | None, *guards: str
    ) -> TransactionDraft[Reservation]:
        """Return the draft of another holder, without the endpoint that had the addresses until now."""
        handed = replace(reservation, holder=holder)
        compared, parts = [keys.of(reservation), *guards], list[TransactionPart]()
        if former := reservation.holder:
            endpoint = (reservation.network, former.host, former.container_id, former.interface)
            compared.append(keys.endpoint(endpoint))
            published = self._mirror.intent.find(RecordKey(Endpoint, endpoint))
            if isinstance(published, Endpoint) and not set(published.addresses).isdisjoint(reservation.addresses):
                parts.append(self._removals.guarded(former.host, [self._removals.endpoint(endpoint, but=reservation)]))
        record = TransactionPart(tuple(map(self._journal.unchanged, compared)), (self._mirror.put(handed),))
        return TransactionDraft.of(TransactionPart.joined((record, *parts)), handed)
