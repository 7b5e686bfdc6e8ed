"""The choice of a unit, a range as large as a block, for a host or for reservations."""

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_network

from controller.journal.journal import Journal
from controller.state import keys
from controller.state.address_space import Withholding
from controller.state.mirror import Mirror
from overlayd.model.address import Family, IpNetwork, contains
from overlayd.model.errors import Exhausted, InvalidValue
from overlayd.model.network import Network


def free(mirror: Mirror, journal: Journal, network: Network, family: Family) -> Iterator[IpNetwork]:
    """Yield the free units of a family, except those that drafts under way take: pool by pool, the lowest first."""
    space, prefixes = mirror.occupancy.space(network.name), (keys.blocks_of, keys.withheld_of)
    taken = {_first(unit) for prefix in prefixes for unit in journal.underway(prefix(network.name))}
    for pool in network.pools:
        if pool.family is family:
            yield from space.vacancies(pool).free(taken)


def exhausted(mirror: Mirror, network: Network, family: Family) -> Exhausted | InvalidValue:
    """Return the error that says why no unit is free, and what to do."""
    pools = [pool for pool in network.pools if pool.family is family]
    if not pools:
        return InvalidValue(f"network {network.name} has no IPv{family} range", field="family")
    withheld = mirror.occupancy.space(network.name).withheld
    resting = sum(
        reason is Withholding.QUARANTINE and any(contains(pool.range, unit) for pool in pools)
        for unit, reason in withheld.items()
    )
    taken = ", ".join(f"all {pool.capacity} blocks of {pool.range}" for pool in pools)
    suffix = f", {resting} of them by the quarantine after their release" if resting else ""
    return Exhausted(f"{taken} are taken{suffix}; add a range to network {network.name}")


@lru_cache(maxsize=1024)
def _first(cidr: str) -> tuple[int, int]:
    """Return the IP version and the first address of a range; the same few are asked for while many hosts join."""
    parsed = ip_network(cidr)
    return parsed.version, int(parsed.network_address)
