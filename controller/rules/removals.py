"""Removals of an endpoint, a block or a reservation, with what depends on it: parts of the caller's draft."""

from collections.abc import Iterable
from dataclasses import replace

from controller.journal.journal import Journal
from controller.journal.transaction_part import TransactionPart
from controller.rules import amendments
from controller.rules.macs import MacClaims
from controller.state import keys
from controller.state.address_space import Withholding
from controller.state.mirror import Mirror
from controller.store.port import Compare, DeleteKey, LeaseId, PutKey, Unmodified
from overlayd.model.address import IpAddress, IpNetwork
from overlayd.model.block import Block
from overlayd.model.cluster import RecordKey
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.ids import HostId
from overlayd.model.network import Network, NetworkState
from overlayd.model.reservation import Reservation


class Removals:
    """Makes the removals of one controller. `guarded` makes them ones of a host's."""

    def __init__(self, mirror: Mirror, journal: Journal, macs: MacClaims) -> None:
        self._mirror = mirror
        self._journal = journal
        self._macs = macs

    def guarded(self, host: HostId, parts: Iterable[TransactionPart]) -> TransactionPart:
        """Return parts about the blocks and endpoints of a host with its guard, which keeps others from them."""
        key = keys.holdings(host)
        guard = TransactionPart((self._journal.unchanged(key),), (PutKey(key, keys.EMPTY),))
        return TransactionPart.joined((guard, *parts))

    def endpoint(self, endpoint: EndpointKey, *, but: Reservation | None = None) -> TransactionPart:
        """Remove an endpoint and release the reservations that it holds, `but` one that the caller writes itself."""
        held = [reservation for reservation in self._mirror.intent.held_by(endpoint) if reservation != but]
        withdrawn = self.withdrawn(endpoint)
        return withdrawn + TransactionPart(
            tuple(self._journal.unchanged(keys.of(reservation)) for reservation in held),
            tuple(self._mirror.put(replace(reservation, holder=None)) for reservation in held),
        )

    def withdrawn(self, endpoint: EndpointKey) -> TransactionPart:
        """Remove the record of an endpoint that is still there; it keeps the reservations that it holds."""
        found = self._mirror.intent.find(RecordKey(Endpoint, endpoint))
        released = self._macs.release(found) if isinstance(found, Endpoint) else TransactionPart()
        return TransactionPart(ops=(DeleteKey(keys.endpoint(endpoint)),)) + released

    def block(self, network: Network, block: Block, lease: LeaseId) -> TransactionPart:
        """Remove a block: its addresses go into quarantine. The last block of a DELETING network takes it along."""
        key = keys.of(block)
        quarantined = PutKey(keys.withheld(block.network, block.cidr), keys.withholding(Withholding.QUARANTINE), lease)
        compares = [self._journal.unchanged(key), self._journal.unchanged(keys.network(network.name))]
        ops: list[PutKey | DeleteKey] = [DeleteKey(key), quarantined]
        if network.state is NetworkState.DELETING:
            other = next((other for other in self._mirror.intent.blocks_in(network.name) if other != block), None)
            if other is None:  # and none can come: no host acquires a block of a DELETING network
                ops += [DeleteKey(keys.network(network.name)), DeleteKey(keys.vni(network.vni))]
            else:
                # Of two hosts that release the last two blocks at once, one finds its witness gone and looks again.
                compares.append(self._journal.unchanged(keys.of(other)))
        return TransactionPart(tuple(compares), tuple(ops))

    def reservation(self, network: Network, reservation: Reservation, lease: LeaseId) -> TransactionPart:
        """Remove a reservation: its addresses go into quarantine, and with them a unit that has no other one."""
        name, gone = network.name, frozenset(reservation.addresses)
        key = keys.of(reservation)
        released = self._macs.release(reservation)
        compares: list[Compare | Unmodified] = [
            self._journal.unchanged(key),
            self._journal.unchanged(keys.network(name)),
            *released.compares,
        ]
        ops: list[PutKey | DeleteKey] = [DeleteKey(key), *released.ops]
        for address in reservation.addresses:
            ops += [DeleteKey(keys.address(name, address)), PutKey(keys.resting(name, address), keys.EMPTY, lease)]
            unit = self._mirror.occupancy.space(name).unit(address)
            if unit is None or not self._is_withheld(network, unit):
                continue
            other = self._other_in(network, unit, gone)
            if other is None:
                withheld = keys.withheld(name, unit)
                compares += [
                    self._journal.unchanged(withheld),
                    Unmodified(keys.addresses_of(name), self._mirror.revision),
                ]
                ops.append(PutKey(withheld, keys.withholding(Withholding.QUARANTINE), lease))
            else:  # a witness, as for blocks
                compares.append(self._journal.unchanged(keys.address(name, other)))
        return TransactionPart(tuple(compares), tuple(ops))

    def _is_withheld(self, network: Network, unit: IpNetwork) -> bool:
        withheld = self._mirror.occupancy.space(network.name).withheld
        return withheld.get(unit) is Withholding.RESERVATIONS

    def _other_in(self, network: Network, unit: IpNetwork, gone: frozenset[IpAddress]) -> IpAddress | None:
        """Return another address for whose sake a unit is withheld. One that the network reserves needs no unit."""
        claimed = self._mirror.occupancy.space(network.name).reserved_in(unit)
        return next(
            (each for each in claimed if each not in gone and not amendments.is_reserved(network, each)),
            None,
        )
