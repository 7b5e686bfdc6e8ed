"""On a device with a smaller MTU than IPv6 needs, the kernel has no IPv6: what needs it there is left out."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from overlayd.dataplane import ownership
from overlayd.dataplane.desired.endpoint import IPV6_MTU_MIN, as_mtu_allows
from overlayd.dataplane.items import (
    HOST,
    Address,
    DeviceSysctls,
    FdbEntry,
    Item,
    NamespaceRef,
    Neighbour,
    Route,
    Sysctl,
)
from overlayd.model.ids import InterfaceName, MacAddress

OURS, SANDBOX = NamespaceRef("/run/netns/ov-blue"), NamespaceRef("/run/netns/web")
ETH0, UPLINK = InterfaceName("eth0"), InterfaceName("ov100")
MAC = MacAddress("02:00:0a:20:00:05")
SETTINGS = frozenset({("disable_ipv6", "0")})


@pytest.mark.parametrize(
    "item",
    [
        DeviceSysctls(SANDBOX, ETH0, SETTINGS),
        Sysctl(HOST, ownership.ipv6_sysctl(UPLINK), "0"),
        Address(SANDBOX, ETH0, ip_interface("fd00:32::5/128")),
        Neighbour(SANDBOX, ETH0, ip_address("fe80::1"), MAC),
        Route(SANDBOX, ip_network("fd00:32::/48"), ETH0, ip_address("fe80::1"), 1024),
    ],
    ids=lambda item: type(item).__name__,
)
def test_what_needs_ipv6_on_a_device_needs_the_smallest_mtu_of_it(item: Item) -> None:
    assert list(as_mtu_allows([item], IPV6_MTU_MIN - 1)) == []
    assert list(as_mtu_allows([item], IPV6_MTU_MIN)) == [item]


@pytest.mark.parametrize(
    "item",
    [
        DeviceSysctls(SANDBOX, ownership.LOOPBACK, SETTINGS),
        Sysctl(HOST, ownership.forwarding_sysctl(UPLINK), "1"),
        Address(OURS, ownership.LOOPBACK, ip_interface("fe80::1/128")),
        Address(SANDBOX, ETH0, ip_interface("10.32.0.5/32")),
        Neighbour(SANDBOX, ETH0, ip_address("169.254.1.1"), MAC),
        Route(SANDBOX, ip_network("10.32.0.0/16"), ETH0, ip_address("169.254.1.1"), 0),
        Route(OURS, ip_network("fd00:32::/48"), None, None, 1 << 31),
        FdbEntry(OURS, ownership.VXLAN, MAC, ip_address("2001:db8::2")),
    ],
    ids=str,
)
def test_ipv4_and_what_is_on_no_device_of_this_mtu_does_not(item: Item) -> None:
    assert list(as_mtu_allows([item], IPV6_MTU_MIN - 1)) == [item]
