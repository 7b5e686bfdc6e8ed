"""Underlay addresses that a host must keep, or must be able to reach: its lifelines. Pure.

A route to a network's range diverts every address in that range from the underlay to the network. When such a route
diverts another host's tunnel end, the controllers or the host's own gateway, the host is cut off and cannot receive the
change that would repair it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from overlayd.model.address import Family, IpAddress, IpNetwork
from overlayd.model.host import Host
from overlayd.model.network import Network


@dataclass(frozen=True, slots=True)
class Lifeline:
    """An address and a short description of it, such as "the VTEP of host rack1-07"."""

    address: IpAddress
    what: str


@dataclass(frozen=True, slots=True)
class LifelineConflict:
    """A range of a network that prevents host access, because it contains a lifeline."""

    network: Network
    range: IpNetwork
    lifeline: Lifeline

    def __str__(self) -> str:
        """Return the conflict as a clause of a sentence."""
        return f"its range {self.range} holds {self.lifeline.address}, {self.lifeline.what}"


class Lifelines:
    """A set of lifelines. Finding one inside a range takes the logarithm of their number."""

    def __init__(self, lifelines: Iterable[Lifeline] = ()) -> None:
        ordered = sorted(lifelines, key=lambda each: (each.address.version, int(each.address), each.what))
        self._by_family = {family: [each for each in ordered if each.address.version == family] for family in Family}
        self._numbers = {family: [int(each.address) for each in found] for family, found in self._by_family.items()}

    def within(self, cidr: IpNetwork) -> Lifeline | None:
        """Return the lowest lifeline in a range, None when there is none."""
        family = Family.of(cidr)
        place = bisect_left(self._numbers[family], int(cidr.network_address))
        found = self._by_family[family][place : place + 1]
        return next((each for each in found if each.address in cidr), None)

    def conflicts(self, network: Network) -> Iterator[LifelineConflict]:
        """Yield a conflict for each range of a network that contains a lifeline."""
        for pool in network.pools:
            if lifeline := self.within(pool.range):
                yield LifelineConflict(network, pool.range, lifeline)


def of_hosts(hosts: Iterable[Host]) -> Iterator[Lifeline]:
    """Yield the tunnel ends of hosts as lifelines."""
    return (Lifeline(host.address, f"the VTEP of host {host.name}") for host in hosts)
