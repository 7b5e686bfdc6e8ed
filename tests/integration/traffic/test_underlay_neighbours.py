"""What another machine on the underlay can do to hosts and their networks: docs/security.md's table.

The networks have no uplink, so hosts track no connections; where they do, the kernel puts fragments together first.
"""

import json
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.integration.safety.test_vxlan_sources import STRANGER, dropped
from tests.integration.traffic.test_container_reach import VXLAN_PORT, echo_request, frame_into
from tests.support.lab.lab import Container, Lab
from tests.support.lab.processes import eventually

NEIGHBOUR_MAC = "02:00:00:00:00:77"
APART = "10.99.0.99"
"""The address of a host that has no network."""

NARROW = 600
"""Bytes: an MTU that no way between the hosts has."""

DATAGRAM = """
import sys
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.sendrecv import sendp
mac, source, to, port, content, size = sys.argv[1:]
whole = IP(src=source, dst=to) / UDP(sport=40000, dport=int(port), chksum=0) / Raw(bytes.fromhex(content))
head = Ether(src="02:00:00:00:00:77", dst=mac)
sendp([head / each for each in fragment(whole, int(size))], iface="under0", verbose=False)
"""
ARP_REPLY = """
import sys
from scapy.layers.l2 import ARP, Ether
from scapy.sendrecv import sendp
mac, own, claimed, to = sys.argv[1:]
sendp(Ether(src=own, dst=mac) / ARP(op=2, hwsrc=own, psrc=claimed, hwdst=mac, pdst=to), iface="under0", verbose=False)
"""
TOO_BIG = """
import sys
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.sendrecv import sendp
mac, source, to, mtu, quoted = sys.argv[1:]
error = IP(src=source, dst=to) / ICMP(type=3, code=4, nexthopmtu=int(mtu)) / Raw(bytes.fromhex(quoted))
sendp(Ether(src="02:00:00:00:00:77", dst=mac) / error, iface="under0", verbose=False)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), hosts=2) as made:
        made.start_controller()
        for host in made.hosts:
            host.start_agent()
        made.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16", "--uplink", "none")
        yield made


@dataclass(frozen=True)
class Neighbour:
    """A machine beside the hosts on the underlay, and a container on each host; the first one is its victim."""

    lab: Lab
    victim: Container
    other: Container
    vni: int

    @property
    def vteps(self) -> list[str]:
        return [str(container.host.address) for container in (self.victim, self.other)]

    @property
    def mac(self) -> str:
        """The MAC of the victim's host on the underlay."""
        (link,) = json.loads(self.victim.host.run("ip", "-j", "link", "show", "dev", "eth0"))
        return str(link["address"])

    @property
    def frame(self) -> bytes:
        """What a VXLAN packet of the other host has inside: an echo request from its container to the victim."""
        (link,) = json.loads(self.victim.host.run("ip", "-n", "ov-blue", "-j", "link", "show", "dev", "vx0"))
        return frame_into(self.vni, link["address"], echo_request(self.other.address, self.victim.address))

    def send(self, source: str, content: bytes, size: int = 1400, port: int = VXLAN_PORT) -> None:
        """Send a datagram from any address to the victim's host, in fragments of so many bytes."""
        arguments = [self.mac, source, self.vteps[0], str(port), content.hex(), str(size)]
        self.run(DATAGRAM, *arguments)

    def run(self, program: str, *arguments: str) -> None:
        self.lab.underlay_run(sys.executable, "-W", "ignore", "-c", program, *arguments)


@pytest.fixture(scope="module")
def neighbour(lab: Lab) -> Neighbour:
    victim, other = (host.attach(f"blue-{host.name}", "blue") for host in lab.hosts)
    lab.in_force(victim, other)
    return Neighbour(lab, victim, other, json.loads(lab.overlayctl("network", "show", "blue", "--json"))["vni"])


def test_a_forged_packet_in_fragments_is_dropped(neighbour: Neighbour) -> None:
    victim = neighbour.victim
    for size in (8, 16, 40):  # of 8 bytes the first fragment has the header of UDP and no VNI
        echoes, lost = victim.echoes, dropped(victim.host)
        neighbour.send(STRANGER, neighbour.frame, size)
        eventually(lambda: dropped(victim.host) == lost + 1, f"fragments of {size} bytes are dropped")  # noqa: B023
        assert victim.echoes == echoes
    neighbour.send(neighbour.vteps[1], neighbour.frame, 8)
    eventually(lambda: victim.echoes == echoes + 1, "such fragments of a VTEP arrive")


def test_a_packet_from_an_address_of_the_host_itself_is_dropped(neighbour: Neighbour) -> None:
    victim = neighbour.victim
    for source in (neighbour.vteps[0], "127.0.0.1", "0.0.0.0", str(neighbour.other.address)):
        echoes, lost = victim.echoes, dropped(victim.host)
        neighbour.send(source, neighbour.frame)
        eventually(lambda: dropped(victim.host) == lost + 1, f"what comes from {source} is dropped")  # noqa: B023
        assert victim.echoes == echoes


def test_whoever_sends_from_the_address_of_a_vtep_is_inside_as_often_as_he_repeats_it(neighbour: Neighbour) -> None:
    """VXLAN has no authentication and no protection against replay (RFC 7348 section 7)."""
    victim = neighbour.victim
    frame, echoes = neighbour.frame, victim.echoes
    for sent in (1, 2, 3):
        neighbour.send(neighbour.vteps[1], frame)
        eventually(lambda: victim.echoes == echoes + sent, "it arrives")  # noqa: B023


def test_the_address_of_every_host_is_let_into_every_network(lab: Lab, neighbour: Neighbour) -> None:
    """A host that was taken over is no further from a network of which it holds no block."""
    victim, echoes = neighbour.victim, neighbour.victim.echoes
    body = {"name": "apart", "address": APART, "instance": "i1", "version": "1"}
    httpx.put(f"{lab.api_url}/v1/hosts/apart", json=body, trust_env=False).raise_for_status()

    def is_known() -> bool:
        return APART in victim.host.run("nft", "list", "set", "inet", "overlayd_vxlan", "vteps")

    eventually(is_known, "the host is known")
    neighbour.send(APART, neighbour.frame)
    eventually(lambda: victim.echoes == echoes + 1, "its packet arrives")
    httpx.delete(f"{lab.api_url}/v1/hosts/apart", trust_env=False).raise_for_status()
    eventually(lambda: not is_known(), "the host is forgotten")
    lost = dropped(victim.host)
    neighbour.send(APART, neighbour.frame)
    eventually(lambda: dropped(victim.host) == lost + 1, "its packets are dropped")
    assert victim.echoes == echoes + 1


def test_a_vxlan_packet_to_another_port_comes_to_nothing(neighbour: Neighbour) -> None:
    victim = neighbour.victim
    echoes = victim.echoes
    neighbour.send(neighbour.vteps[1], neighbour.frame, port=VXLAN_PORT + 1)
    neighbour.send(neighbour.vteps[1], neighbour.frame)
    eventually(lambda: victim.echoes == echoes + 1, "only what is sent to the port arrives")


def test_a_neighbour_takes_the_way_to_a_host_by_arp(neighbour: Neighbour) -> None:
    """Hosts on one link find each other by ARP, which this project does not secure (RFC 826)."""
    host = neighbour.victim.host

    def is_taken() -> bool:
        neighbour.run(ARP_REPLY, neighbour.mac, NEIGHBOUR_MAC, neighbour.vteps[1], neighbour.vteps[0])
        return NEIGHBOUR_MAC in host.run("ip", "neighbour", "show", neighbour.vteps[1])

    assert neighbour.victim.ping(neighbour.other.address) is not None
    eventually(is_taken, "the host believes it")
    host.run("ip", "neighbour", "flush", "dev", "eth0")
    eventually(lambda: neighbour.victim.ping(neighbour.other.address), "the way is back")


def test_a_permanent_neighbour_entry_keeps_the_way_to_a_host(neighbour: Neighbour) -> None:
    host, other = neighbour.victim.host, neighbour.other.host
    (link,) = json.loads(other.run("ip", "-j", "link", "show", "dev", "eth0"))
    host.run("ip", "neighbour", "replace", str(other.address), "lladdr", link["address"], "dev", "eth0")
    for _ in range(3):
        neighbour.run(ARP_REPLY, neighbour.mac, NEIGHBOUR_MAC, neighbour.vteps[1], neighbour.vteps[0])
        assert neighbour.victim.ping(neighbour.other.address) is not None
    assert NEIGHBOUR_MAC not in host.run("ip", "neighbour", "show", str(other.address))
    host.run("ip", "neighbour", "del", str(other.address), "dev", "eth0")


def test_a_neighbour_narrows_the_way_between_hosts_and_traffic_goes_on(neighbour: Neighbour) -> None:
    """By an ICMP error about a VXLAN packet of the host (RFC 1191): routers of the underlay send them too."""
    host = neighbour.victim.host
    source, to = (container.host.address.packed for container in (neighbour.victim, neighbour.other))
    quoted = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 1420, 1, 0x4000, 64, 17, 0, source, to)
    quoted += struct.pack("!HHHHII", 40000, VXLAN_PORT, 1400, 0, 0x08 << 24, neighbour.vni << 8)
    neighbour.run(TOO_BIG, neighbour.mac, STRANGER, neighbour.vteps[0], str(NARROW), quoted.hex())
    eventually(lambda: f"mtu {NARROW}" in host.run("ip", "route", "get", neighbour.vteps[1]), "the way is narrow")
    ping = ["ping", "-n", "-c3", "-i0.2", "-W2", "-M", "dont", "-s1200", str(neighbour.other.address)]
    assert neighbour.victim.run(*ping), "large packets pass in fragments"
    host.run("ip", "route", "flush", "cache")
