"""What of a network may change while hosts take part in it."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from controller.services.intent import Intent
from overlayd.model.address import IpAddress, IpNetwork, contains, overlap
from overlayd.model.errors import InUse, InvalidValue
from overlayd.model.network import Network, Pool


def check_fields(before: Network, after: Network) -> None:
    """Raise `InvalidValue` when an amended network differs in what never changes: it names the field."""
    for field in ("name", "vni", "topology", "state"):
        was, wanted = getattr(before, field), getattr(after, field)
        if was != wanted:
            raise InvalidValue(f"the {field} of a network never changes; it is {was}", field=field)
    lengths = {pool.range: pool.block_length for pool in before.pools}
    for index, pool in enumerate(after.pools):
        if (length := lengths.get(pool.range, pool.block_length)) != pool.block_length:
            raise InvalidValue(
                f"the blocks of {pool.range} stay /{length}; remove the range while it is empty, and add it anew",
                field=f"pools[{index}].block_length",
            )


def removed_pools(before: Network, after: Network) -> tuple[Pool, ...]:
    """Return the pools that the amended network does not have."""
    kept = {pool.range for pool in after.pools}
    return tuple(pool for pool in before.pools if pool.range not in kept)


def newly_reserved(before: Network, after: Network) -> tuple[IpNetwork, ...]:
    """Return what the amended network reserves and was not reserved."""
    covered = _collapsed(before.reserved)
    return tuple(kept for kept in after.reserved if not any(contains(whole, kept) for whole in covered))


def check_blocks(intent: Intent, before: Network, after: Network) -> None:
    """Raise `InUse` when a host owns a block of a removed pool, or one that a newly reserved range overlaps."""
    gone, kept = removed_pools(before, after), newly_reserved(before, after)
    if not gone and not kept:
        return
    for block in intent.blocks_in(before.name):
        if any(contains(pool.range, block.cidr) for pool in gone):
            raise InUse(f"block {block.cidr} belongs to host {block.host}; its range cannot go", field="pools")
        if clash := next((each for each in kept if overlap(each, block.cidr)), None):
            raise InUse(f"{clash} overlaps block {block.cidr} of host {block.host}", field="reserved")


def is_reserved(network: Network, address: IpAddress) -> bool:
    """Tell whether a network keeps an address from being given out by itself."""
    return any(address in kept for kept in network.reserved)


def _collapsed(ranges: Iterable[IpNetwork]) -> list[IpNetwork]:
    """Return the fewest ranges that hold the same addresses: a range lies in all of them if and only if in one."""
    parts = list(ranges)
    return [
        *collapse_addresses(part for part in parts if isinstance(part, IPv4Network)),
        *collapse_addresses(part for part in parts if isinstance(part, IPv6Network)),
    ]
