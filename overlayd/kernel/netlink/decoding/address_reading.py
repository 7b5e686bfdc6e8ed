"""From messages about addresses to addresses (linux/if_addr.h)."""

from collections.abc import Iterable, Iterator

from overlayd.dataplane.items import Address, NamespaceRef
from overlayd.kernel.netlink.decoding.values import Names, parsed_address, parsed_interface
from overlayd.kernel.netlink.framing import attributes
from overlayd.kernel.netlink.rtnetlink import IFA_ADDRESS, IFA_LOCAL, IFADDRMSG
from overlayd.model.address import IpAddress


def addresses(ns: NamespaceRef, payloads: Iterable[bytes], names: Names) -> Iterator[Address]:
    """Yield the addresses of the named devices."""
    for payload in payloads:
        _, length, _, _, index = IFADDRMSG.unpack_from(payload)
        if index in names:
            yield Address(ns, names[index], parsed_interface(_local(payload), length))


def local_address(payload: bytes) -> IpAddress:
    """Return the address that an RTM_NEWADDR message is about."""
    return parsed_address(_local(payload))


def _local(payload: bytes) -> bytes:
    # IFA_ADDRESS is the far end's where there is an IFA_LOCAL too, which IPv6 has for such devices only.
    found = attributes(payload, IFADDRMSG.size)
    return found[IFA_LOCAL] if IFA_LOCAL in found else found[IFA_ADDRESS]


def address_device(payload: bytes) -> int:
    """Return the index of the device that has the address of an RTM_NEWADDR message."""
    return int(IFADDRMSG.unpack_from(payload)[4])
