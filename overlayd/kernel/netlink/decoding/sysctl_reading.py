"""From messages about links and from RTM_NEWNETCONF to the sysctls of single devices."""

import socket
import sys
from collections.abc import Mapping

from overlayd.kernel.netlink.decoding.link_reading import Device
from overlayd.kernel.netlink.decoding.values import family, parsed_number
from overlayd.kernel.netlink.framing import attributes
from overlayd.kernel.netlink.rtnetlink import (
    IFLA_AF_SPEC,
    IFLA_INET6_CONF,
    IFLA_INET_CONF,
    NETCONFA_FORWARDING,
    NETCONFA_IFINDEX,
    NETCONFA_RP_FILTER,
)

_NETCONF_SYSCTLS: Mapping[int, Mapping[int, str]] = {
    socket.AF_INET: {
        NETCONFA_FORWARDING: "net/ipv4/conf/{}/forwarding",
        NETCONFA_RP_FILTER: "net/ipv4/conf/{}/rp_filter",
    },
    socket.AF_INET6: {NETCONFA_FORWARDING: "net/ipv6/conf/{}/forwarding"},
}
_DEVICE_SYSCTLS: Mapping[int, tuple[int, Mapping[str, int]]] = {
    socket.AF_INET: (
        IFLA_INET_CONF,
        {
            "net/ipv4/conf/{}/forwarding": 0,
            "net/ipv4/conf/{}/send_redirects": 5,
            "net/ipv4/conf/{}/rp_filter": 7,
        },
    ),
    socket.AF_INET6: (
        IFLA_INET6_CONF,
        {
            "net/ipv6/conf/{}/forwarding": 0,
            "net/ipv6/conf/{}/disable_ipv6": 26,
        },
    ),
}
"""The attribute that holds a device's sysctls as an array of numbers, and their places in it (linux/ip.h, linux/ipv6.h:
IPV4_DEVCONF_*, which begin with 1, and DEVCONF_*)."""


def netconf_index(payload: bytes) -> int:
    """Return the device that an RTM_NEWNETCONF message is about; below 0 for `all` and `default` (linux/netconf.h)."""
    value = attributes(payload, 4).get(NETCONFA_IFINDEX, bytes(4))
    return int.from_bytes(value, sys.byteorder, signed=True)


def netconf_sysctls(payload: bytes) -> Mapping[str, str]:
    """Return the sysctls of one device in an RTM_NEWNETCONF message, by those of DEVICE_SYSCTLS."""
    found = attributes(payload, 4)
    known = _NETCONF_SYSCTLS.get(family(payload), {})
    return {name: str(parsed_number(found[kind])) for kind, name in known.items() if kind in found}


def device_sysctls(one: Device) -> Mapping[str, str]:
    """Return the sysctls of a device, by those of DEVICE_SYSCTLS; IPv6's are missing on a device without IPv6."""
    inet = attributes(one.attributes.get(IFLA_AF_SPEC, b""))
    values: dict[str, str] = {}
    for version, (kind, places) in _DEVICE_SYSCTLS.items():
        conf = attributes(inet.get(version, b"")).get(kind, b"")
        values |= {
            name: str(parsed_number(conf[4 * at : 4 * at + 4])) for name, at in places.items() if len(conf) > 4 * at
        }
    return values
