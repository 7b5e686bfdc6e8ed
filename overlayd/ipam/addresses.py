"""Choosing a container's address from the blocks of its host."""

from collections.abc import Container, Iterable, Iterator
from itertools import product

from overlayd.model.address import IpAddress, IpNetwork, contains
from overlayd.model.block import Block
from overlayd.model.errors import AlreadyExists, Exhausted, InvalidValue
from overlayd.model.network import Network, Pool


def gateway(network: Network, block: Block) -> IpAddress | None:
    """Return the address that a switched network keeps for its gateway: the second one of the block's range."""
    return network.gateway(_pool(network, block.cidr))


def special(network: Network, part: IpNetwork) -> frozenset[IpAddress]:
    """Return the addresses of a pool that no container may have; `part` is any range inside that pool."""
    return network.special(_pool(network, part))


def reserved(network: Network, block: Block) -> frozenset[IpAddress]:
    """Return the addresses of a block that no container gets, without those that the administrator reserved.

    These are the special addresses of the pool, and the lowest other one, which the host itself has.
    """
    return reserved_of(network, block.cidr)


def reserved_of(network: Network, cidr: IpNetwork) -> frozenset[IpAddress]:
    """Return the same as `reserved`, for a range that may become a block."""
    pool = _pool(network, cidr)
    kept = (*network.special(pool), network.host_address(pool, cidr))
    return frozenset(address for address in kept if address in cidr)


def usable(network: Network, block: Block) -> int:
    """Return how many addresses of the block containers can have."""
    return sum(end - first for first, end in spans(network, block.cidr))


def is_usable(network: Network, cidr: IpNetwork) -> bool:
    """Return whether a block has at least one address for a container."""
    return next(spans(network, cidr), None) is not None


def spans(network: Network, cidr: IpNetwork) -> Iterator[tuple[int, int]]:
    """Yield the addresses of a block that containers may have, as half-open intervals in ascending order."""
    kept = [(int(address), int(address) + 1) for address in reserved_of(network, cidr)]
    kept += [_span(each) for each in network.reserved if contains(each, cidr) or contains(cidr, each)]
    first, last = _span(cidr)
    for start, end in sorted(kept):
        if first < start:
            yield first, min(start, last)
        first = max(first, end)
    if first < last:
        yield first, last


def free_address(
    network: Network, blocks: Iterable[Block], taken: Container[IpAddress], last: IpAddress | None = None
) -> IpAddress:
    """Return the lowest address of these blocks that is neither reserved nor taken; raise `Exhausted` otherwise.

    All blocks are of one family. With `last`, the most recently allocated address, the search starts above it and wraps
    around: a freed address is reused as late as possible, because other containers may still have its old MAC in their
    neighbour tables.
    The cost grows with the addresses taken and not with the size of the blocks; the first search looks at no block that
    ends below `last`.
    """
    held = list(blocks)
    for above in (-1,) if last is None else (int(last), -1):
        for block in held:
            if int(block.cidr.broadcast_address) <= above:
                continue
            for address in _usable(network, block, above):
                if address not in taken:
                    return address
    names = ", ".join(str(block.cidr) for block in held) or "no block"
    raise Exhausted(f"no free address is left for network {network.name} on this host ({names})")


def free_address_within(
    network: Network,
    blocks: Iterable[Block],
    taken: Container[IpAddress],
    ranges: Iterable[tuple[IpAddress, IpAddress]],
) -> IpAddress:
    """Return the lowest free address of these blocks that lies in a range (first and last address); raise `Exhausted`.

    The cost grows with the addresses taken and not with the size of the blocks or of the ranges.
    """
    limits = [(int(first), int(last) + 1) for first, last in ranges]
    for block in blocks:
        for (first, end), (start, stop) in product(spans(network, block.cidr), sorted(limits)):
            for number in range(max(first, start), min(end, stop)):
                if (address := block.family.address(number)) not in taken:
                    return address
    raise Exhausted(f"no free address of network {network.name} on this host is in the ranges that are asked for")


def claim(network: Network, blocks: Iterable[Block], taken: Container[IpAddress], wanted: IpAddress) -> IpAddress:
    """Return the wanted address if this host may give it out.

    Raises:
        InvalidValue: it lies in none of the host's blocks, or is reserved.
        AlreadyExists: another endpoint has it.
    """
    block = next((block for block in blocks if wanted in block.cidr), None)
    if block is None:
        raise InvalidValue(f"{wanted} is in no block of network {network.name} on this host", field="address")
    if not any(first <= int(wanted) < end for first, end in spans(network, block.cidr)):
        raise InvalidValue(f"{wanted} is reserved in network {network.name}", field="address")
    if wanted in taken:
        raise AlreadyExists(f"{wanted} is taken in network {network.name}", field="address")
    return wanted


def _usable(network: Network, block: Block, above: int) -> Iterator[IpAddress]:
    """Yield the addresses above the number `above` that containers may have; the lower ones cost nothing."""
    address = block.family.address
    for first, end in spans(network, block.cidr):
        for number in range(max(first, above + 1), end):
            yield address(number)


def _span(cidr: IpNetwork) -> tuple[int, int]:
    return int(cidr.network_address), int(cidr.broadcast_address) + 1


def _pool(network: Network, cidr: IpNetwork) -> Pool:
    pool = network.pool_of(cidr)
    if pool is None:
        raise InvalidValue(f"block {cidr} lies in no range of network {network.name}", field="cidr")
    return pool
