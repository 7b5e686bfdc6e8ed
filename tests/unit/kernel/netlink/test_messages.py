"""Every kind of message that we send is what pyroute2 decodes of it, attribute by attribute."""

import inspect
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from types import ModuleType
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.nfnetlink.nfctsocket import nfct_msg
from pyroute2.netlink.nfnetlink.nftsocket import nft_gen_msg, nft_table_msg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from overlayd.dataplane.items import (
    FLOOD,
    HOST,
    Address,
    Bridge,
    BridgeEntry,
    BridgePort,
    FdbEntry,
    Item,
    Link,
    NamespaceRef,
    Neighbour,
    RateLimit,
    Route,
    Veth,
    VethPeer,
    Vxlan,
)
from overlayd.kernel import conntrack, nfnetlink
from overlayd.kernel.netlink import entry_messages, entry_runs, link_messages, requests, traffic_control
from overlayd.kernel.netlink.entry_messages import Verb
from overlayd.kernel.netlink.framing import HEADER, attribute, attributes
from overlayd.kernel.netlink.rtnetlink import TCMSG
from overlayd.kernel.netlink.template import Template
from overlayd.kernel.port import KernelError
from overlayd.model.address import Family
from overlayd.model.ids import InterfaceName, MacAddress, Vni
from overlayd.model.published_port import TransportProtocol

NS = NamespaceRef("/run/netns/ov-blue")
SANDBOX = NamespaceRef("/run/netns/c1")
VX, BR, ETH0 = InterfaceName("vx0"), InterfaceName("br0"), InterfaceName("eth0")
NEAR = InterfaceName("ve0123456789ab")
INDEXES = {VX: 7, BR: 8, NEAR: 9}
MAC, OTHER_MAC = MacAddress("02:6f:76:00:00:02"), MacAddress("02:6f:76:00:00:03")
HOP, HOP6 = IPv4Address("169.254.2.2"), IPv6Address("fe80::6f76:2")
VTEP, VTEP6 = IPv4Address("192.0.2.2"), IPv6Address("2001:db8::2")
PROGRAM = bytes(range(8)) * 5
REQUEST, CREATE, REPLACE, DUMP = 0x1, 0x1 | 0x400 | 0x200, 0x1 | 0x400 | 0x100, 0x1 | 0x300
GROUP = 0x6F760001
QUEUES = {"IFLA_NUM_TX_QUEUES": 1, "IFLA_NUM_RX_QUEUES": 1}
NO_STATISTICS = {"IFLA_EXT_MASK": 8}

Values = Mapping[str, object]


@dataclass(frozen=True)
class Case:
    """A message, the function or constant that made it, and what pyroute2 is to find: fields and attributes."""

    module: ModuleType
    structure: type
    name: str
    message: bytes
    kind: int
    flags: int
    fields: Values
    attributes: Values

    @property
    def maker(self) -> str:
        return named(self.module, self.name)


def named(module: ModuleType, name: str) -> str:
    return f"{module.__name__.rpartition('.')[2]}.{name}"


link = partial(Case, link_messages, ifinfmsg)
request = partial(Case, requests)
traffic = partial(Case, traffic_control, tcmsg)


def links() -> Iterator[Case]:
    for local, name in ((VTEP, "IFLA_VXLAN_LOCAL"), (VTEP6, "IFLA_VXLAN_LOCAL6")):
        kind = Vxlan(Vni(4711), local, 4789)
        vxlan = {
            "IFLA_VXLAN_ID": 4711,
            name: str(local),
            "IFLA_VXLAN_LEARNING": 0,
            "IFLA_VXLAN_PORT": 4789,
            "IFLA_VXLAN_UDP_CSUM": 0,
        }
        settings = {"IFLA_IFNAME": VX, "IFLA_ADDRESS": MAC, "IFLA_MTU": 1450, "IFLA_NET_NS_FD": 11}
        info = {"IFLA_INFO_KIND": "vxlan", "IFLA_INFO_DATA": vxlan}
        message = link_messages.created_vxlan(Link(NS, VX, kind, MAC, 1450), kind, 11, up=False)
        fields = {"index": 0, "flags": 0, "change": 1}
        yield link("created_vxlan", message, 16, CREATE, fields, {**settings, "IFLA_LINKINFO": info})
    bridge = link_messages.created_bridge(Link(NS, BR, Bridge(), MAC, 1450), up=True)
    info = {
        "IFLA_INFO_KIND": "bridge",
        "IFLA_INFO_DATA": {"IFLA_BR_STP_STATE": 0, "IFLA_BR_MCAST_SNOOPING": 0},
    }
    found: Values = {"IFLA_IFNAME": BR, "IFLA_ADDRESS": MAC, "IFLA_LINKINFO": info}
    yield link("created_bridge", bridge, 16, CREATE, {"index": 0, "flags": 1, "change": 1}, found)
    yield from pairs()
    yield from changes()
    port = BridgePort(BR, learning=False, unicast_flood=True, neigh_suppress=True)
    flags = {"IFLA_BRPORT_LEARNING": 0, "IFLA_BRPORT_UNICAST_FLOOD": 1, "IFLA_BRPORT_NEIGH_SUPPRESS": 1}
    info = {"IFLA_INFO_SLAVE_KIND": "bridge", "IFLA_INFO_SLAVE_DATA": flags}
    for name in (VX, NEAR):
        message = link_messages.port_changed(name, port)
        yield link("port_changed", message, 16, REQUEST, {}, {"IFLA_IFNAME": name, "IFLA_LINKINFO": info})
        yield link("deleted", link_messages.deleted(name), 17, REQUEST, {}, {"IFLA_IFNAME": name})
        doomed = {"IFLA_IFNAME": name, "IFLA_GROUP": GROUP}
        yield link("doomed", link_messages.doomed(name), 19, REQUEST, {}, doomed)
    inet6: Values = {"IFLA_INET6_ADDR_GEN_MODE": 1}
    found = {"IFLA_IFNAME": "ov1", "IFLA_AF_SPEC": {"AF_INET6": inet6}}
    yield link("without_addresses", link_messages.without_addresses(InterfaceName("ov1")), 19, REQUEST, {}, found)
    for index in (7, 1 << 30):
        down, out = link_messages.retired(index)
        yield link("retired", down, 19, REQUEST, {"index": index, "flags": 0, "change": 1}, {})
        found = {"IFLA_IFNAME": f"rv{index}", "IFLA_GROUP": GROUP}
        yield link("retired", out, 19, REQUEST, {"index": index, "flags": 0, "change": 0}, found)
    yield link("group_deleted", link_messages.group_deleted(), 17, REQUEST, {"index": 0}, {"IFLA_GROUP": GROUP})


def pairs() -> Iterator[Case]:
    """A container's pair with indexes of its own, and an uplink's."""
    for near, far, beyond, indexes in ((NEAR, ETH0, SANDBOX, (21, 22)), (InterfaceName("up0"), "ov4711", HOST, (0, 0))):
        peer = VethPeer(beyond, InterfaceName(far), OTHER_MAC)
        there = {
            "index": indexes[1],
            "IFLA_IFNAME": far,
            "IFLA_ADDRESS": OTHER_MAC,
            **QUEUES,
            "IFLA_MTU": 1450,
            "IFLA_NET_NS_FD": 12,
        }
        found = {
            "IFLA_IFNAME": near,
            "IFLA_ADDRESS": MAC,
            "IFLA_MTU": 1450,
            **QUEUES,
            "IFLA_LINKINFO": {"IFLA_INFO_KIND": "veth", "IFLA_INFO_DATA": {"VETH_INFO_PEER": there}},
        }
        message = link_messages.created_pair(Link(NS, near, Veth(peer), MAC, 1450), peer, 12, up=False, indexes=indexes)
        yield link("created_pair", message, 16, CREATE, {"index": indexes[0], "flags": 0, "change": 1}, found)


def changes() -> Iterator[Case]:
    def change(fields: Values, found: Values, message: bytes) -> Case:
        return link("changed", message, 19, REQUEST, {"index": 0, **fields}, found)

    named: Values = {"IFLA_IFNAME": NEAR}
    up, down = {"flags": 1, "change": 1}, {"flags": 0, "change": 1}
    neither = {"flags": 0, "change": 0}
    yield change(up, named, link_messages.changed(NEAR, up=True))
    yield change(down, {"IFLA_IFNAME": ETH0}, link_messages.changed(ETH0, up=False))
    yield change(neither, {**named, "IFLA_ADDRESS": MAC}, link_messages.changed(NEAR, mac=MAC))
    yield change(neither, {**named, "IFLA_MTU": 1400}, link_messages.changed(NEAR, mtu=1400))
    yield change(neither, {**named, "IFLA_MASTER": 0}, link_messages.changed(NEAR, master=0))
    for alias in ("", "overlay", "overlayd blue c1 eth0", "x" * 255):
        found = {**named, "IFLA_IFALIAS": alias}
        yield change(neither, found, link_messages.changed(NEAR, alias=alias))
    found = {**named, "IFLA_ADDRESS": MAC, "IFLA_MTU": 1400, "IFLA_MASTER": 8, "IFLA_IFALIAS": "overlayd é blue"}
    message = link_messages.changed(NEAR, mac=MAC, mtu=1400, master=8, alias="overlayd é blue", up=True)
    yield change(up, found, message)


def asked() -> Iterator[Case]:
    yield request(ifinfmsg, "LINKS", requests.LINKS, 18, DUMP, {"index": 0}, NO_STATISTICS)
    for number, family in enumerate((socket.AF_INET, socket.AF_INET6)):
        address, neighbour, route = requests.ADDRESSES[number], requests.NEIGHBOURS[number], requests.ROUTES[number]
        yield request(ifaddrmsg, "ADDRESSES", address, 22, DUMP, {"family": family, "index": 0}, {})
        yield request(ndmsg, "NEIGHBOURS", neighbour, 30, DUMP, {"family": family, "ifindex": 0}, {})
        fields = {"family": family, "dst_len": 0, "table": 254, "proto": 118, "type": 0, "flags": 0}
        yield request(rtmsg, "ROUTES", route, 26, DUMP, fields, {})
        of_all = requests.ROUTES_OF_ALL_TABLES[number]
        yield request(rtmsg, "ROUTES_OF_ALL_TABLES", of_all, 26, DUMP, {**fields, "table": 0}, {})
        every = requests.ALL_ROUTES[number]
        yield request(rtmsg, "ALL_ROUTES", every, 26, DUMP, {**fields, "table": 0, "proto": 0}, {})
    yield request(ndmsg, "FDB_ENTRIES", requests.FDB_ENTRIES, 30, DUMP, {"family": 7, "ifindex": 0}, {})
    yield request(tcmsg, "QDISCS", requests.QDISCS, 38, DUMP, {"index": 0, "handle": 0, "parent": 0}, {})
    found: Values = {"IFLA_IFNAME": NEAR, **NO_STATISTICS}
    yield request(ifinfmsg, "link", requests.link(NEAR), 18, REQUEST, {"index": 0}, found)
    yield request(ifinfmsg, "link_by_index", requests.link_by_index(7), 18, REQUEST, {"index": 7}, NO_STATISTICS)
    yield request(nsidmsg, "namespace_number", requests.namespace_number(9), 90, REQUEST, {}, {"NETNSA_FD": 9})
    for hop, family, width in ((HOP, socket.AF_INET, 32), (HOP6, socket.AF_INET6, 128)):
        fields = {"family": family, "ifindex": 7, "state": 0, "flags": 0}
        yield request(ndmsg, "neighbour", requests.neighbour(hop, 7), 30, REQUEST, fields, {"NDA_DST": str(hop)})
        fields = {"family": family, "dst_len": width, "table": 0, "flags": 0x2000}
        yield request(rtmsg, "route", requests.route(hop), 26, REQUEST, fields, {"RTA_DST": str(hop)})
    fields = {"index": 7, "handle": 1, "parent": 0xFFFF0000, "info": 1 << 16 | socket.htons(3)}
    filtered = requests.traffic_filter(7, 1, 0xFFFF0000, 1 << 16 | socket.htons(3))
    yield request(tcmsg, "traffic_filter", filtered, 46, REQUEST, fields, {})
    yield traffic("program_request", traffic_control.program_request(7), 46, REQUEST, fields, {})


def shaped() -> Iterator[Case]:
    root = {"index": 7, "handle": 0x6F76 << 16, "parent": 0xFFFFFFFF, "info": 0}
    for flags in (CREATE, REPLACE):
        for rate in (125_000, (1 << 32) - 2, (1 << 32) - 1, 12_500_000_000):
            message = traffic_control.limit_put(RateLimit(NS, VX, rate, 1000, 20_000), 7, flags & ~REQUEST)
            parameters = {
                "rate___reserved": 1,
                "rate": min(rate, (1 << 32) - 1),
                "peak": 0,
                "limit": 20_000,
                "buffer": 1000,
                "mtu": 0,
            }
            options: Values = {"TCA_TBF_PARMS": parameters}
            if rate >= (1 << 32) - 1:
                options = {**options, "UNKNOWN": None}  # TCA_TBF_RATE64, of which pyroute2 does not know
            yield traffic("limit_put", message, 36, flags, root, {"TCA_KIND": "tbf", "TCA_OPTIONS": options})
    yield traffic("limit_deleted", traffic_control.limit_deleted(7), 37, REQUEST, root, {"TCA_KIND": "tbf"})
    hook = {"index": 7, "handle": 0xFFFF0000, "parent": 0xFFFFFFF1, "info": 0}
    yield traffic("hook_made", traffic_control.hook_made(7), 36, CREATE, hook, {"TCA_KIND": "ingress"})
    yield traffic("hook_deleted", traffic_control.hook_deleted(7), 37, REQUEST, hook, {"TCA_KIND": "ingress"})
    at_hook = {"index": 7, "handle": 1, "parent": 0xFFFF0000, "info": 1 << 16 | socket.htons(3)}
    # pyroute2 takes the program for a number, and its length for a longer one: their bytes are looked at below.
    program = {"TCA_KIND": "bpf", "TCA_OPTIONS": {"TCA_BPF_OPS_LEN": ..., "TCA_BPF_OPS": ..., "TCA_BPF_FLAGS": 1}}
    yield traffic("program_put", traffic_control.program_put(7, PROGRAM), 44, REPLACE, at_hook, program)


def filtered() -> Iterator[Case]:
    gen, table = nft_gen_msg, nft_table_msg
    none = {"nfgen_family": 0, "version": 0, "res_id": 0}
    yield Case(nfnetlink, gen, "GENERATION", nfnetlink.GENERATION, 10 << 8 | 16, REQUEST, none, {})
    yield Case(nfnetlink, table, "TABLES", nfnetlink.TABLES, 10 << 8 | 1, DUMP, none, {})
    for family, transport, number in ((Family.V4, TransportProtocol.UDP, 17), (Family.V6, TransportProtocol.SCTP, 132)):
        fields = {"nfgen_family": socket.AF_INET if family is Family.V4 else socket.AF_INET6}
        for port, flags in ((None, 0x08), (b"\x1f\x90", 0x28)):
            protocol: Values = {"CTA_PROTO_NUM": number} | ({"CTA_PROTO_DST_PORT": 8080} if port else {})
            found: Values = {
                "CTA_TUPLE_ORIG": {"CTA_TUPLE_PROTO": protocol},
                "CTA_FILTER": {"CTA_FILTER_ORIG_FLAGS": flags},
            }
            message = conntrack.flows_request(family, transport, port)
            yield Case(conntrack, nfct_msg, "flows_request", message, 1 << 8 | 1, DUMP, fields, found)
        key = attribute(12, (99).to_bytes(4))
        deletion = conntrack.flow_deletion(family, key)
        yield Case(conntrack, nfct_msg, "flow_deletion", deletion, 1 << 8 | 2, REQUEST, fields, {"CTA_ID": 99})


ENTRIES: list[tuple[Item, type, tuple[int, int], Values, Values]] = [
    (
        Route(NS, IPv4Network("10.32.1.0/24"), VX, HOP, 2),
        rtmsg,
        (24, 25),
        {"family": 2, "dst_len": 24, "table": 254, "proto": 118, "scope": 0, "type": 1, "flags": 4},
        {"RTA_DST": "10.32.1.0", "RTA_OIF": 7, "RTA_GATEWAY": str(HOP), "RTA_PRIORITY": 2},
    ),
    (
        Route(NS, IPv4Network("10.32.0.5/32"), VX, None, 0),
        rtmsg,
        (24, 25),
        {"family": 2, "dst_len": 32, "table": 254, "proto": 118, "scope": 253, "type": 1, "flags": 0},
        {"RTA_DST": "10.32.0.5", "RTA_OIF": 7, "RTA_PRIORITY": 0},
    ),
    (
        Route(NS, IPv4Network("10.32.0.0/16"), None, None, 1 << 31),
        rtmsg,
        (24, 25),
        {"family": 2, "dst_len": 16, "table": 254, "proto": 118, "scope": 0, "type": 7, "flags": 0},
        {"RTA_DST": "10.32.0.0", "RTA_PRIORITY": 1 << 31},
    ),
    (
        Route(NS, IPv6Network("fd00:32:1::/64"), VX, HOP6, 1026),
        rtmsg,
        (24, 25),
        {"family": 10, "dst_len": 64, "table": 254, "proto": 118, "scope": 0, "type": 1, "flags": 0},
        {"RTA_DST": "fd00:32:1::", "RTA_OIF": 7, "RTA_GATEWAY": str(HOP6), "RTA_PRIORITY": 1026},
    ),
    (
        Route(NS, IPv6Network("fd00:32::5/128"), VX, None, 1024),
        rtmsg,
        (24, 25),
        {"family": 10, "dst_len": 128, "table": 254, "proto": 118, "scope": 253, "type": 1, "flags": 0},
        {"RTA_DST": "fd00:32::5", "RTA_OIF": 7, "RTA_PRIORITY": 1024},
    ),
    (
        Route(NS, IPv6Network("fd00:32::/48"), None, None, 1 << 31),
        rtmsg,
        (24, 25),
        {"family": 10, "dst_len": 48, "table": 254, "proto": 118, "scope": 0, "type": 7, "flags": 0},
        {"RTA_DST": "fd00:32::", "RTA_PRIORITY": 1 << 31},
    ),
    (
        Neighbour(NS, VX, HOP, MAC),
        ndmsg,
        (28, 29),
        {"family": 2, "ifindex": 7, "state": 0x80, "flags": 0},
        {"NDA_DST": str(HOP), "NDA_LLADDR": MAC, "NDA_PROTOCOL": 118},
    ),
    (
        Neighbour(NS, VX, HOP6, MAC),
        ndmsg,
        (28, 29),
        {"family": 10, "ifindex": 7, "state": 0x80, "flags": 0},
        {"NDA_DST": str(HOP6), "NDA_LLADDR": MAC, "NDA_PROTOCOL": 118},
    ),
    (
        FdbEntry(NS, VX, MAC, VTEP),
        ndmsg,
        (28, 29),
        {"family": 7, "ifindex": 7, "state": 0x80, "flags": 0x12},
        {"NDA_LLADDR": MAC, "NDA_DST": str(VTEP)},
    ),
    (
        FdbEntry(NS, VX, MAC, VTEP6),
        ndmsg,
        (28, 29),
        {"family": 7, "ifindex": 7, "state": 0x80, "flags": 0x12},
        {"NDA_LLADDR": MAC, "NDA_DST": str(VTEP6)},
    ),
    (
        FdbEntry(NS, VX, FLOOD, VTEP),
        ndmsg,
        (28, 29),
        {"family": 7, "ifindex": 7, "state": 0x80, "flags": 0x12},
        {"NDA_LLADDR": FLOOD, "NDA_DST": str(VTEP)},
    ),
    (
        BridgeEntry(NS, BR, MAC, VX),
        ndmsg,
        (28, 29),
        {"family": 7, "ifindex": 7, "state": 0x40, "flags": 0x14},
        {"NDA_LLADDR": MAC},
    ),
    (
        BridgeEntry(NS, BR, MAC, BR),
        ndmsg,
        (28, 29),
        {"family": 7, "ifindex": 8, "state": 0x80, "flags": 0x12},
        {"NDA_LLADDR": MAC},
    ),
    (
        Address(NS, BR, IPv4Interface("169.254.1.1/32")),
        ifaddrmsg,
        (20, 21),
        {"family": 2, "prefixlen": 32, "flags": 0, "index": 8, "scope": 0},
        {"IFA_LOCAL": "169.254.1.1", "IFA_ADDRESS": "169.254.1.1"},
    ),
    (
        Address(NS, VX, IPv4Interface("169.254.2.1/16")),
        ifaddrmsg,
        (20, 21),
        {"family": 2, "prefixlen": 16, "flags": 0, "index": 7, "scope": 253},
        {"IFA_LOCAL": "169.254.2.1", "IFA_ADDRESS": "169.254.2.1"},
    ),
    (
        Address(NS, BR, IPv6Interface("fd00:32::1/128")),
        ifaddrmsg,
        (20, 21),
        {"family": 10, "prefixlen": 128, "flags": 2, "index": 8, "scope": 0},
        {"IFA_LOCAL": "fd00:32::1", "IFA_ADDRESS": "fd00:32::1"},
    ),
]


def entries() -> Iterator[Case]:
    flags = {Verb.ADD: CREATE, Verb.REPLACE: REPLACE, Verb.DELETE: REQUEST}
    for item, structure, kinds, fields, found in ENTRIES:
        name = type(item).__name__
        for verb in Verb:
            expected = flags[verb]
            if isinstance(item, FdbEntry) and item.mac == FLOOD and verb is not Verb.DELETE:
                expected = REQUEST | 0x400 | 0x800  # appended, whether it is the first or not
            kind = kinds[verb is Verb.DELETE]
            message = entry_messages.entry(verb, item, INDEXES)
            yield Case(entry_messages, structure, name, message, kind, expected, fields, found)
    item = Link(NS, NEAR, Veth(), MAC, 1450, alias="overlayd blue c1")
    message = entry_messages.entry(Verb.REPLACE, item, INDEXES)
    found = {"IFLA_IFNAME": NEAR, "IFLA_MTU": 1450, "IFLA_IFALIAS": "overlayd blue c1"}
    yield Case(entry_messages, ifinfmsg, "Link", message, 19, REQUEST, {"flags": 1, "change": 1}, found)
    limit = RateLimit(NS, VX, 125_000, 1000, 20_000)
    parameters = {"rate": 125_000, "limit": 20_000, "buffer": 1000}
    options = {"TCA_KIND": "tbf", "TCA_OPTIONS": {"TCA_TBF_PARMS": parameters}}
    for verb in Verb:
        message = entry_messages.entry(verb, limit, INDEXES)
        gone = verb is Verb.DELETE
        found = {"TCA_KIND": "tbf"} if gone else options
        yield Case(entry_messages, tcmsg, "RateLimit", message, 37 if gone else 36, flags[verb], {"index": 7}, found)


CASES = [*links(), *asked(), *shaped(), *filtered(), *entries()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.maker)
def test_pyroute2_reads_what_we_send(case: Case) -> None:
    message = case.structure(case.message)
    message.decode()
    length, kind, flags, sequence, port = HEADER.unpack_from(case.message)
    assert (length, kind, flags, sequence, port) == (len(case.message), case.kind, case.flags, 0, 0)
    assert length % 4 == 0
    assert {name: message[name] for name in case.fields} == case.fields
    assert_holds(message, case.attributes)


def assert_holds(message: Any, expected: Values) -> None:  # noqa: ANN401 - pyroute2 has no types
    """Assert that a message has exactly these attributes, and of a nested structure at least these fields."""
    found = dict(message["attrs"]) if message.get("attrs") else {}
    assert set(found) == {name for name in expected if re.fullmatch("[A-Z].*", name)}
    for name, value in expected.items():
        if name not in found:
            assert message[name] == value
        elif isinstance(value, Mapping):
            assert_holds(found[name], value)
        elif value is not ... and value is not None:
            assert found[name] == value


def makers(module: ModuleType) -> Iterator[str]:
    """Yield the names of a module's functions and constants that are messages."""
    for maker, value in vars(module).items():
        if maker.startswith("_"):
            continue
        if isinstance(value, bytes) or (isinstance(value, tuple) and isinstance(value[0], bytes)):
            yield named(module, maker)
        elif callable(value) and getattr(value, "__module__", "") == module.__name__ and not isinstance(value, type):
            made = inspect.signature(value).return_annotation
            if made in (bytes, list[bytes]):
                yield named(module, maker)


NO_MESSAGES = {
    "nfnetlink.message": "the frame of the others",
    "traffic_control.program_code": "reads",
    "entry_messages.entries": "several of those of its kinds",
    "entry_messages.entry": "those of its kinds",
}


def test_every_kind_of_message_is_compared() -> None:
    modules = (link_messages, traffic_control, requests, nfnetlink, conntrack, entry_messages)
    made = {maker for module in modules for maker in makers(module)} - NO_MESSAGES.keys()
    made |= {f"entry_messages.{kind.__name__}" for kind in entry_messages.KINDS}
    assert made == {case.maker for case in CASES}
    assert set(get_args(Item)) > entry_messages.KINDS


def test_a_message_is_never_what_another_of_its_shape_was() -> None:
    first, second = (link_messages.changed(InterfaceName(f"ve{n:012x}"), mtu=n, up=True) for n in (1400, 1500))
    again = link_messages.changed(InterfaceName(f"ve{1400:012x}"), mtu=1400, up=True)
    assert first == again != second


def test_many_entries_are_what_each_is_alone() -> None:
    items = [item for item, *_ in ENTRIES for _ in range(3)]
    for verb in Verb:
        pairs = [(verb, item) for item in items]
        assert entry_messages.entries(pairs, INDEXES) == [entry_messages.entry(verb, item, INDEXES) for item in items]


@given(st.lists(st.tuples(st.sampled_from(Verb), st.sampled_from([item for item, *_ in ENTRIES])), max_size=40))
def test_runs_of_entries_are_what_each_is_alone(pairs: list[tuple[Verb, Item]]) -> None:
    made = list(entry_runs.runs([verb for verb, _ in pairs], [item for _, item in pairs], INDEXES))
    assert b"".join(run.data for run in made) == b"".join(entry_messages.entries(pairs, INDEXES))
    assert sum(run.number for run in made) == len(pairs)


def test_many_entries_of_one_shape_are_one_run() -> None:
    routes = [Route(NS, IPv4Network((n << 8, 24)), VX, IPv4Address(n), n) for n in range(1, 1000)]
    macs = [MacAddress(f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}") for n in range(999)]
    neighbours = [Neighbour(NS, VX, IPv6Address(n), mac) for n, mac in enumerate(macs)]
    several: tuple[list[Item], ...] = ([*routes], [*neighbours])
    for items in several:
        (run,) = entry_runs.runs([Verb.ADD] * len(items), items, INDEXES)
        assert run == (b"".join(entry_messages.entry(Verb.ADD, item, INDEXES) for item in items), len(items))


def test_a_column_of_another_length_is_refused() -> None:
    template = Template(b"head" + b"\1\2\3\4" + b"tail", [b"\1\2\3\4"])
    assert template.repeated(2, b"onceonce") == (b"headoncetail" * 2, 2)
    assert template.repeated(2, b"both") == (b"headbothtail" * 2, 2)
    for column in (b"", b"three", b"four times too much"):
        with pytest.raises(ValueError, match="column"):
            template.repeated(2, column)


def test_a_limit_beyond_32_bits_has_its_rate_in_64() -> None:
    message = traffic_control.limit_put(RateLimit(NS, VX, 12_500_000_000, 1000, 20_000), 7, 0)
    options = attributes(attributes(message, HEADER.size + TCMSG.size)[2])
    assert int.from_bytes(options[4], sys.byteorder) == 12_500_000_000


def test_a_program_is_sent_as_it_is() -> None:
    message = traffic_control.program_put(7, PROGRAM)
    options = attributes(attributes(message, HEADER.size + TCMSG.size)[2])
    assert (options[4], options[5]) == (b"\5\0", PROGRAM)
    assert traffic_control.program_code(message[HEADER.size :]) == PROGRAM


def test_an_alias_has_no_zero_byte() -> None:
    message = link_messages.changed(NEAR, alias="x" * 255)
    assert attributes(message, HEADER.size + 16)[20] == b"x" * 255


def test_a_pair_needs_mac_and_mtu() -> None:
    peer = VethPeer(SANDBOX, ETH0, OTHER_MAC)
    with pytest.raises(KernelError):
        link_messages.created_pair(Link(NS, NEAR, Veth(peer), None, None), peer, 12, up=False)
