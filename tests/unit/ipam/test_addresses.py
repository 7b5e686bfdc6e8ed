"""Choosing an address: the lowest that is free, never a reserved one."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from overlayd.ipam import addresses
from overlayd.model.block import Block
from overlayd.model.errors import AlreadyExists, Exhausted, InvalidValue
from overlayd.model.network import Network, Topology
from tests.support.controllers import clusters

ROUTED = clusters.network(topology=Topology.ROUTED, cidr="10.32.0.0/24", block_length=26)
SWITCHED = clusters.network(topology=Topology.SWITCHED, cidr="10.32.0.0/24", block_length=26)
FIRST, SECOND, LAST = (clusters.block(1, f"10.32.0.{start}/26") for start in (0, 64, 192))


def ips(*texts: str) -> set[IPv4Address]:
    return {IPv4Address(text) for text in texts}


@pytest.mark.parametrize(
    ("network", "block", "kept"),
    [
        (ROUTED, FIRST, ips("10.32.0.0", "10.32.0.1")),
        (ROUTED, SECOND, ips("10.32.0.64")),
        (ROUTED, LAST, ips("10.32.0.192", "10.32.0.255")),
        (SWITCHED, FIRST, ips("10.32.0.0", "10.32.0.1", "10.32.0.2")),
        (SWITCHED, SECOND, ips("10.32.0.64")),
        (SWITCHED, LAST, ips("10.32.0.192", "10.32.0.255")),
    ],
)
def test_first_last_gateway_and_the_hosts_own_address_are_reserved(
    network: Network, block: Block, kept: set[IPv4Address]
) -> None:
    assert addresses.reserved(network, block) == kept
    assert addresses.usable(network, block) == 64 - len(kept)


@pytest.mark.parametrize(("topology", "room"), [(Topology.ROUTED, 5), (Topology.SWITCHED, 4)])
def test_the_smallest_network_still_has_room(topology: Topology, room: int) -> None:
    smallest = clusters.network(topology=topology, cidr="10.32.0.0/29", block_length=29)
    assert addresses.usable(smallest, clusters.block(1, "10.32.0.0/29")) == room


def test_a_switched_network_keeps_its_gateway_for_all_of_its_blocks() -> None:
    assert {addresses.gateway(SWITCHED, block) for block in (FIRST, LAST)} == ips("10.32.0.1")
    assert addresses.gateway(ROUTED, FIRST) is None


@pytest.mark.parametrize(
    ("taken", "found"),
    [
        (ips(), "10.32.0.2"),
        (ips("10.32.0.2"), "10.32.0.3"),
        (ips("10.32.0.3"), "10.32.0.2"),
        (ips("10.32.0.2", "10.32.0.3", "10.32.0.5"), "10.32.0.4"),
        (ips("10.32.0.65", "192.0.2.1"), "10.32.0.2"),
    ],
)
def test_the_lowest_free_address_is_found(taken: set[IPv4Address], found: str) -> None:
    assert addresses.free_address(ROUTED, [FIRST, SECOND], taken) == IPv4Address(found)


def test_the_next_block_follows_a_full_one() -> None:
    taken = {address for address in FIRST.cidr if address not in addresses.reserved(ROUTED, FIRST)}
    assert addresses.free_address(ROUTED, [FIRST, SECOND], taken) == IPv4Address("10.32.0.65")


@pytest.mark.parametrize(("blocks", "names"), [([], "no block"), ([FIRST, LAST], "10.32.0.0/26, 10.32.0.192/26")])
def test_full_blocks_are_named(blocks: list[Block], names: str) -> None:
    taken = {address for block in blocks for address in block.cidr}
    with pytest.raises(Exhausted) as caught:
        addresses.free_address(ROUTED, blocks, taken)
    assert str(caught.value) == f"no free address is left for network blue on this host ({names})"


def test_the_address_that_was_asked_for_is_given() -> None:
    assert addresses.claim(ROUTED, [FIRST, LAST], ips("10.32.0.2"), IPv4Address("10.32.0.200")) == IPv4Address(
        "10.32.0.200"
    )


@pytest.mark.parametrize(
    ("wanted", "error", "reason"),
    [
        ("10.32.0.65", InvalidValue, "is in no block of network blue"),
        ("192.0.2.1", InvalidValue, "is in no block of network blue"),
        ("10.32.0.0", InvalidValue, "is reserved"),
        ("10.32.0.1", InvalidValue, "is reserved"),
        ("10.32.0.255", InvalidValue, "is reserved"),
        ("10.32.0.5", AlreadyExists, "is taken"),
    ],
)
def test_an_address_that_is_not_to_be_had_is_refused(
    wanted: str, error: type[InvalidValue | AlreadyExists], reason: str
) -> None:
    with pytest.raises(error, match=reason) as caught:
        addresses.claim(ROUTED, [FIRST, LAST], ips("10.32.0.5"), IPv4Address(wanted))
    assert caught.value.field == "address"
    assert wanted in str(caught.value)


class CountedLookups(frozenset[IPv4Address]):
    """Taken addresses that count how often they are asked."""

    count = 0

    def __contains__(self, address: object) -> bool:
        self.count += 1
        return super().__contains__(address)


@pytest.mark.parametrize("count", [0, 10, 100])
@pytest.mark.parametrize("start", ["10.0.0.2", "10.200.0.0"])
def test_the_search_looks_at_the_taken_addresses_and_not_at_the_whole_block(count: int, start: str) -> None:
    large = clusters.network(cidr="10.0.0.0/8", block_length=8)
    first = IPv4Address(start)
    taken = CountedLookups(first + number for number in range(count))
    found = addresses.free_address(large, [clusters.block(1, "10.0.0.0/8")], taken, last=first - 1)
    assert found == first + count
    assert taken.count == count + 1


@pytest.mark.parametrize(
    ("taken", "last", "found"),
    [
        (ips(), "10.32.0.2", "10.32.0.3"),
        (ips("10.32.0.3"), "10.32.0.2", "10.32.0.4"),
        (ips(), "10.32.0.63", "10.32.0.65"),
        (ips("10.32.0.2"), "10.32.0.127", "10.32.0.3"),
        (ips(), "10.31.255.255", "10.32.0.2"),
        (ips(), "10.33.0.0", "10.32.0.2"),
    ],
)
def test_the_address_after_the_last_one_comes_first_and_the_lowest_after_the_end(
    taken: set[IPv4Address], last: str, found: str
) -> None:
    assert addresses.free_address(ROUTED, [FIRST, SECOND], taken, IPv4Address(last)) == IPv4Address(found)


def test_the_special_addresses_are_those_of_the_whole_range() -> None:
    assert addresses.special(SWITCHED, SECOND.cidr) == ips("10.32.0.0", "10.32.0.1", "10.32.0.255")


def test_a_range_outside_the_network_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"block 10\.99\.0\.0/26 lies in no range of network blue") as caught:
        addresses.reserved_of(ROUTED, IPv4Network("10.99.0.0/26"))
    assert caught.value.field == "cidr"


@pytest.mark.parametrize(
    ("ranges", "taken", "found"),
    [
        ([("10.32.0.10", "10.32.0.12")], ips(), "10.32.0.10"),
        ([("10.32.0.10", "10.32.0.12")], ips("10.32.0.10", "10.32.0.11"), "10.32.0.12"),
        ([("10.32.0.0", "10.32.0.2")], ips(), "10.32.0.2"),
        ([("10.32.0.70", "10.32.0.79"), ("10.32.0.9", "10.32.0.9")], ips(), "10.32.0.9"),
        ([("10.32.0.63", "10.32.0.80")], ips("10.32.0.63"), "10.32.0.65"),
        ([("10.32.0.0", "10.32.0.255")], ips(), "10.32.0.2"),
    ],
)
def test_the_lowest_free_address_of_the_wanted_ranges_is_found(
    ranges: list[tuple[str, str]], taken: set[IPv4Address], found: str
) -> None:
    limits = [(IPv4Address(first), IPv4Address(last)) for first, last in ranges]
    assert addresses.free_address_within(ROUTED, [FIRST, SECOND], taken, limits) == IPv4Address(found)


@pytest.mark.parametrize(
    ("ranges", "taken"),
    [
        ([("10.32.0.9", "10.32.0.9")], ips("10.32.0.9")),
        ([("10.32.0.0", "10.32.0.1")], ips()),
        ([("10.32.0.130", "10.32.0.140")], ips()),
        ([], ips()),
    ],
)
def test_wanted_ranges_without_a_free_address_are_an_error(
    ranges: list[tuple[str, str]], taken: set[IPv4Address]
) -> None:
    limits = [(IPv4Address(first), IPv4Address(last)) for first, last in ranges]
    with pytest.raises(Exhausted) as caught:
        addresses.free_address_within(ROUTED, [FIRST, SECOND], taken, limits)
    reason = "no free address of network blue on this host is in the ranges that are asked for"
    assert str(caught.value) == reason
