"""What we pack by hand is what pyroute2 reads, attribute by attribute."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from overlayd.dataplane.items import (
    FLOOD,
    Address,
    BridgeEntry,
    FdbEntry,
    Item,
    NamespaceRef,
    Neighbour,
    Route,
)
from overlayd.kernel.netlink import encode
from overlayd.kernel.netlink.encode import Verb
from overlayd.kernel.netlink.transport import HEADER
from overlayd.model.ids import InterfaceName, MacAddress

Reader = Callable[..., rtmsg | ndmsg | ifaddrmsg]

NS = NamespaceRef("/run/netns/ov-blue")
VX, BR = InterfaceName("vx0"), InterfaceName("br0")
INDEXES = {VX: 7, BR: 8}
MAC = MacAddress("02:6f:76:00:00:02")
HOP = IPv4Address("169.254.2.2")
HOP6 = IPv6Address("fe80::6f76:2")

CASES: list[tuple[Item, Reader, dict[str, object], dict[str, object]]] = [
    (
        Route(NS, IPv4Network("10.32.1.0/24"), VX, HOP, 2),
        rtmsg,
        {"family": 2, "dst_len": 24, "table": 254, "proto": 118, "scope": 0, "type": 1, "flags": 4},
        {"RTA_DST": "10.32.1.0", "RTA_OIF": 7, "RTA_GATEWAY": str(HOP), "RTA_PRIORITY": 2},
    ),
    (
        Route(NS, IPv4Network("10.32.0.5/32"), VX, None, 0),
        rtmsg,
        {"family": 2, "dst_len": 32, "table": 254, "proto": 118, "scope": 253, "type": 1, "flags": 0},
        {"RTA_DST": "10.32.0.5", "RTA_OIF": 7, "RTA_PRIORITY": 0},
    ),
    (
        Route(NS, IPv4Network("10.32.0.0/16"), None, None, 1 << 31),
        rtmsg,
        {"family": 2, "dst_len": 16, "table": 254, "proto": 118, "scope": 0, "type": 7, "flags": 0},
        {"RTA_DST": "10.32.0.0", "RTA_PRIORITY": 1 << 31},
    ),
    (
        Neighbour(NS, VX, HOP, MAC),
        ndmsg,
        {"family": 2, "ifindex": 7, "state": 0x80, "flags": 0},
        {"NDA_DST": str(HOP), "NDA_LLADDR": MAC, "NDA_PROTOCOL": 118},
    ),
    (
        FdbEntry(NS, VX, MAC, IPv4Address("192.0.2.2")),
        ndmsg,
        {"family": 7, "ifindex": 7, "state": 0x80, "flags": 0x12},
        {"NDA_LLADDR": MAC, "NDA_DST": "192.0.2.2"},
    ),
    (
        BridgeEntry(NS, BR, MAC, VX),
        ndmsg,
        {"family": 7, "ifindex": 7, "state": 0x40, "flags": 0x14},
        {"NDA_LLADDR": MAC},
    ),
    (
        Address(NS, BR, IPv4Interface("169.254.1.1/32")),
        ifaddrmsg,
        {"family": 2, "prefixlen": 32, "index": 8, "scope": 0},
        {"IFA_LOCAL": "169.254.1.1", "IFA_ADDRESS": "169.254.1.1"},
    ),
    (
        Route(NS, IPv6Network("fd00:32:1::/64"), VX, HOP6, 1026),
        rtmsg,
        {"family": 10, "dst_len": 64, "table": 254, "proto": 118, "scope": 0, "type": 1, "flags": 0},
        {"RTA_DST": "fd00:32:1::", "RTA_OIF": 7, "RTA_GATEWAY": str(HOP6), "RTA_PRIORITY": 1026},
    ),
    (
        Route(NS, IPv6Network("fd00:32::5/128"), VX, None, 1024),
        rtmsg,
        {"family": 10, "dst_len": 128, "table": 254, "proto": 118, "scope": 253, "type": 1, "flags": 0},
        {"RTA_DST": "fd00:32::5", "RTA_OIF": 7, "RTA_PRIORITY": 1024},
    ),
    (
        Route(NS, IPv6Network("fd00:32::/48"), None, None, 1 << 31),
        rtmsg,
        {"family": 10, "dst_len": 48, "table": 254, "proto": 118, "scope": 0, "type": 7, "flags": 0},
        {"RTA_DST": "fd00:32::", "RTA_PRIORITY": 1 << 31},
    ),
    (
        Neighbour(NS, VX, HOP6, MAC),
        ndmsg,
        {"family": 10, "ifindex": 7, "state": 0x80, "flags": 0},
        {"NDA_DST": str(HOP6), "NDA_LLADDR": MAC, "NDA_PROTOCOL": 118},
    ),
    (
        FdbEntry(NS, VX, MAC, IPv6Address("2001:db8::2")),
        ndmsg,
        {"family": 7, "ifindex": 7, "state": 0x80, "flags": 0x12},
        {"NDA_LLADDR": MAC, "NDA_DST": "2001:db8::2"},
    ),
    (
        Address(NS, BR, IPv6Interface("fd00:32::1/128")),
        ifaddrmsg,
        {"family": 10, "prefixlen": 128, "flags": 2, "index": 8, "scope": 0},
        {"IFA_LOCAL": "fd00:32::1", "IFA_ADDRESS": "fd00:32::1"},
    ),
]
IDS = [type(item).__name__ for item, *_ in CASES]


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize(("item", "reader", "fields", "attributes"), CASES, ids=IDS)
def test_pyroute2_reads_what_we_pack(
    item: Item,
    reader: Reader,
    fields: dict[str, object],
    attributes: dict[str, object],
    verb: Verb,
) -> None:
    message = reader(encode.entry(verb, item, INDEXES))
    message.decode()
    assert {name: message[name] for name in fields} == fields
    assert dict(message["attrs"]) == attributes
    assert message["header"]["length"] == len(encode.entry(verb, item, INDEXES))


@pytest.mark.parametrize(("item", "reader", "fields", "attributes"), CASES, ids=IDS)
def test_pyroute2_packs_the_same_bytes(
    item: Item,
    reader: Reader,
    fields: dict[str, object],
    attributes: dict[str, object],
) -> None:
    ours = encode.entry(Verb.ADD, item, INDEXES)
    theirs = reader()
    for name, value in fields.items():
        theirs[name] = value
    theirs["attrs"] = list(attributes.items())
    _, kind, flags, _, _ = HEADER.unpack_from(ours)
    theirs["header"]["type"], theirs["header"]["flags"] = kind, flags
    theirs.encode()
    assert bytes(theirs.data).rstrip(b"\0") == ours.rstrip(b"\0")


def test_a_flood_entry_is_appended() -> None:
    item = FdbEntry(NS, VX, FLOOD, IPv4Address("192.0.2.2"))
    for verb in (Verb.ADD, Verb.REPLACE):
        _, _, flags, _, _ = HEADER.unpack_from(encode.entry(verb, item, INDEXES))
        assert flags == 0x1 | encode.NLM_F_CREATE | encode.NLM_F_APPEND
