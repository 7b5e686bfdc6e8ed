"""The whole way of a packet: attach, ping, capture, detach, in both topologies."""

import json
from collections.abc import Callable, Iterable, Iterator

import pytest

from tests.integration.conftest import NewNetwork
from tests.support.lab.lab import Container, Lab, LabHost
from tests.support.lab.processes import eventually
from tests.support.packets.capture import Capture, VxlanPacket

ARP = 0x0806
BROADCAST = "ff:ff:ff:ff:ff:ff"
ICMP = 1
BOTH = pytest.mark.parametrize("topology", ["routed", "switched"])


def vni(lab: Lab, network: str) -> int:
    return int(json.loads(lab.overlayctl("network", "show", network, "--json"))["vni"])


def devices(host: LabHost, network: str) -> set[str]:
    return {link["ifname"] for link in json.loads(host.run("ip", "-n", f"ov-{network}", "-j", "link"))}


@BOTH
def test_every_pair_pings_on_one_host_and_across(lab: Lab, new_network: NewNetwork, topology: str) -> None:
    network = new_network("--topology", topology)
    containers = [host.attach(f"{network}-{n}-{host.name}", network) for host in lab.hosts for n in (1, 2)]
    lab.in_force(*containers)
    lost = [
        (source.name, destination.name)
        for source in containers
        for destination in containers
        if source.ping(destination.address) is None
    ]
    assert lost == []


@BOTH
def test_a_packet_of_full_size_passes_and_a_larger_one_is_refused_at_the_source(
    lab: Lab, new_network: NewNetwork, topology: str
) -> None:
    network = new_network("--topology", topology)
    source, destination = lab.attach_everywhere(network)
    assert source.ping(destination.address, size=1450) is not None
    assert source.ping(destination.address, size=1451) is None


@BOTH
def test_the_underlay_carries_vxlan_between_the_vteps(lab: Lab, new_network: NewNetwork, topology: str) -> None:
    network = new_network("--topology", topology)
    source, destination = lab.attach_everywhere(network)
    with Capture(lab.enter_underlay) as capture:
        source.ping(destination.address)
        packet = next(p for p in capture.packets(5.0) if p.protocol == ICMP)
    assert (packet.outer_source, packet.outer_destination) == tuple(str(host.address) for host in lab.hosts)
    assert packet.vni == vni(lab, network)
    assert (packet.inner_source, packet.inner_destination) == (str(source.address), str(destination.address))
    if topology == "routed":
        assert packet.inner_source_mac.startswith("02:6f:76:")
        assert packet.inner_destination_mac.startswith("02:6f:76:")
    else:
        assert packet.inner_source_mac == mac(source)
        assert packet.inner_destination_mac == mac(destination)


def mac(container: Container) -> str:
    (link,) = json.loads(container.run("ip", "-j", "link", "show", "dev", container.interface))
    return str(link["address"])


def test_a_switched_network_answers_arp_at_home_and_carries_broadcasts(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--topology", "switched")
    source, destination = lab.attach_everywhere(network)
    with Capture(lab.enter_underlay) as capture:
        assert source.ping(destination.address) is not None
        ping_broadcast(source)
        passed = list(takewhile_inclusive(lambda p: p.inner_destination_mac != BROADCAST, capture.packets(5.0)))
    assert ARP not in {packet.ethertype for packet in passed}
    assert [p.inner_destination_mac for p in passed if p.protocol == ICMP] == [mac(destination), mac(source), BROADCAST]
    before = received(destination)
    ping_broadcast(source)
    eventually(lambda: received(destination) > before, "the broadcast arrives")


def ping_broadcast(source: Container) -> None:
    ping = ["ping", "-n", "-b", "-c1", "-W0.2", "-I", source.interface, "255.255.255.255"]
    source.host.execute(["nsenter", f"--net={source.sandbox}", *ping])


def takewhile_inclusive(wanted: Callable[[VxlanPacket], bool], packets: Iterable[VxlanPacket]) -> Iterator[VxlanPacket]:
    for packet in packets:
        yield packet
        if not wanted(packet):
            return


def received(container: Container) -> int:
    (link,) = json.loads(container.run("ip", "-j", "-s", "link", "show", "dev", container.interface))
    return int(link["stats64"]["rx"]["packets"])


@BOTH
def test_detaching_leaves_nothing(lab: Lab, new_network: NewNetwork, topology: str) -> None:
    network = new_network("--topology", topology)
    host, other = lab.hosts
    stays = other.attach(f"{network}-stays", network)
    first = host.attach(f"{network}-first", network)
    bare = devices(host, network) - {name for name in devices(host, network) if name.startswith("ve")}
    lab.in_force(stays, first)
    assert stays.ping(first.address) is not None

    detached = host.detach(first)

    assert (detached.status, detached.stdout) == (0, "")
    assert "eth0" not in first.run("ip", "link")
    assert stays.ping(first.address, wait=0.5) is None
    eventually(lambda: devices(host, network) == bare, "what was taken out of use is deleted")
    assert [link["ifname"] for link in links(first)] == ["lo"]
    eventually(lambda: first.name not in lab.published(network), "the detachment is published")
    again = host.attach(f"{network}-again", network)
    assert again.address != first.address, "its peers may still remember the MAC that went with it"
    lab.in_force(again)
    assert stays.ping(again.address) is not None


def links(container: Container) -> list[dict[str, object]]:
    found = json.loads(container.run("ip", "-j", "link"))
    assert isinstance(found, list)
    return found


def test_a_second_del_succeeds_also_without_a_namespace(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    host = lab.hosts[0]
    container = host.attach(f"{network}-c", network)
    host.remove_sandbox(container.name)
    config = {"cniVersion": "1.0.0", "name": network, "type": "overlayd"}
    for _ in range(2):
        done = host.cni("DEL", config, CONTAINERID=container.name, IFNAME="eth0")
        assert (done.status, done.stdout) == (0, "")


def test_networks_with_the_same_addresses_do_not_see_each_other(lab: Lab, new_network: NewNetwork) -> None:
    one, two = (new_network(cidr="10.77.0.0/16") for _ in range(2))
    in_one = [host.attach(f"{one}-{host.name}", one) for host in lab.hosts]
    in_two = [host.attach(f"{two}-{host.name}", two) for host in lab.hosts]
    lab.in_force(*in_one, *in_two)
    assert [c.address for c in in_one] == [c.address for c in in_two], "both have the very same addresses"
    before = [received(container) for container in in_two]
    assert in_one[0].ping(in_one[1].address) is not None
    assert [received(container) for container in in_two] == before


def test_a_container_in_two_networks_reaches_both(lab: Lab, new_network: NewNetwork) -> None:
    routed, switched = new_network(), new_network("--topology", "switched")
    here, there = lab.hosts
    inside = here.attach(f"{routed}-both", routed)
    second = here.attach(inside.name, switched, interface="eth1")
    peers = [there.attach(f"{network}-peer", network) for network in (routed, switched)]
    lab.in_force(inside, second, *peers)
    assert [inside.ping(peer.address) is not None for peer in peers] == [True, True]


def test_a_forged_source_address_is_not_forwarded(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    source, destination = lab.attach_everywhere(network)
    forged = source.address + 1
    source.run("ip", "address", "add", f"{forged}/32", "dev", "eth0")
    before = received(destination)
    ping = ["ping", "-n", "-c1", "-W1", "-I", str(forged), str(destination.address)]
    source.host.execute(["nsenter", f"--net={source.sandbox}", *ping])
    assert received(destination) == before
    assert source.ping(destination.address) is not None
    assert received(destination) == before + 1
