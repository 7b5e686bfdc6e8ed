"""A container speaks from its own addresses only: packets made with scapy, counted where they would arrive."""

import json
import sys

import pytest

from tests.integration.conftest import NewNetwork
from tests.support.lab import Container, Lab
from tests.support.processes import eventually

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
GATEWAY_MAC = "02:6f:76:00:00:00"
LIE = """
import sys
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.sendrecv import sendp
mac, address, address6 = sys.argv[1:]
everybody, all_nodes = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"
for operation in (1, 2):
    lie = ARP(op=operation, hwsrc=mac, psrc=address, hwdst=everybody, pdst=address)
    sendp(Ether(src=mac, dst=everybody) / lie, iface="eth0", verbose=False)
for source in (address6, "fe80::66"):
    lie = ICMPv6ND_NA(tgt=address6, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=mac)
    sendp(Ether(src=mac, dst=all_nodes) / IPv6(src=source, dst="ff02::1", hlim=255) / lie, iface="eth0", verbose=False)
"""


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
        # As somebody else on the segment, which would draw that one's packets.
        send(sender, source, to, gateway=mac(receiver), as_mac=mac(beside))
    # What is sent last arrives last: by then all of it would have arrived.
    assert sender.ping(receiver.addresses[0]) is not None
    assert [COUNT <= arrived(receiver, source) < 2 * COUNT for source in own] == [True, True]
    assert [arrived(receiver, source) for source in theirs] == [0, 0]


def test_a_container_does_not_answer_for_another_on_a_segment(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--range", "fd00:79::/48", "--topology", "switched")
    liar, beside, victim = (lab.hosts[0].attach(f"{network}-{name}", network) for name in ("liar", "beside", "victim"))
    lab.in_force(liar, beside, victim)
    for address in victim.addresses:
        assert beside.ping(address) is not None
    known = neighbours(beside)
    liar.run(sys.executable, "-W", "ignore", "-c", LIE, mac(liar), *map(str, victim.addresses))
    assert beside.ping(liar.address) is not None, "what is sent last arrives last"
    assert {address: mac for address, mac in neighbours(beside).items() if address in known} == known
    assert known[str(victim.addresses[0])] == mac(victim)


def neighbours(container: Container) -> dict[str, str]:
    listed = json.loads(container.run("ip", "-j", "neighbour", "show", "dev", "eth0"))
    return {each["dst"]: each["lladdr"] for each in listed if "lladdr" in each}


def ipv6_of(beside: Container) -> list[str]:
    return [str(beside.addresses[1]), "2001:db8::7", str(beside.addresses[1] + 100)]
