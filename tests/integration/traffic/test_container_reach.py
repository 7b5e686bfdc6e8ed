"""What a container can reach by its network's uplink, as an unprivileged user in it: docs/security.md's table."""

import json
import re
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import product

import pytest

from overlayd.kernel.packets.checksum import internet_checksum
from overlayd.model.address import IpAddress
from tests.support.lab.lab import Container, Lab, LabHost
from tests.support.lab.processes import eventually
from tests.support.packets import stray_packets
from tests.support.packets.conversation import Server, ask

OUTSIDE, OUTSIDE6 = "10.99.0.1", "fd00:99::1"
VXLAN_PORT = 4789
PORT = 8000
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
SENDER = """
import socket, sys
channel = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
channel.sendto(bytes.fromhex(sys.argv[3]), (sys.argv[1], int(sys.argv[2])))
"""

TO_LOOPBACK = """
import sys
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.sendrecv import sendp
mac, source, port, dev = sys.argv[1:]
packet = Ether(dst=mac) / IP(src=source, dst="127.0.0.1") / UDP(dport=int(port)) / Raw(b"?")
sendp(packet, iface=dev, verbose=False)
"""

Enter = Callable[[Sequence[str]], list[str]]


@dataclass(frozen=True)
class Tenant:
    """A network with an uplink, and its container on the first host, which publishes UDP port `host_port`."""

    network: str
    vni: int
    container: Container
    host_port: int

    @property
    def host(self) -> LabHost:
        return self.container.host

    def enter(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one as an unprivileged user of the container."""
        return self.container.enter([*NOBODY, *command])

    def send(self, address: str, port: int, content: bytes) -> None:
        """Send a datagram from a plain socket."""
        self.host.run(*self.in_sandbox([*NOBODY, sys.executable, "-c", SENDER, address, str(port), content.hex()]))

    def in_sandbox(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", f"--net={self.container.sandbox}", "--", *command]


@pytest.fixture(scope="module")
def tenants(lab: Lab) -> Iterator[list[Tenant]]:
    """One network of each topology and kind of uplink, with both families."""
    lab.underlay_run("ip", "address", "add", f"{OUTSIDE6}/64", "dev", "under0", "nodad")
    made = []
    for number, (topology, kind) in enumerate(product(("routed", "switched"), ("host", "isolated")), start=1):
        name, host_port = f"{topology}-{kind}", 9000 + number
        ranges = ["--range", f"10.{60 + number}.0.0/16", "--range", f"fd00:{60 + number}::/48"]
        lab.overlayctl("network", "create", name, "--topology", topology, "--uplink", kind, *ranges)
        mapping = {"hostPort": host_port, "containerPort": PORT, "protocol": "udp"}
        container = lab.hosts[0].attach(name, name, runtimeConfig={"portMappings": [mapping]})
        vni = json.loads(lab.overlayctl("network", "show", name, "--json"))["vni"]
        made.append(Tenant(name, vni, container, host_port))
    lab.in_force(*(tenant.container for tenant in made))
    yield made
    for tenant in made:
        assert tenant.host.detach(tenant.container).status == 0
    lab.underlay_run("ip", "address", "del", f"{OUTSIDE6}/64", "dev", "under0")


def counted(host: LabHost, name: str) -> int:
    """Return how many packets a counter of one of the host's tables has seen."""
    table = "overlayd_vxlan" if name == "forged_vxlan" else "overlayd"
    found = re.search(r"packets (\d+)", host.run("nft", "list", "counter", "inet", table, name))
    assert found
    return int(found[1])


def echo_request(source: IpAddress, destination: IpAddress) -> bytes:
    """Return an IPv4 packet (RFC 791 section 3.1) with an ICMP echo request (RFC 792)."""
    icmp = struct.pack("!BBHHH", 8, 0, internet_checksum(struct.pack("!BBHHH", 8, 0, 0, 1, 1)), 1, 1)

    def header(checksum: int) -> bytes:
        return struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 1, 0, 64, 1, checksum, source.packed, destination.packed
        )

    return header(internet_checksum(header(0))) + icmp


def frame_into(vni: int, mac: str, packet: bytes) -> bytes:
    """Return the content of a VXLAN packet (RFC 7348 section 5): a frame to a MAC."""
    ethernet = bytes.fromhex(mac.replace(":", "")) + bytes.fromhex("020000000066") + b"\x08\x00"
    return struct.pack("!II", 0x08 << 24, vni << 8) + ethernet + packet


def test_a_container_puts_no_frame_into_another_network(lab: Lab, tenants: list[Tenant]) -> None:
    victims = [host.attach(f"victim-{host.name}", "routed-host") for host in lab.hosts]
    lab.in_force(*victims)
    vni = tenants[0].vni
    for tenant in tenants[1:]:
        for victim, other in ((victims[1], victims[0]), (victims[0], victims[1])):
            (link,) = json.loads(victim.host.run("ip", "-n", "ov-routed-host", "-j", "link", "show", "dev", "vx0"))
            content = frame_into(vni, link["address"], echo_request(other.address, victim.address))
            echoes = victim.echoes
            # To the own host it comes as from a stranger.
            counter = "forged_vxlan" if victim.host is tenant.host else "forged_tunnel"
            for whole in (content, content + bytes(3000)):  # the second one is sent in fragments
                to = str(victim.host.address)
                counts(tenant, counter, lambda: tenant.send(to, VXLAN_PORT, whole))  # noqa: B023
            assert victim.echoes == echoes
    for victim in victims:
        assert victim.host.detach(victim).status == 0


def counts(tenant: Tenant, counter: str, event: Callable[[], object]) -> None:
    """Check that an event makes a counter of the tenant's host grow by one."""
    before = counted(tenant.host, counter)
    event()
    eventually(lambda: counted(tenant.host, counter) == before + 1, f"{counter} counts {tenant.network}")


@pytest.mark.parametrize("outside", [OUTSIDE, OUTSIDE6])
def test_nothing_leaves_to_the_vxlan_port_of_anybody(lab: Lab, tenants: list[Tenant], outside: str) -> None:
    with (
        Server(lab.enter_underlay, outside, VXLAN_PORT, "udp") as tunnel,
        Server(lab.enter_underlay, outside, VXLAN_PORT, "tcp"),
        Server(lab.enter_underlay, outside, VXLAN_PORT + 1, "udp") as other,
    ):
        assert ask(tenants[0].enter, outside, tunnel.port, "udp") is None
        for tenant in tenants:
            assert ask(tenant.enter, outside, tunnel.port, "tcp") is not None, tenant.network
            for size in (1, 3000):
                assert ask(tenant.enter, outside, other.port, "udp", size=size) is not None, tenant.network
                counts(tenant, "forged_tunnel", lambda: tenant.send(outside, tunnel.port, bytes(size)))  # noqa: B023


@pytest.mark.parametrize("host_address", ["10.99.0.11", "fd00:99::11"])
def test_no_answer_of_a_published_port_goes_to_a_vxlan_port(lab: Lab, tenants: list[Tenant], host_address: str) -> None:
    for tenant in tenants:
        address = of_family(tenant, host_address)

        def asked(source_port: int) -> str | None:
            return ask(lab.enter_underlay, host_address, tenant.host_port, "udp", source_port=source_port)  # noqa: B023

        with Server(tenant.enter, address, PORT, "udp"):
            eventually(lambda: asked(VXLAN_PORT + 1), f"the port of {tenant.network} answers")
            counts(tenant, "forged_tunnel", lambda: asked(VXLAN_PORT))


def test_no_redirection_of_the_host_leads_to_a_vxlan_port(lab: Lab, tenants: list[Tenant]) -> None:
    host = tenants[0].host
    host.run("ip", "route", "add", "10.96.0.0/16", "via", OUTSIDE)
    host.run("nft", "add table ip services; add chain ip services to { type nat hook prerouting priority -100; }")
    host.run("nft", f"add rule ip services to ip daddr 10.96.0.10 udp dport 53 dnat to {OUTSIDE}:{VXLAN_PORT}")
    host.run("nft", f"add rule ip services to ip daddr 10.96.0.11 udp dport 53 dnat to {OUTSIDE}:{VXLAN_PORT + 1}")
    with Server(lab.enter_underlay, OUTSIDE, VXLAN_PORT + 1, "udp"):
        for tenant in tenants:
            assert ask(tenant.enter, "10.96.0.11", 53, "udp") is not None
            counts(tenant, "forged_tunnel", lambda: tenant.send("10.96.0.10", 53, b"?"))  # noqa: B023
    host.run("nft", "delete table ip services")
    host.run("ip", "route", "del", "10.96.0.0/16")


@pytest.fixture
def watch(lab: Lab, tenants: list[Tenant]) -> Iterator[None]:
    """Count what comes to the underlay from addresses that are not its own, and resets that come to containers."""
    add = "add table inet seen; add chain inet seen in {{ type filter hook input priority -300; }}; {}"
    strange = "add rule inet seen in ip saddr != 10.99.0.0/24 counter"
    strange6 = "add rule inet seen in ip6 saddr != { fd00:99::/64, fe80::/10, :: } counter"
    lab.underlay_run("nft", add.format(f"{strange}; {strange6}"))
    for tenant in tenants:
        tenant.container.run("nft", add.format("add rule inet seen in tcp flags rst counter"))
    yield
    for run in (lab.underlay_run, *(tenant.container.run for tenant in tenants)):
        run("nft", "delete table inet seen")


@pytest.mark.usefixtures("watch")
@pytest.mark.parametrize(("outside", "host_address"), [(OUTSIDE, "10.99.0.11"), (OUTSIDE6, "fd00:99::11")])
def test_packets_of_no_connection_do_not_leave_and_are_not_answered(
    lab: Lab, tenants: list[Tenant], outside: str, host_address: str
) -> None:
    """Nothing translates them: they would leave with the container's own address."""
    for tenant in tenants:
        for enter, address in ((lab.enter_underlay, outside), (tenant.host.enter, host_address)):
            with Server(enter, address) as server:
                before = invalid(tenant)
                stray = [sys.executable, "-m", "tests.support.packets.stray_packets", address, str(server.port)]
                tenant.host.run(*tenant.in_sandbox(stray))
                what = f"what {tenant.network} sends to {address} is counted"
                eventually(lambda: invalid(tenant) >= before + stray_packets.COUNT, what)  # noqa: B023 - used at once
        assert seen(tenant.container.run) == [0], tenant.network
        assert seen(lab.underlay_run) == [0, 0], tenant.network


def seen(run: Callable[..., str]) -> list[int]:
    return [int(number) for number in re.findall(r"packets (\d+)", run("nft", "list", "table", "inet", "seen"))]


def invalid(tenant: Tenant) -> int:
    """Return how many packets of no connection were dropped, in the network's namespace and by its host."""
    inside = ["nsenter", f"--net=/run/netns/ov-{tenant.network}", "nft", "list", "counters"]
    found = re.search(r"counter invalid {\s+packets (\d+)", tenant.host.run(*inside))
    return counted(tenant.host, "invalid") + (int(found[1]) if found else 0)


@pytest.mark.parametrize("kind", ["host", "isolated"])
def test_a_port_at_the_loopback_address_is_for_the_host_alone(lab: Lab, tenants: list[Tenant], kind: str) -> None:
    (network,) = (tenant.network for tenant in tenants if tenant.network == f"routed-{kind}")
    host = lab.hosts[0]
    mapping = {"hostPort": 9090, "containerPort": PORT, "protocol": "udp", "hostIP": "127.0.0.1"}
    container = host.attach(f"loopback-{kind}", network, runtimeConfig={"portMappings": [mapping]})
    (link,) = json.loads(host.run("ip", "-j", "link", "show", "dev", "eth0"))
    with Server(container.enter, str(container.address), PORT, "udp"):
        assert ask(host.enter, "127.0.0.1", 9090, "udp") is not None
        before, got = counted(host, "to_loopback"), received(container)
        lab.underlay_run(sys.executable, "-W", "ignore", "-c", TO_LOOPBACK, link["address"], OUTSIDE, "9090", "under0")
        eventually(lambda: counted(host, "to_loopback") == before + 1, "the packet is dropped and counted")
        assert received(container) == got
    assert host.detach(container).status == 0


def test_no_network_gets_at_the_loopback_address_of_a_host_that_publishes_no_port(
    lab: Lab, tenants: list[Tenant]
) -> None:
    host, network, uplink = lab.hosts[1], tenants[0].network, f"ov{tenants[0].vni}"
    container = host.attach("no-port", network)
    (link,) = json.loads(host.run("ip", "-j", "link", "show", "dev", uplink))
    host.run("sysctl", "-q", f"net.ipv4.conf.{uplink}.route_localnet=1")  # as a port leaves it that was published
    before = counted(host, "to_loopback")
    inside = ["nsenter", f"--net=/run/netns/ov-{network}", sys.executable, "-W", "ignore", "-c", TO_LOOPBACK]
    host.run(*inside, link["address"], str(container.address), "9090", "up0")
    eventually(lambda: counted(host, "to_loopback") == before + 1, "the packet is dropped and counted")
    assert host.detach(container).status == 0


def received(container: Container) -> int:
    """Return how many datagrams the sandbox has got (nstat(8))."""
    return int(container.run("nstat", "-asz", "UdpInDatagrams").split()[-2])


def of_family(tenant: Tenant, address: str) -> str:
    """Return the container's address of the family of another one."""
    return next(str(each) for each in tenant.container.addresses if (each.version == 6) is (":" in address))


@pytest.mark.parametrize("address", ["10.99.0.12", "fd00:99::12"])
def test_what_a_container_reaches_beyond_its_host_sees_the_host(lab: Lab, tenants: list[Tenant], address: str) -> None:
    host, other = lab.hosts
    expected = str(host.address6 if ":" in address else host.address)
    with Server(other.enter, address, PORT) as server:
        for tenant in tenants:
            assert ask(tenant.enter, address, server.port) == expected, tenant.network


@pytest.mark.parametrize("address", ["10.99.0.11", "fd00:99::11"])
def test_the_host_sees_its_containers_as_themselves(lab: Lab, tenants: list[Tenant], address: str) -> None:
    with Server(lab.hosts[0].enter, address, PORT) as server:
        for tenant in tenants:
            is_isolated = tenant.network.endswith("isolated")
            expected = hidden(tenant, address) if is_isolated else of_family(tenant, address)
            assert ask(tenant.enter, address, server.port) == expected, tenant.network


def test_other_hosts_are_not_reached_at_their_addresses_in_other_networks(lab: Lab, tenants: list[Tenant]) -> None:
    other = lab.hosts[1]
    member = other.attach("member", "routed-host")
    lab.in_force(member)
    shown = json.loads(other.run("ip", "-j", "address", "show", "dev", f"ov{tenants[0].vni}"))[0]["addr_info"]
    own = next(str(each["local"]) for each in shown if each["scope"] == "global")
    with Server(other.enter, own, PORT) as server:
        assert ask(tenants[0].enter, own, server.port) == str(tenants[0].container.address)
        for tenant in tenants[1:]:
            assert ask(tenant.enter, own, server.port) is None, tenant.network
    assert other.detach(member).status == 0


@pytest.mark.usefixtures("tenants")
def test_an_agent_listens_at_no_port(lab: Lab) -> None:
    for host in lab.hosts:
        listening = {tuple(line.split()[index] for index in (0, 4)) for line in host.run("ss", "-Hlntu").splitlines()}
        assert {(kind, where.rpartition(":")[2]) for kind, where in listening} == {("udp", str(VXLAN_PORT))}


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("outside", [OUTSIDE, OUTSIDE6])
def test_a_container_does_not_speak_from_a_port_of_the_hosts_services(
    lab: Lab, tenants: list[Tenant], outside: str, protocol: str
) -> None:
    """As root of the container, which may have the lowest ones."""
    with Server(lab.enter_underlay, outside, PORT, protocol) as server:
        for number, tenant in enumerate(tenants):
            for source_port in (1023, VXLAN_PORT, 32767, 40000 + number):
                answer = ask(tenant.container.enter, outside, server.port, protocol, source_port=source_port)
                assert answer is not None, (tenant.network, source_port)
                spoken = port_outside(tenant, outside, source_port)
                assert spoken == source_port if source_port >= 32768 else spoken >= 32768, (tenant.network, source_port)


def port_outside(tenant: Tenant, outside: str, source_port: int) -> int:
    """Return the host's port that stands for a container's, on the way to `PORT` of an address outside."""
    here = {hidden(tenant, outside), of_family(tenant, outside)}
    for line in tenant.host.run("cat", "/proc/net/nf_conntrack").splitlines():
        source, to, *_, at = re.findall(r"(?:src|dst|dport)=(\S+)", line)
        if f"sport={source_port} dport={PORT} " in line and str(ip_address(source)) in here:
            assert ip_address(to) == ip_address(outside)
            return int(at)
    raise AssertionError(f"port {source_port} of {tenant.network} is not tracked")


def hidden(tenant: Tenant, like: str) -> str:
    """Return the address, of the family of another one, behind which an isolated network hides from its host."""
    return f"fd6f:7665:726c:6179::{tenant.vni:x}" if ":" in like else f"241.0.0.{tenant.vni}"


METADATA = ["169.254.169.254", "fd00:ec2::254"]


@pytest.fixture
def cloud(lab: Lab, tenants: list[Tenant]) -> Iterator[None]:
    """Where the underlay's machine stands for a cloud that has its metadata, its name server and a proxy's clients."""
    host = tenants[0].host
    for address in METADATA:
        lab.underlay_run("ip", "address", "add", address, "dev", "under0", *(["nodad"] if ":" in address else []))
        via = OUTSIDE6 if ":" in address else OUTSIDE
        host.run("ip", "route", "add", address, "via", via)
    yield
    for address in METADATA:
        lab.underlay_run("ip", "address", "del", address, "dev", "under0")
        host.run("ip", "route", "del", address)


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize("address", METADATA)
def test_a_cloud_tells_containers_nothing_about_their_host(lab: Lab, tenants: list[Tenant], address: str) -> None:
    with (
        Server(lab.enter_underlay, address, 80),
        Server(lab.enter_underlay, address, 53, "udp"),
        Server(lab.enter_underlay, address, 53),
        Server(lab.enter_underlay, address, 123, "udp"),
    ):
        assert ask(tenants[0].host.enter, address, 80) is not None
        for tenant in tenants:
            before = counted(tenant.host, "to_metadata")
            assert ask(tenant.enter, address, 80) is None, tenant.network
            # The kernel may have sent the SYN once more: it does so after a second, which is what `ask` waits.
            assert counted(tenant.host, "to_metadata") in {before + 1, before + 2}
            for port, protocol in ((53, "udp"), (53, "tcp"), (123, "udp")):
                assert ask(tenant.enter, address, port, protocol) is not None, (tenant.network, port)
            own = of_family(tenant, address)
            at = str(tenant.host.address6 if ":" in address else tenant.host.address)
            with Server(tenant.container.enter, own, PORT, "udp"):
                # As a cloud asks that balances load on published ports.
                asked = lambda: ask(lab.enter_underlay, at, tenant.host_port, "udp", source=address)  # noqa: B023, E731
                eventually(asked, f"{tenant.network} answers the cloud")


def test_where_the_setting_says_so_a_cloud_tells_containers(own_lab: Lab) -> None:
    own_lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
    host = own_lab.hosts[0]
    own_lab.underlay_run("ip", "address", "add", METADATA[0], "dev", "under0")
    host.run("ip", "route", "add", METADATA[0], "via", OUTSIDE)
    container = host.attach("curious", "blue")
    with Server(own_lab.enter_underlay, METADATA[0], 80):
        assert ask(container.enter, METADATA[0], 80) is None
        host.stop_agent()
        host.start_agent("--metadata", "allowed")
        eventually(lambda: ask(container.enter, METADATA[0], 80), "the cloud answers")


TOO_BIG = """
import socket, sys
channel = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
channel.sendto(bytes.fromhex(sys.argv[2]), (sys.argv[1], 0))
"""


def test_a_container_does_not_narrow_the_way_of_its_hosts_tunnels(lab: Lab, tenants: list[Tenant]) -> None:
    """As root of the container: by an ICMP error about a VXLAN packet of the host (RFC 1191, fragmentation needed)."""
    host, other = lab.hosts
    for tenant in tenants:
        vxlan = struct.pack("!II", 0x08 << 24, tenant.vni << 8)
        udp = struct.pack("!HHHH", 40000, VXLAN_PORT, 1400, 0) + vxlan
        addresses = host.address.packed + other.address.packed
        quoted = struct.pack("!BBHHHBBH8s", 0x45, 0, 1420, 1, 0x4000, 64, 17, 0, addresses) + udp

        def message(checksum: int) -> bytes:
            return struct.pack("!BBHHH", 3, 4, checksum, 0, 600) + quoted  # noqa: B023 - used at once

        content = message(internet_checksum(message(0)))
        before = invalid(tenant)
        tenant.host.run(*tenant.in_sandbox([sys.executable, "-c", TOO_BIG, str(host.address), content.hex()]))
        eventually(lambda: invalid(tenant) > before, f"what {tenant.network} says is dropped")  # noqa: B023
        assert "mtu 600" not in host.run("ip", "route", "get", str(other.address)), tenant.network
