"""What is free, followed change by change, is what a look at everything at once finds."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from controller.state.address_space import AddressSpace, Withholding
from overlayd.ipam import addresses
from overlayd.model.address import Family, IpNetwork, contains, overlap
from overlayd.model.ids import NetworkName, Vni
from overlayd.model.network import Network, Pool, Topology

FIRST, COARSE = Pool(IPv4Network("10.32.0.0/26"), 28), Pool(IPv4Network("10.32.0.0/26"), 27)
SECOND = Pool(IPv4Network("10.40.0.0/27"), 29)
UNITS = [*FIRST.range.subnets(new_prefix=28), *SECOND.range.subnets(new_prefix=29)]
NUMBERS = [1, 2, 5, 16, 17, 31, 40, 47]
Change = Callable[[AddressSpace], None]


def network(pools: tuple[Pool, ...], reserved: list[str]) -> Network:
    kept = [IPv4Network(each) for each in reserved]
    inside = tuple(each for each in kept if any(contains(pool.range, each) for pool in pools))
    return Network(NetworkName("blue"), Vni(1), Topology.ROUTED, pools, reserved=inside)


networks = st.builds(
    network,
    st.sampled_from([(FIRST,), (FIRST, SECOND), (SECOND, FIRST), (COARSE,)]),
    st.lists(st.sampled_from(["10.32.0.0/28", "10.32.0.40/29", "10.40.0.8/29", "10.32.0.17/32"]), unique=True),
)
facts = st.tuples(
    st.dictionaries(st.sampled_from(UNITS), st.sampled_from([None, *Withholding])),
    st.sets(st.sampled_from(NUMBERS)),
    st.sets(st.sampled_from(NUMBERS)),
    st.none() | networks,
)
"""Which units hosts have (None) or are withheld and why, which addresses are reserved or rest, and the network."""

Facts = tuple[dict[IPv4Network, Withholding | None], set[int], set[int], Network | None]


def changes(before: Facts, after: Facts) -> list[Change]:
    """Return what leads from one state to another, each of which may come at any time."""
    made: list[Change] = []
    for unit in UNITS:
        was, wanted = (facts[0].get(unit, "free") for facts in (before, after))
        if was != wanted and (was is None or wanted is None):
            made.append(lambda space, unit=unit, there=wanted is None: space.set_block(unit, there=there))  # type: ignore[misc]
        if was != wanted and (isinstance(was, Withholding) or isinstance(wanted, Withholding)):
            reason = wanted if isinstance(wanted, Withholding) else None
            made.append(lambda space, unit=unit, reason=reason: space.set_withheld(unit, reason))  # type: ignore[misc]
    for number in NUMBERS:
        address = IPv4Address("10.32.0.0") + number
        if (number in before[1]) != (number in after[1]):
            there = number in after[1]
            made.append(lambda space, address=address, there=there: space.set_claim(address, there=there))  # type: ignore[misc]
        if (number in before[2]) != (number in after[2]):
            there = number in after[2]
            made.append(lambda space, address=address, there=there: space.set_resting(address, there=there))  # type: ignore[misc]
    if before[3] != after[3]:
        made.append(lambda space: space.set_network(after[3]))
    return made


def check(space: AddressSpace, state: Facts) -> None:
    units, claimed, resting, found = state
    assert space.withheld == {unit: reason for unit, reason in units.items() if reason is not None}
    for pool in found.pools if found else ():
        assert found
        free = [*space.vacancies(pool).free()]
        every: list[IpNetwork] = [*pool.range.subnets(new_prefix=pool.block_length)]
        assert free == [
            unit
            for unit in every
            if addresses.is_usable(found, unit) and not any(overlap(unit, taken) for taken in units)
        ]
    offered = []
    for unit, reason in units.items():
        pool_of_unit = found.pool_of(unit) if found else None
        if (
            found
            and reason is Withholding.RESERVATIONS
            and pool_of_unit
            and pool_of_unit.block_length == unit.prefixlen
        ):
            offered += [number for first, end in addresses.spans(found, unit) for number in range(first, end)]
    base = int(IPv4Address("10.32.0.0"))
    assert [*space.reservable(Family.V4)] == sorted(set(offered) - {base + number for number in claimed | resting})


@given(st.lists(facts, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_a_space_is_as_its_facts_whatever_came_before(states: list[Facts], chance: Random) -> None:
    space, state = AddressSpace(), ({}, set(), set(), None)  # type: AddressSpace, Facts
    for following in states:
        steps = changes(state, following)
        chance.shuffle(steps)
        for step in steps:
            step(space)
        state = following
        check(space, state)
    for step in changes(state, ({}, set(), set(), None)):
        step(space)
    assert space.is_empty
