"""Which VXLAN packets a host accepts: from known VTEPs into our networks, from any sender into foreign ones."""

import json
import re
import sys

from tests.integration.conftest import NewNetwork
from tests.support.lab.lab import Container, Lab, LabHost
from tests.support.lab.processes import eventually

STRANGER = "10.99.0.66"
FORGED = """
import sys
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw
from scapy.sendrecv import sendp
source, vtep, vtep_mac, vni, inner_mac, inner_source, inner_destination = sys.argv[1:]
inner = Ether(src="02:00:00:00:00:66", dst=inner_mac) / IP(src=inner_source, dst=inner_destination) / ICMP()
outer = Ether(src="02:00:00:00:00:77", dst=vtep_mac) / IP(src=source, dst=vtep) / UDP(sport=4789, dport=4789)
sendp(outer / VXLAN(vni=int(vni), flags="Instance") / inner, iface="under0", verbose=False)
"""


def inject(lab: Lab, source: str, inner: Container, to: Container) -> None:
    """Send a VXLAN packet from somewhere on the underlay, with an echo request of a container inside."""
    host = to.host
    vtep_mac = json.loads(host.run("ip", "-j", "link", "show", "dev", "eth0"))[0]["address"]
    inner_mac = json.loads(host.run("ip", "-n", f"ov-{to.network}", "-j", "link", "show", "dev", "vx0"))[0]["address"]
    vni = json.loads(lab.overlayctl("network", "show", to.network, "--json"))["vni"]
    arguments = [source, str(host.address), vtep_mac, str(vni), inner_mac, str(inner.address), str(to.address)]
    lab.underlay_run(sys.executable, "-W", "ignore", "-c", FORGED, *arguments)


def dropped(host: LabHost) -> int:
    """Return how many packets of strangers this host dropped."""
    listed = host.run("nft", "list", "counter", "inet", "overlayd_vxlan", "forged_vxlan")
    found = re.search(r"packets (\d+)", listed)
    assert found
    return int(found[1])


def received(container: Container) -> int:
    (link,) = json.loads(container.run("ip", "-j", "-s", "link", "show", "dev", container.interface))
    return int(link["stats64"]["rx"]["packets"])


def test_a_packet_from_a_stranger_is_dropped_and_counted_and_one_from_a_vtep_arrives(
    lab: Lab, new_network: NewNetwork
) -> None:
    network = new_network()
    here, there = lab.attach_everywhere(network)
    got, lost = received(here), dropped(here.host)
    inject(lab, STRANGER, there, here)
    eventually(lambda: dropped(here.host) == lost + 1, "the packet is dropped and counted")
    assert received(here) == got
    inject(lab, str(there.host.address), there, here)
    eventually(lambda: received(here) == got + 1, "a packet of a known VTEP arrives")
    assert dropped(here.host) == lost + 1


def test_another_overlay_on_the_same_port_is_left_alone(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    here, there = lab.attach_everywhere(network)
    # A member of the other overlay that is no host of ours: the underlay's own namespace, at the controller's address.
    device = ["ip", "link", "add", "swarm0", "type", "vxlan", "id", "4097", "dstport", "4789"]
    here.host.run(*device, "local", str(here.host.address), "remote", "10.99.0.1")
    lab.underlay_run(*device, "local", "10.99.0.1", "remote", str(here.host.address))
    for run, address in ((here.host.run, "192.0.2.1/24"), (lab.underlay_run, "192.0.2.2/24")):
        run("ip", "address", "add", address, "dev", "swarm0")
        run("ip", "link", "set", "swarm0", "up")
    lost = dropped(here.host)
    here.host.run("ping", "-n", "-c1", "-W5", "192.0.2.2")
    lab.underlay_run("ping", "-n", "-c1", "-W5", "192.0.2.1")
    assert here.ping(there.address) is not None
    assert dropped(here.host) == lost
    for run in (here.host.run, lab.underlay_run):
        run("ip", "link", "del", "swarm0")


def test_packets_between_vteps_are_not_tracked(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    here, there = lab.attach_everywhere(network)
    # A foreign table, which makes the host track its connections and count what is tracked.
    here.host.run("nft", "add table inet tracker; add chain inet tracker in { type filter hook input priority 0; }")
    here.host.run("nft", "add rule inet tracker in udp dport 4789 ct state new,established counter")
    here.host.run("nft", "add rule inet tracker in udp dport 4789 ct state untracked counter")
    assert here.ping(there.address) is not None
    tracked, untracked = re.findall(r"counter packets (\d+)", here.host.run("nft", "list", "table", "inet", "tracker"))
    here.host.run("nft", "delete", "table", "inet", "tracker")
    assert (int(tracked), int(untracked) > 0) == (0, True)


def test_a_flushed_ruleset_comes_back_and_a_foreign_table_stays(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    here, there = lab.attach_everywhere(network)
    here.host.run("nft", "flush", "ruleset")
    here.host.run("nft", "add table inet foreign; add chain inet foreign kept")
    foreign = here.host.run("nft", "-a", "list", "table", "inet", "foreign")
    eventually(lambda: "overlayd_vxlan" in here.host.run("nft", "list", "tables"), "the table is there again")
    inject(lab, STRANGER, there, here)
    eventually(lambda: dropped(here.host) == 1, "strangers are kept out")
    assert here.host.run("nft", "-a", "list", "table", "inet", "foreign") == foreign
    here.host.run("nft", "delete", "table", "inet", "foreign")
