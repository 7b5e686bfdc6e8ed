"""Which address of this host's blocks an attachment gets. Pure."""

from collections.abc import Container, Sized
from dataclasses import dataclass

from overlayd.agent.attach.request import AttachRequest
from overlayd.ipam import addresses
from overlayd.model.address import Family, IpAddress
from overlayd.model.block import Block
from overlayd.model.errors import InvalidValue
from overlayd.model.network import Network


@dataclass(frozen=True, slots=True)
class Supply:
    """The blocks of one family of a network that this host holds, and the addresses of them that are taken."""

    network: Network
    family: Family
    blocks: tuple[Block, ...]
    taken: Container[IpAddress]

    def without(self, resting: Container[IpAddress]) -> Container[IpAddress]:
        """Return the addresses that are taken or in quarantine."""
        return AnyOf(self.taken, resting)


class AnyOf:
    """Several collections of addresses as one. Nothing is copied, as there may be thousands in each.

    One that is empty now is not asked later: to look for an address takes as long in it as in any other one.
    """

    def __init__(self, *parts: Container[IpAddress]) -> None:
        self._parts = tuple(part for part in parts if not isinstance(part, Sized) or part)

    def __contains__(self, address: object) -> bool:
        for part in self._parts:  # noqa: SIM110 - any() takes twice as long, for each address that is looked at
            if address in part:
                return True
        return False


def asked_address(request: AttachRequest, supply: Supply, resting: Container[IpAddress]) -> IpAddress | None:
    """Return the address that a request names, or one of the ranges that it names; None when any address will do.

    An address that is named may be in quarantine, because its user insists on it.

    Raises:
        InvalidValue: the address or the range is not one that this host can give out.
        AlreadyExists: the address is taken.
        Exhausted: no address of the ranges is free.
    """
    network, blocks, family = supply.network, supply.blocks, supply.family
    wanted = next((address for address in request.addresses if Family.of(address) is family), None)
    if wanted is not None:
        return addresses.claim(network, blocks, supply.taken, wanted)
    if ranges := asked_ranges(request, network, family):
        return addresses.free_address_within(network, blocks, supply.without(resting), ranges)
    return None


def free_address(supply: Supply, resting: Container[IpAddress], last: IpAddress | None = None) -> IpAddress:
    """Return an address that is free and not in quarantine; raise `Exhausted`. The search begins after `last`."""
    return addresses.free_address(supply.network, supply.blocks, supply.without(resting), last)


def asked_ranges(request: AttachRequest, network: Network, family: Family) -> list[tuple[IpAddress, IpAddress]]:
    """Return the ranges of a family in which an address is to lie; none when it may be any of the network's.

    Raises `InvalidValue` when one lies outside the network.
    """
    asked = [each for each in request.ranges if Family.of(each[0]) is family]
    for first, last in asked:
        pool = next((pool for pool in network.pools if first in pool.range and last in pool.range), None)
        if pool is None:
            raise InvalidValue(f"{first} to {last} lies in no range of network {network.name}", field="ranges")
        if (first, last) == (pool.range.network_address, pool.range.broadcast_address):
            return []
    return asked
