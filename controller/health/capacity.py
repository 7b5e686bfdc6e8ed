"""How much of the address space, the VNIs and the host numbers is allocated, and the alarms about that.

Alarms are cheap and evaluated all the time; the figures of a network need a look at each of its blocks.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from controller.state.address_space import Withholding
from controller.state.mirror import Mirror
from overlayd.model.address import Family, IpNetwork
from overlayd.model.ids import HOST_NUMBER_MAX, VNI_MAX, NetworkName
from overlayd.model.network import Network

WARNING_AT, CRITICAL_AT = 80, 95
"""Per cent of what can be given out."""


class Level(StrEnum):
    """The level of an alarm."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class CapacitySupply:
    """How many units of a resource can be allocated, and how many are, including withheld ones and the quarantine."""

    total: int
    taken: int

    @property
    def level(self) -> Level | None:
        """The level of the alarm, None below the first level."""
        if self.taken * 100 >= self.total * CRITICAL_AT:
            return Level.CRITICAL
        return Level.WARNING if self.taken * 100 >= self.total * WARNING_AT else None


@dataclass(frozen=True, slots=True)
class Alarm:
    """A resource that is nearly used up. `network` is None for a resource that all networks share."""

    level: Level
    network: NetworkName | None
    subject: str
    supply: CapacitySupply
    advice: str


@dataclass(frozen=True, slots=True)
class PoolCapacity:
    """How the blocks of one pool are used; those that are `reserved` go to no host."""

    range: IpNetwork
    block_length: int
    total: int
    used: int
    quarantined: int
    withheld: int
    reserved: int
    free: int


@dataclass(frozen=True, slots=True)
class NetworkCapacity:
    """The pools of a network, and the supply of blocks of each family that it has."""

    network: NetworkName
    pools: tuple[PoolCapacity, ...]
    families: tuple[tuple[Family, CapacitySupply], ...]


@dataclass(frozen=True, slots=True)
class Capacity:
    """The capacity of the whole cluster."""

    networks: tuple[NetworkCapacity, ...]
    vnis: CapacitySupply
    host_numbers: CapacitySupply


def of_cluster(mirror: Mirror) -> Capacity:
    """Return the capacity of the cluster."""
    networks = sorted(mirror.intent.networks.values(), key=lambda network: network.name)
    return Capacity(tuple(of_network(mirror, network) for network in networks), vnis(mirror), host_numbers(mirror))


def of_network(mirror: Mirror, network: Network) -> NetworkCapacity:
    """Return the capacity of a network's ranges."""
    space = mirror.occupancy.space(network.name)
    used = Counter(network.pool_of(block.cidr) for block in mirror.intent.blocks_in(network.name))
    withheld = Counter((network.pool_of(unit), reason) for unit, reason in space.withheld.items())
    pools = []
    for pool in network.pools:
        vacancies = space.vacancies(pool)
        pools.append(
            PoolCapacity(
                range=pool.range,
                block_length=pool.block_length,
                total=pool.capacity,
                used=used[pool],
                quarantined=withheld[pool, Withholding.QUARANTINE],
                withheld=withheld[pool, Withholding.RESERVATIONS] + withheld[pool, Withholding.CLAIMED],
                reserved=pool.capacity - vacancies.usable,
                free=vacancies.count,
            )
        )
    return NetworkCapacity(network.name, tuple(pools), tuple(supplies(mirror, network)))


def supplies(mirror: Mirror, network: Network) -> Iterator[tuple[Family, CapacitySupply]]:
    """Yield the supply of blocks of each family that a network has."""
    space = mirror.occupancy.space(network.name)
    for family in sorted(network.families):
        vacancies = [space.vacancies(pool) for pool in network.pools if pool.family is family]
        total = sum(each.usable for each in vacancies)
        yield family, CapacitySupply(total, total - sum(each.count for each in vacancies))


def vnis(mirror: Mirror) -> CapacitySupply:
    """Return the supply of VNIs."""
    return CapacitySupply(VNI_MAX, VNI_MAX - mirror.occupancy.vnis.count)


def host_numbers(mirror: Mirror) -> CapacitySupply:
    """Return the supply of host numbers."""
    return CapacitySupply(HOST_NUMBER_MAX, HOST_NUMBER_MAX - mirror.occupancy.numbers.count)


def alarms(mirror: Mirror) -> Iterator[Alarm]:
    """Yield the alarms, those of networks by name."""
    for network in sorted(mirror.intent.networks.values(), key=lambda network: network.name):
        for family, supply in supplies(mirror, network):
            if level := supply.level:
                subject = f"IPv{family} blocks of network {network.name}"
                advice = f"overlayctl network add-range {network.name} CIDR gives it another range"
                yield Alarm(level, network.name, subject, supply, advice)
    for subject, supply, advice in (
        ("VNIs", vnis(mirror), "delete networks that are not needed"),
        ("host numbers", host_numbers(mirror), "overlayctl host forget HOST frees that of a host which is gone"),
    ):
        if level := supply.level:
            yield Alarm(level, None, subject, supply, advice)
