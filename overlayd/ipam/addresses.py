"""Choosing an address of a block."""

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

from overlayd.model.block import Block
from overlayd.model.errors import AlreadyExists, Exhausted, InvalidValue
from overlayd.model.network import Network, Topology


def gateway(network: Network, block: Block) -> IPv4Address | None:
    """Return the address that a switched network keeps for its gateway: the second one of its range."""
    if network.topology is Topology.ROUTED:
        return None
    return _range_of(network, block).network_address + 1


def reserved(network: Network, block: Block) -> frozenset[IPv4Address]:
    """Return the addresses of a block that no container gets.

    These are the first and the last address of the whole range (some software takes them for the network and the
    broadcast address), the gateway of a switched network, and the lowest other one, kept for the host itself.
    """
    whole = _range_of(network, block)
    kept = {whole.network_address, whole.broadcast_address, gateway(network, block)}
    host = next(address for address in block.cidr if address not in kept)
    return frozenset(address for address in (*kept, host) if address is not None and address in block.cidr)


def usable(network: Network, block: Block) -> int:
    """Return how many containers find an address in the block."""
    return block.cidr.num_addresses - len(reserved(network, block))


def free_address(
    network: Network, blocks: Iterable[Block], taken: Collection[IPv4Address], last: IPv4Address | None = None
) -> IPv4Address:
    """Return the lowest address of these blocks that is neither reserved nor taken; raise `Exhausted` otherwise.

    With `last`, the address given out before, those above it come first: what was just freed is used again as late as
    possible, as other containers may still have its old MAC in their neighbour tables.
    """
    held = list(blocks)
    for above in (None,) if last is None else (last, None):
        for block in held:
            kept = reserved(network, block)
            for address in _addresses(block.cidr, above):
                if address not in kept and address not in taken:
                    return address
    names = ", ".join(str(block.cidr) for block in held) or "no block"
    raise Exhausted(f"no free address is left for network {network.name} on this host ({names})")


def claim(
    network: Network, blocks: Iterable[Block], taken: Collection[IPv4Address], wanted: IPv4Address
) -> IPv4Address:
    """Return the wanted address if this host may give it out.

    Raises:
        InvalidValue: it lies in none of the host's blocks, or is reserved.
        AlreadyExists: another endpoint has it.
    """
    block = next((block for block in blocks if wanted in block.cidr), None)
    if block is None:
        raise InvalidValue(f"{wanted} is in no block of network {network.name} on this host", field="address")
    if wanted in reserved(network, block):
        raise InvalidValue(f"{wanted} is reserved in network {network.name}", field="address")
    if wanted in taken:
        raise AlreadyExists(f"{wanted} is taken in network {network.name}", field="address")
    return wanted


def _addresses(cidr: IPv4Network, above: IPv4Address | None) -> Iterator[IPv4Address]:
    """Yield the addresses of a range, or those above one, without walking the ones below."""
    first, end = int(cidr.network_address), int(cidr.broadcast_address) + 1
    for number in range(first if above is None else max(first, int(above) + 1), end):
        yield IPv4Address(number)


def _range_of(network: Network, block: Block) -> IPv4Network:
    return next(pool.range for pool in network.pools if block.cidr.subnet_of(pool.range))
