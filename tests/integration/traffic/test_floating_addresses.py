"""An address that several containers share: it is where it was announced last, on every host, and nowhere else."""

import json
from ipaddress import ip_address

from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from overlayd.model.address import IpAddress
from tests.integration.conftest import NewNetwork
from tests.support.lab.lab import Container, Lab, LabHost
from tests.support.lab.processes import eventually
from tests.support.packets.frame_socket import FrameSocket

EVERYBODY, ALL_NODES = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"


def mac(container: Container) -> str:
    (link,) = json.loads(container.run("ip", "-j", "link", "show", "dev", container.interface))
    return str(link["address"])


def announce(container: Container, address: IpAddress) -> None:
    """Announce an address as VRRP daemons do when they become master."""
    own = mac(container)
    if address.version == 4:
        message = ARP(op=1, hwsrc=own, psrc=str(address), pdst=str(address))
        frame = Ether(src=own, dst=EVERYBODY) / message
    else:
        advertisement = ICMPv6ND_NA(tgt=str(address), R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=own)
        frame = Ether(src=own, dst=ALL_NODES) / IPv6(src=str(address), dst="ff02::1", hlim=255) / advertisement
    with FrameSocket(container) as sender:
        sender.send(bytes(frame))


def take_over(container: Container, former: Container | None, *addresses: IpAddress) -> None:
    for address in addresses:
        if former is not None:
            former.run("ip", "address", "del", f"{address}/{address.max_prefixlen}", "dev", "eth0")
        container.run("ip", "address", "add", f"{address}/{address.max_prefixlen}", "dev", "eth0", "nodad")
    for address in addresses:
        announce(container, address)


def places(host: LabHost, network: str, address: IpAddress) -> list[str]:
    """Return the MACs at which a host has an address."""
    listed = json.loads(host.run("ip", "-j", "-n", f"ov-{network}", "neighbour", "show", "to", str(address)))
    return [each["lladdr"] for each in listed if "lladdr" in each]


def known_at(container: Container, address: IpAddress) -> str | None:
    """Return the MAC by which a container knows an address that answers it."""
    if container.ping(address) is None:
        return None
    listed = json.loads(container.run("ip", "-j", "neighbour", "show", "to", str(address)))
    return next((str(each["lladdr"]) for each in listed if "lladdr" in each), None)


def test_a_shared_address_is_where_it_was_announced_last(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--range", "fd00:7c::/48", "--topology", "switched")
    made = json.loads(lab.overlayctl("reservation", "create", network, "vip", "--shared", "--json"))
    addresses = [ip_address(text) for text in made["addresses"]]
    one, other = (host.attach(f"{network}-{host.name}", network, arguments="RESERVATION=vip") for host in lab.hosts)
    clients = [host.attach(f"{network}-client-{host.name}", network) for host in lab.hosts]
    lab.in_force(one, other, *clients)
    assert not set(addresses).intersection(one.addresses)
    former = None
    for member in (one, other, one):
        take_over(member, former, *addresses)
        former = member
        for address in addresses:
            for host in lab.hosts:
                eventually(lambda: places(host, network, address) == [mac(member)], f"{address} is there")  # noqa: B023
            for client in clients:
                eventually(lambda: known_at(client, address) == mac(member), f"{client.name} speaks with it")  # noqa: B023
        holder = json.loads(lab.overlayctl("reservation", "show", network, "vip", "--json"))["holder"]
        assert holder["container_id"] == member.name
    assert lab.hosts[0].detach(one).status == 0
    for host in lab.hosts:
        for address in addresses:
            eventually(lambda: not places(host, network, address), "no one has it")  # noqa: B023


def test_no_one_else_speaks_for_a_shared_address(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--range", "fd00:7d::/48", "--topology", "switched")
    made = json.loads(lab.overlayctl("reservation", "create", network, "vip", "--shared", "--json"))
    addresses = [ip_address(text) for text in made["addresses"]]
    member, stranger = (
        host.attach(f"{network}-{host.name}", network, arguments=arguments)
        for host, arguments in zip(lab.hosts, ("RESERVATION=vip", ""), strict=True)
    )
    lab.in_force(member, stranger)
    take_over(member, None, *addresses)
    for address in addresses:
        eventually(lambda: places(lab.hosts[1], network, address) == [mac(member)], "the member has it")  # noqa: B023
        announce(stranger, address)
    # What is sent last arrives last.
    assert stranger.ping(addresses[0]) is not None
    for address in addresses:
        assert [places(host, network, address) for host in lab.hosts] == [[mac(member)]] * 2


def test_a_takeover_without_controllers_is_in_force_when_one_is_back(own_lab: Lab) -> None:
    own_lab.overlayctl("network", "create", "lan", "--range", "10.32.0.0/16", "--topology", "switched")
    made = json.loads(own_lab.overlayctl("reservation", "create", "lan", "vip", "--shared", "--json"))
    (shared,) = map(ip_address, made["addresses"])
    one, other = (host.attach(f"c-{host.name}", "lan", arguments="RESERVATION=vip") for host in own_lab.hosts)
    own_lab.in_force(one, other)
    take_over(one, None, shared)
    for host in own_lab.hosts:
        eventually(lambda: places(host, "lan", shared) == [mac(one)], "it is there")  # noqa: B023
    own_lab.stop_controller()
    take_over(other, one, shared)
    assert other.ping(one.address) is not None, "traffic goes on, and what is sent last arrives last"
    assert [places(host, "lan", shared) for host in own_lab.hosts] == [[mac(one)]] * 2
    own_lab.start_controller()
    for host in own_lab.hosts:
        eventually(lambda: places(host, "lan", shared) == [mac(other)], "it is taken over", 30.0)  # noqa: B023
    assert one.ping(shared) is not None
