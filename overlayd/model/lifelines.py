"""Addresses that a host must go on to reach, or to have, outside of overlay networks. Pure.

A route to a network's range takes every address in it away from the underlay. A host that loses the way to another
host's tunnel end, to the controllers or to its own gateway that way is cut off, and nobody can tell it to undo that.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from overlayd.model.address import Family, IpAddress, IpNetwork
from overlayd.model.host import Host
from overlayd.model.network import Network


@dataclass(frozen=True, slots=True)
class Lifeline:
    """An address, and in a few words for people what it is: "the VTEP of host rack1-07"."""

    address: IpAddress
    what: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A network's range that no host access can be given to, because of an address in it."""

    network: Network
    range: IpNetwork
    lifeline: Lifeline

    def __str__(self) -> str:
        """Say it in a clause."""
        return f"its range {self.range} holds {self.lifeline.address}, {self.lifeline.what}"


class Lifelines:
    """A set of them in which looking for one inside a range takes the logarithm of their number."""

    def __init__(self, lifelines: Iterable[Lifeline] = ()) -> None:
        ordered = sorted(lifelines, key=lambda each: (each.address.version, int(each.address), each.what))
        self._by_family = {family: [each for each in ordered if each.address.version == family] for family in Family}
        self._numbers = {family: [int(each.address) for each in found] for family, found in self._by_family.items()}

    def within(self, cidr: IpNetwork) -> Lifeline | None:
        """Return the lowest of those in a range, None when none is."""
        family = Family.of(cidr)
        place = bisect_left(self._numbers[family], int(cidr.network_address))
        found = self._by_family[family][place : place + 1]
        return next((each for each in found if each.address in cidr), None)

    def conflicts(self, network: Network) -> Iterator[Conflict]:
        """Yield why hosts cannot be members of a network: each of its ranges that holds one of these."""
        for pool in network.pools:
            if lifeline := self.within(pool.range):
                yield Conflict(network, pool.range, lifeline)


def of_hosts(hosts: Iterable[Host]) -> Iterator[Lifeline]:
    """Yield the tunnel ends of hosts."""
    return (Lifeline(host.address, f"the VTEP of host {host.name}") for host in hosts)
