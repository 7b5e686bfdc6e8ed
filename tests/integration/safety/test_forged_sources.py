"""A container speaks from its own addresses only: packets made with scapy, counted where they would arrive."""

import json
import sys
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6MLDMultAddrRec,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    IPv6,
)
from scapy.layers.l2 import ARP, LLC, SNAP, STP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Packet, Raw
from scapy.utils6 import in6_mactoifaceid

from overlayd.model.address import IpAddress
from tests.integration.conftest import NewNetwork
from tests.support.lab.lab import Container, Lab, LabHost
from tests.support.lab.processes import eventually
from tests.support.packets.extension_headers import (
    FIRST,
    HOP_BY_HOP,
    ICMPV6,
    LATER,
    OPTIONS,
    READ_OVER,
    UDP_KIND,
    UNREADABLE,
    WHOLE,
    stacked,
)
from tests.support.packets.frame_socket import FrameSocket

SEND = """
import sys
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.sendrecv import sendp
device, source_mac, gateway_mac, source, destination, count = sys.argv[1:]
network = IPv6 if ":" in source else IP
packet = Ether(src=source_mac, dst=gateway_mac) / network(src=source, dst=destination) / UDP(sport=7, dport=7)
sendp([packet] * int(count), iface=device, verbose=False)
"""
COUNT = 5
GATEWAY_MAC, HOST_2_MAC = "02:6f:76:00:00:00", "02:6f:76:00:00:02"
EVERYBODY, ALL_NODES = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"


def mac(container: Container) -> str:
    (link,) = json.loads(container.run("ip", "-j", "link", "show", "dev", container.interface))
    return str(link["address"])


def send(
    container: Container, source: str, destination: str, gateway: str = GATEWAY_MAC, as_mac: str | None = None
) -> None:
    arguments = [container.interface, as_mac or mac(container), gateway, source, destination, str(COUNT)]
    container.run(sys.executable, "-W", "ignore", "-c", SEND, *arguments)


def arrived(container: Container, source: str) -> int:
    """Return how many packets with this source a container got, as a table of the test's own counts them."""
    listed = json.loads(container.run("nft", "-j", "list", "counters"))["nftables"]
    name = counter_of(source)
    return int(next(each["counter"]["packets"] for each in listed if each.get("counter", {}).get("name") == name))


def counter_of(source: str) -> str:
    return "from_" + source.replace(".", "_").replace(":", "_")


def count(container: Container, *sources: str) -> None:
    container.run("nft", "add table inet seen; add chain inet seen in { type filter hook prerouting priority -400; }")
    for source in sources:
        word = "ip6" if ":" in source else "ip"
        container.run("nft", f"add counter inet seen {counter_of(source)}")
        container.run("nft", f"add rule inet seen in {word} saddr {source} counter name {counter_of(source)}")


@pytest.mark.parametrize(
    ("kind", "local"),
    [
        pytest.param("host", True, id="host, on one host"),
        pytest.param("isolated", False, id="isolated, across hosts"),
        *(
            pytest.param(kind, local, id=f"{kind}, {where}", marks=pytest.mark.thorough)
            for kind, local, where in [
                ("host", False, "across hosts"),
                ("isolated", True, "on one host"),
                ("none", True, "on one host"),
                ("none", False, "across hosts"),
            ]
        ),
    ],
)
def test_a_forged_source_is_not_forwarded_in_a_routed_network(
    lab: Lab, new_network: NewNetwork, kind: str, *, local: bool
) -> None:
    network = new_network("--range", "fd00:77::/48", "--uplink", kind)
    sender = lab.hosts[0].attach(f"{network}-sender", network)
    beside = lab.hosts[0].attach(f"{network}-beside", network)
    receiver = lab.hosts[0 if local else 1].attach(f"{network}-receiver", network)
    lab.in_force(sender, beside, receiver)
    for number, outside in ((0, "198.51.100.7"), (1, "2001:db8::7")):
        own, to = str(sender.addresses[number]), str(receiver.addresses[number])
        forged = [str(beside.addresses[number]), outside, str(beside.addresses[number] + 100)]
        if number == 0:
            count(receiver, own, *forged, str(sender.addresses[1]), *ipv6_of(beside))
        for source in forged:
            send(sender, source, to)
        send(sender, own, to)
        eventually(lambda: arrived(receiver, own) == COUNT, "what is honest arrives")  # noqa: B023 - used at once
        assert [arrived(receiver, source) for source in forged] == [0, 0, 0]
    assert beside.ping(receiver.addresses[1]) is not None


@pytest.mark.parametrize("local", [True, False], ids=["on one host", "across hosts"])
def test_a_forged_source_is_not_forwarded_on_a_segment(lab: Lab, new_network: NewNetwork, *, local: bool) -> None:
    network = new_network("--range", "fd00:78::/48", "--topology", "switched")
    sender, beside = (lab.hosts[0].attach(f"{network}-{name}", network) for name in ("sender", "beside"))
    receiver = lab.hosts[0 if local else 1].attach(f"{network}-receiver", network)
    lab.in_force(sender, beside, receiver)
    theirs = {str(address): str(receiver.addresses[number]) for number, address in enumerate(beside.addresses)}
    own = {str(address): str(receiver.addresses[number]) for number, address in enumerate(sender.addresses)}
    count(receiver, *theirs, *own)
    for source, to in (theirs | own).items():
        send(sender, source, to, gateway=mac(receiver))
    for source, to in own.items():
        # With the address of another container on the segment, which would attract its packets.
        send(sender, source, to, gateway=mac(receiver), as_mac=mac(beside))
    # What is sent last arrives last: by then all of it would have arrived.
    assert sender.ping(receiver.addresses[0]) is not None
    assert [COUNT <= arrived(receiver, source) < 2 * COUNT for source in own] == [True, True]
    assert [arrived(receiver, source) for source in theirs] == [0, 0]


def test_a_container_speaks_for_itself_only_on_a_segment(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--range", "fd00:79::/48", "--topology", "switched")
    liar, beside, victim = (lab.hosts[0].attach(f"{network}-{name}", network) for name in ("liar", "beside", "victim"))
    far = lab.hosts[1].attach(f"{network}-far", network)
    lab.in_force(liar, beside, victim, far)
    for other in (beside, far):
        for address in victim.addresses:
            assert other.ping(address) is not None
    known = [(other, neighbours(other)) for other in (beside, far)]
    source = bytes.fromhex(mac(liar).replace(":", ""))
    honest = [bytes(frame) for frame in said_for_itself(liar)]
    lies = [bytes(frame) for frame in lies_about(victim, liar)]
    with FrameSocket(liar) as sender, FrameSocket(beside) as near_by, FrameSocket(far) as far_away:
        sender.send(*lies, *honest)
        heard = [listener.until(honest[-1], source) for listener in (near_by, far_away)]
    for frames in heard:
        assert set(honest[:-1]).issubset(frames)
        # Tags are taken off what arrives.
        assert not {each for lie in lies for each in (lie, lie[:12] + lie[16:])}.intersection(frames)
    for other, before in known:
        assert {address: mac for address, mac in neighbours(other).items() if address in before} == before
        assert before[str(victim.addresses[0])] == mac(victim)
        assert before[str(victim.addresses[1])] == mac(victim)
        assert other.ping(victim.addresses[1]) is not None
        assert not other.run("ip", "-6", "route", "show", "proto", "ra")


def said_for_itself(container: Container) -> list[Packet]:
    """Return frames that all stations on the segment may get; the last one is a datagram."""
    own, address6 = mac(container), str(container.addresses[1])
    link_local = link_local_of(container)
    to_all = Ether(src=own, dst=ALL_NODES)
    advertisement = ICMPv6ND_NA(tgt=address6, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=own)
    listener = ICMPv6MLReport2(records=[ICMPv6MLDMultAddrRec(dst="ff02::6f76")])
    return [
        to_all / stacked([HOP_BY_HOP], advertisement, ICMPV6, address6, "ff02::1"),
        to_all / stacked([HOP_BY_HOP], listener, ICMPV6, link_local, "ff02::1"),
        to_all / stacked([FIRST], UDP(sport=7, dport=9) / Raw(bytes(64)), UDP_KIND, address6, "ff02::1"),
        to_all / stacked([LATER], Raw(bytes(64)), UDP_KIND, address6, "ff02::1"),
        said_by(container, "the end"),
    ]


def lies_about(victim: Container, liar: Container) -> Iterator[Packet]:
    """Yield frames by which a container draws to itself what is meant for another, or for routers."""
    own, (address, address6) = mac(liar), map(str, victim.addresses)
    own6, link_local = str(liar.addresses[1]), link_local_of(liar)
    to_all, to_nodes = Ether(src=own, dst=EVERYBODY), Ether(src=own, dst=ALL_NODES)
    claims = [ARP(op=operation, hwsrc=own, psrc=address, hwdst=EVERYBODY, pdst=address) for operation in (1, 2)]
    for claim in claims:
        yield to_all / claim
        for vlan in (0, 5):
            yield to_all / Dot1Q(vlan=vlan) / claim
        yield to_all / Dot1AD(vlan=5) / Dot1Q(vlan=0) / claim
        yield Dot3(src=own, dst=EVERYBODY) / LLC() / SNAP() / claim
    advertisement = ICMPv6ND_NA(tgt=address6, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=own)
    router = ICMPv6ND_RA() / ICMPv6NDOptPrefixInfo(prefix="2001:db8::", prefixlen=64)
    redirect = ICMPv6ND_Redirect(tgt=link_local, dst=address6) / ICMPv6NDOptDstLLAddr(lladdr=own)
    hidden = [[], *([header] for header in (*READ_OVER, WHOLE, FIRST, *UNREADABLE)), [HOP_BY_HOP, OPTIONS, WHOLE]]
    for headers in hidden:
        for message in (advertisement, router, redirect):
            for source in (link_local, own6, address6, "fe80::66"):
                yield to_nodes / stacked(headers, message, ICMPV6, source, "ff02::1")
        yield to_nodes / Dot1Q(vlan=0) / stacked(headers, advertisement, ICMPV6, link_local, "ff02::1")
    yield Dot3(src=own, dst="01:80:c2:00:00:00") / LLC() / STP()
    for kind in (0x88CC, 0x8035, 0x8847, 0x8863):
        yield Ether(src=own, dst=EVERYBODY, type=kind) / Raw(bytes(46))
    yield to_all / IP(src=str(liar.address), dst="255.255.255.255") / UDP(sport=67, dport=68) / BOOTP() / DHCP()
    yield to_nodes / IPv6(src=link_local, dst="ff02::1", hlim=255) / UDP(sport=547, dport=546) / Raw(bytes(8))


def test_a_container_hears_nothing_that_is_for_another_one_on_a_segment(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--topology", "switched")
    speaker, beside, near = (
        lab.hosts[0].attach(f"{network}-{name}", network) for name in ("speaker", "beside", "near")
    )
    far = lab.hosts[1].attach(f"{network}-far", network)
    lab.in_force(speaker, beside, near, far)
    own = mac(speaker)
    unknown = Ether(src=own, dst="02:00:00:00:00:99") / IP(src=str(speaker.address), dst=str(far.address)) / UDP()
    last = bytes(said_by(speaker, "the end"))
    with FrameSocket(speaker) as speaking, FrameSocket(beside) as listening:
        for other in (near, far):
            assert speaker.ping(other.address) is not None
        speaking.send(bytes(unknown), last)
        heard = listening.until(last, bytes.fromhex(own.replace(":", "")))
    assert [frame for frame in heard if not frame[0] & 1] == [], "frames to a single MAC"


def test_other_ethertypes_pass_where_the_network_says_so(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--topology", "switched", "--ethertype", "0x88b5")
    sender, receiver = lab.attach_everywhere(network)
    own = mac(sender)
    source = bytes.fromhex(own.replace(":", ""))
    other, unknown = (bytes(Ether(src=own, dst=EVERYBODY, type=kind) / Raw(bytes(46))) for kind in (0x88B5, 0x88B6))
    last = bytes(said_by(sender, "the end"))
    for options, passing in (((), [other]), (("--ethertype", "none"), []), (("--ethertype", "0x88b6"), [unknown])):
        if options:
            lab.overlayctl("network", "set", network, *options)
            lab.in_force(sender, receiver)
        with FrameSocket(sender) as sending, FrameSocket(receiver) as receiving:
            sending.send(other, unknown, last)
            heard = receiving.until(last, source)
        assert [frame for frame in heard if frame in {other, unknown}] == passing


def said_by(container: Container, text: str) -> Packet:
    to_all = Ether(src=mac(container), dst=EVERYBODY) / IP(src=str(container.address), dst="255.255.255.255")
    return to_all / UDP(sport=7, dport=9) / text.encode()


def test_link_local_addresses_work_on_a_segment_wherever_the_sandbox_makes_them(
    lab: Lab, new_network: NewNetwork
) -> None:
    network = new_network("--range", "fd00:7a::/48", "--topology", "switched")
    names = [f"{network}-plain", f"{network}-private"]
    for host, name in zip(lab.hosts, names, strict=True):
        host.add_sandbox(name)
    # As a sandbox of a system whose link-local addresses are random (RFC 7217).
    sandbox = f"--net=/run/netns/{names[1]}"
    lab.hosts[1].run("nsenter", sandbox, "sysctl", "-qw", "net.ipv6.conf.default.addr_gen_mode=3")
    plain, private = (host.attach(name, network) for host, name in zip(lab.hosts, names, strict=True))
    lab.in_force(plain, private)
    for one, other in ((plain, private), (private, plain)):
        to = IPv6Address(f"{link_local_of(other)}%eth0")
        # Until duplicate address detection of both link-local addresses is over.
        eventually(lambda: one.ping(to), f"{to} answers")  # noqa: B023 - used at once
        assert one.run("ping", "-6", "-c1", "-s3000", str(other.addresses[1])), "in fragments"
        assert one.run("ping", "-c1", "-s3000", str(other.addresses[0])), "in fragments"


def test_a_container_does_not_fill_the_neighbour_table_of_its_host(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--range", "fd00:7b::/48", "--topology", "switched")
    sender, receiver = lab.attach_everywhere(network)
    own, (address, address6) = mac(sender), map(str, sender.addresses)
    before = [bridge_neighbours(host, network) for host in lab.hosts]
    frames: list[bytes] = []
    for number in range(1, 101):
        strangers = IPv6(src=f"fe80::66:{number}", dst="ff02::1", hlim=255)
        frames.append(bytes(Ether(src=own, dst=ALL_NODES) / strangers / ICMPv6ND_NS(tgt="fe80::1")))
        nobody, nobody6 = sender.addresses[0] + 300 + number, sender.addresses[1] + 300 + number
        for gateway in (GATEWAY_MAC, HOST_2_MAC):
            to_gateway = Ether(src=own, dst=gateway)
            frames += [bytes(to_gateway / IP(src=address, dst=str(nobody)) / UDP())]
            frames += [bytes(to_gateway / IPv6(src=address6, dst=str(nobody6)) / UDP())]
    with FrameSocket(sender) as socket:
        socket.send(*frames)
    for answering in (*receiver.addresses, gateway_of(sender)):
        assert sender.ping(answering) is not None, "what is sent last arrives last"
    assert [bridge_neighbours(host, network) for host in lab.hosts] == before


def bridge_neighbours(host: LabHost, network: str) -> list[str]:
    """Return what the kernel knows, or wants to know, of a segment's addresses."""
    listed = json.loads(host.run("ip", "-j", "-n", f"ov-{network}", "neighbour", "show", "dev", "br0", "nud", "all"))
    return sorted(each["dst"] for each in listed)


def gateway_of(container: Container) -> IpAddress:
    (route,) = json.loads(container.run("ip", "-j", "route", "show", "default"))
    return ip_address(route["gateway"])


def link_local_of(container: Container) -> str:
    return f"fe80::{in6_mactoifaceid(mac(container))}"


def neighbours(container: Container) -> dict[str, str]:
    listed = json.loads(container.run("ip", "-j", "neighbour", "show", "dev", "eth0"))
    return {each["dst"]: each["lladdr"] for each in listed if "lladdr" in each}


def ipv6_of(beside: Container) -> list[str]:
    return [str(beside.addresses[1]), "2001:db8::7", str(beside.addresses[1] + 100)]
