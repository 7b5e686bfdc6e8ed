"""Addresses and ranges of either family."""

from enum import IntEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network
IpInterface = IPv4Interface | IPv6Interface
"""An address with the length of its prefix."""


class Family(IntEnum):
    """The IP version of an address, a range or a block."""

    V4 = 4
    V6 = 6

    @staticmethod
    def of(value: IpAddress | IpNetwork) -> "Family":
        """Return the family of an address or a range."""
        return _FAMILIES[value.version]

    def address(self, number: int) -> "IpAddress":
        """Return the address of this family with this number."""
        return IPv4Address(number) if self is Family.V4 else IPv6Address(number)


_FAMILIES = {4: Family.V4, 6: Family.V6}
"""A dictionary, because `Family(version)` takes several times as long and is called for each address of a state."""


def overlap(one: IpNetwork, other: IpNetwork) -> bool:
    """Return whether two ranges share an address; ranges of different families never do."""
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)


def contains(whole: IpNetwork, part: IpNetwork) -> bool:
    """Return whether the range `part` lies inside the range `whole`."""
    if isinstance(whole, IPv4Network):
        return isinstance(part, IPv4Network) and part.subnet_of(whole)
    return isinstance(part, IPv6Network) and part.subnet_of(whole)


def interface(address: IpAddress, length: int | None = None) -> IpInterface:
    """Return an address with a prefix length; without `length` it is the full one, /32 or /128."""
    if isinstance(address, IPv4Address):
        return IPv4Interface((address, address.max_prefixlen if length is None else length))
    return IPv6Interface((address, address.max_prefixlen if length is None else length))


def alone(address: IpAddress) -> IpNetwork:
    """Return the /32 or /128 range of one address."""
    return interface(address).network
