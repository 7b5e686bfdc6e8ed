"""Which changes of a network are allowed while hosts take part in it."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from controller.state.address_space import AddressSpace, Withholding
from controller.state.intent import Intent
from overlayd.model.address import IpAddress, IpNetwork, contains, overlap
from overlayd.model.errors import InUse, InvalidValue
from overlayd.model.network import Network, Pool
from overlayd.model.reservation import Reservation


def check_fields(before: Network, after: Network) -> None:
    """Raise `InvalidValue` when an amended network differs in what never changes: it names the field."""
    for field in ("name", "vni", "topology", "state", "gateway_number", "made_by"):
        was, wanted = getattr(before, field), getattr(after, field)
        if was != wanted:
            raise InvalidValue(f"the {field} of a network never changes; it is {was}", field=field)
    lengths = {pool.range: pool.block_length for pool in before.pools}
    for index, pool in enumerate(after.pools):
        if (length := lengths.get(pool.range, pool.block_length)) != pool.block_length:
            raise InvalidValue(
                f"the blocks of {pool.range} stay /{length}; remove the range while it is empty, and add it again",
                field=f"pools[{index}].block_length",
            )
    # Hosts get the first range only while their agents know no more than one.
    kept = [pool for pool in before.pools if pool in after.pools]
    if list(after.pools[: len(kept)]) != kept:
        raise InvalidValue("the ranges of a network keep their order, and new ones come after them", field="pools")


def removed_pools(before: Network, after: Network) -> tuple[Pool, ...]:
    """Return the pools that the amended network does not have."""
    kept = {pool.range for pool in after.pools}
    return tuple(pool for pool in before.pools if pool.range not in kept)


def newly_reserved(before: Network, after: Network) -> tuple[IpNetwork, ...]:
    """Return the ranges that the amended network reserves, and that were not reserved before."""
    covered = _collapsed(before.reserved)
    return tuple(kept for kept in after.reserved if not any(contains(whole, kept) for whole in covered))


def check_holdings(intent: Intent, space: AddressSpace, before: Network, after: Network) -> None:
    """Raise `InUse` when something is in what an amendment takes away.

    In a removed pool that is a block, an address in quarantine or a reservation; in a newly reserved range a block; in
    a range that is reserved no longer a reservation for whose address no unit is withheld.
    """
    gone, kept = removed_pools(before, after), newly_reserved(before, after)
    for block in intent.blocks_in(before.name) if gone or kept else ():
        if any(contains(pool.range, block.cidr) for pool in gone):
            raise InUse(f"block {block.cidr} belongs to host {block.host}; its range cannot go", field="pools")
        if clash := next((each for each in kept if overlap(each, block.cidr)), None):
            raise InUse(f"{clash} overlaps block {block.cidr} of host {block.host}", field="reserved")
    for reservation in intent.reservations_in(before.name):
        for address in reservation.addresses:
            _check_reservation(space, before, after, reservation, address)
    for pool in gone:
        if part := _in_quarantine(space, pool):
            raise InUse(f"{part} is in quarantine after its release; its range cannot go yet", field="pools")


def _check_reservation(
    space: AddressSpace, before: Network, after: Network, reservation: Reservation, address: IpAddress
) -> None:
    if not any(address in pool.range for pool in after.pools):
        raise InUse(f"{address} belongs to reservation {reservation.name}; its range cannot go", field="pools")
    if is_reserved(before, address) and not is_reserved(after, address):
        unit = space.unit(address)
        if unit is None or space.withheld.get(unit) is not Withholding.RESERVATIONS:
            raise InUse(
                f"{address} belongs to reservation {reservation.name}, and hosts may get the block around it",
                field="reserved",
            )


def _in_quarantine(space: AddressSpace, pool: Pool) -> IpNetwork | IpAddress | None:
    unit = next((unit for unit in space.withheld if contains(pool.range, unit)), None)
    return unit or next((address for address in space.resting if address in pool.range), None)


def is_reserved(network: Network, address: IpAddress) -> bool:
    """Return whether a network reserves an address, so that it is never given out automatically."""
    return any(address in kept for kept in network.reserved)


def _collapsed(ranges: Iterable[IpNetwork]) -> list[IpNetwork]:
    """Return the fewest ranges that hold the same addresses: a range lies in all of them if and only if in one."""
    parts = list(ranges)
    return [
        *collapse_addresses(part for part in parts if isinstance(part, IPv4Network)),
        *collapse_addresses(part for part in parts if isinstance(part, IPv6Network)),
    ]
