"""A container speaks from its own addresses only: packets made with scapy, counted where they would arrive."""

import json
import sys

import pytest

from tests.integration.conftest import NewNetwork
from tests.support.lab import Container, Lab
from tests.support.processes import eventually

SEND = """
import sys
from scapy.all import Ether, sendp
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
device, source_mac, gateway_mac, source, destination, count = sys.argv[1:]
network = IPv6 if ":" in source else IP
packet = Ether(src=source_mac, dst=gateway_mac) / network(src=source, dst=destination) / UDP(sport=7, dport=7)
sendp([packet] * int(count), iface=device, verbose=False)
"""
COUNT = 5


def mac(container: Container) -> str:
    (link,) = json.loads(container.run("ip", "-j", "link", "show", "dev", container.interface))
    return str(link["address"])


def send(container: Container, source: str, destination: str) -> None:
    arguments = [container.interface, mac(container), "02:6f:76:00:00:00", source, destination, str(COUNT)]
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


@pytest.mark.parametrize("local", [True, False], ids=["on one host", "across hosts"])
@pytest.mark.parametrize("kind", ["host", "isolated", "none"])
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


def ipv6_of(beside: Container) -> list[str]:
    return [str(beside.addresses[1]), "2001:db8::7", str(beside.addresses[1] + 100)]
