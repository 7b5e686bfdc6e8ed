"""Choosing a block of a pool."""

from collections.abc import Collection
from ipaddress import IPv4Network

from netaddr import IPNetwork, IPSet

from overlayd.model.errors import Exhausted
from overlayd.model.network import BLOCK_LENGTH_MAX, Pool

_COMMON_LENGTH = 26
"""Room for some 60 containers: most hosts need one block, and a /16 has blocks for 1024 hosts."""


def default_block_length(whole: IPv4Network) -> int:
    """Return the prefix length of blocks for a range nobody chose one for: /26, or longer so that four blocks fit."""
    return min(BLOCK_LENGTH_MAX, max(_COMMON_LENGTH, whole.prefixlen + 2))


def free_block(pool: Pool, taken: Collection[IPv4Network]) -> IPv4Network:
    """Return the lowest block of the pool that overlaps none of `taken`; raise `Exhausted` when there is none.

    The cost grows with the number of taken blocks and not with the size of the pool.
    """
    free = IPSet([_netaddr(pool.range)]) - IPSet([_netaddr(block) for block in taken])
    for part in free.iter_cidrs():
        if part.prefixlen <= pool.block_length:
            return IPv4Network((part.first, pool.block_length))
    raise Exhausted(f"all {pool.capacity} blocks of {pool.range} are taken")


def _netaddr(network: IPv4Network) -> IPNetwork:
    return IPNetwork((int(network.network_address), network.prefixlen), version=4)
