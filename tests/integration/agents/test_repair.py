"""What is changed by hand on a host is repaired, and what is not ours stays as it is."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from itertools import product
from pathlib import Path

import pytest

from tests.integration.conftest import NewNetwork
from tests.support.lab.lab import CONTROLLER, CommandFailed, Container, Lab, LabHost
from tests.support.lab.processes import eventually
from tests.support.packets.ping_stream import Pinging

SYSCTLS = ("net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter", "net.bridge.bridge-nf-call-iptables")

SELDOM = ("--resync", "3600")
"""What these agents repair, they repair because the kernel notified them: the periodic look comes after the tests."""

Break = Callable[[LabHost, Container, Container], None]


def host_end(host: LabHost, container: Container) -> str:
    """Return the name of the host's end of the veth pair of a network's only container."""
    found = json.loads(host.run("ip", "-n", f"ov-{container.network}", "-j", "link", "show", "type", "veth"))
    (name,) = (link["ifname"] for link in found if link["ifname"] != "up0")
    return str(name)


def delete_vxlan(host: LabHost, here: Container, _there: Container) -> None:
    host.run("ip", "-n", f"ov-{here.network}", "link", "del", "vx0")


def delete_veth(host: LabHost, here: Container, _there: Container) -> None:
    host.run("ip", "-n", f"ov-{here.network}", "link", "del", host_end(host, here))


def delete_bridge(host: LabHost, here: Container, _there: Container) -> None:
    host.run("ip", "-n", f"ov-{here.network}", "link", "del", "br0")


def set_veth_down(host: LabHost, here: Container, _there: Container) -> None:
    host.run("ip", "-n", f"ov-{here.network}", "link", "set", host_end(host, here), "down")


def delete_routes(host: LabHost, here: Container, _there: Container) -> None:
    host.run("ip", "-n", f"ov-{here.network}", "route", "flush", "proto", "118")


def delete_neighbours(host: LabHost, here: Container, _there: Container) -> None:
    host.run("ip", "-n", f"ov-{here.network}", "neighbour", "flush", "nud", "permanent")


def delete_fdb(host: LabHost, here: Container, _there: Container) -> None:
    host.run("sh", "-c", f"bridge -n ov-{here.network} fdb flush dev vx0 || true")
    for line in host.run("bridge", "-n", f"ov-{here.network}", "fdb", "show", "dev", "vx0").splitlines():
        if " dst " in line:
            mac, *_ = line.split()
            host.run("bridge", "-n", f"ov-{here.network}", "fdb", "del", mac, "dev", "vx0")


def change_mac_and_mtu(host: LabHost, here: Container, _there: Container) -> None:
    host.run("ip", "-n", f"ov-{here.network}", "link", "set", "vx0", "address", "02:00:00:00:00:01", "mtu", "1000")


def set_vxlan_down(host: LabHost, here: Container, _there: Container) -> None:
    host.run("ip", "-n", f"ov-{here.network}", "link", "set", "vx0", "down")


def switch_forwarding(host: LabHost, here: Container, _there: Container) -> None:
    inside = ("nsenter", f"--net=/run/netns/ov-{here.network}", "sysctl")
    forwards = host.run(*inside, "-n", "net.ipv4.ip_forward").strip() == "1"
    host.run(*inside, "-w", f"net.ipv4.ip_forward={int(not forwards)}")


def let_bridges_be_filtered(host: LabHost, here: Container, _there: Container) -> None:
    """Do what container engines do where there is the module br_netfilter."""
    name = "net.bridge.bridge-nf-call-iptables"
    host.run("nsenter", f"--net=/run/netns/ov-{here.network}", "sh", "-c", f"modprobe br_netfilter; sysctl -w {name}=1")


def flush_the_hosts_rules(host: LabHost, _here: Container, _there: Container) -> None:
    host.run("nft", "flush", "ruleset")


def flush_the_networks_rules(host: LabHost, here: Container, _there: Container) -> None:
    host.run("nsenter", f"--net=/run/netns/ov-{here.network}", "nft", "flush", "ruleset")


def uplink_of(host: LabHost, container: Container) -> str:
    """Return the name of the host's end of a network's uplink."""
    (vxlan,) = json.loads(host.run("ip", "-n", f"ov-{container.network}", "-j", "-d", "link", "show", "vx0"))
    return f"ov{vxlan['linkinfo']['info_data']['id']}"


def delete_uplink(host: LabHost, here: Container, _there: Container) -> None:
    host.run("ip", "link", "del", uplink_of(host, here))


def set_uplink_down(host: LabHost, here: Container, _there: Container) -> None:
    host.run("ip", "link", "set", uplink_of(host, here), "down")


def delete_the_hosts_routes(host: LabHost, _here: Container, _there: Container) -> None:
    host.run("ip", "route", "flush", "proto", "118")


def change_the_uplinks_mac(host: LabHost, here: Container, _there: Container) -> None:
    host.run("ip", "link", "set", uplink_of(host, here), "address", "02:00:00:00:00:01")


def stop_the_uplink_forwarding(host: LabHost, here: Container, _there: Container) -> None:
    host.run("sysctl", "-qw", f"net/ipv4/conf/{uplink_of(host, here)}/forwarding=0")


def stop_the_way_out_forwarding(host: LabHost, _here: Container, _there: Container) -> None:
    host.run("sysctl", "-qw", "net/ipv4/conf/eth0/forwarding=0")


def stop_a_device_forwarding(host: LabHost, here: Container, _there: Container) -> None:
    inside = ("nsenter", f"--net=/run/netns/ov-{here.network}", "sysctl", "-qw")
    host.run(*inside, f"net/ipv4/conf/{host_end(host, here)}/forwarding=0")


def loosen_the_check_of_sources_at_a_device(host: LabHost, here: Container, _there: Container) -> None:
    inside = ("nsenter", f"--net=/run/netns/ov-{here.network}", "sysctl", "-qw")
    host.run(*inside, f"net/ipv4/conf/{host_end(host, here)}/rp_filter=2")


def delete_namespace(host: LabHost, here: Container, _there: Container) -> None:
    host.run("ip", "netns", "delete", f"ov-{here.network}")


def kernel_of(host: LabHost, network: str) -> list[object]:
    """Return what a network's namespace holds on a host, without the numbers that the kernel gives."""
    inside = ("nsenter", f"--net=/run/netns/ov-{network}")
    done = host.execute([*inside, "ip", "-j", "link"])
    if done.returncode:
        return []
    links = [{key: link.get(key) for key in ("ifname", "mtu", "address", "flags")} for link in json.loads(done.stdout)]
    tables = ("ip route show table all", "ip neighbour show nud permanent", "bridge fdb show")
    routes, neighbours, forwarding = (sorted(host.run(*inside, *command.split()).splitlines()) for command in tables)
    marked = [entry for entry in forwarding if "extern_learn" in entry]
    links.sort(key=lambda link: str(link["ifname"]))
    rules = [host.run("nft", "-s", "list", "ruleset"), host.run(*inside, "nft", "-s", "list", "ruleset")]
    switches = ("/ipv4/conf/*/forwarding", "/ipv4/conf/*/rp_filter", "/ipv6/conf/*/forwarding")
    files = " ".join(f"/proc/sys/net{each}" for each in switches)
    of_devices = [sorted(host.run(*where, "sh", "-c", f"grep -H . {files}").splitlines()) for where in ((), inside)]
    on_host = [sorted(host.run("ip", *words, "show", "proto", "118").splitlines()) for words in (["route"], ["neigh"])]
    ends = json.loads(host.run("ip", "-j", "link", "show", "type", "veth"))
    macs = {end["ifname"]: end["address"] for end in ends}
    return [
        links,
        routes,
        neighbours,
        marked,
        *rules,
        *on_host,
        macs,
        *of_devices,
        host.run(*inside, "sysctl", *SYSCTLS),
    ]


def repairs_of(host: LabHost) -> int:
    """Return how often the agent has repaired something after a notification."""
    assert host.agent
    return host.agent.output.count("repaired external change")


@contextmanager
def attentive(directory: Path) -> Iterator[Lab]:
    with Lab(directory, hosts=2) as made:
        made.start_controller()
        for host in made.hosts:
            host.run("ip", "route", "add", "default", "via", CONTROLLER)
            host.start_agent(*SELDOM)
        yield made


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts whose agents repair what the kernel notifies them of."""
    with attentive(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture
def attentive_lab(tmp_path: Path) -> Iterator[Lab]:
    """Such a lab for a test that breaks something."""
    with attentive(tmp_path / "lab") as made:
        yield made


def switch_the_check_of_sources(host: LabHost, here: Container, _there: Container) -> None:
    inside = ("nsenter", f"--net=/run/netns/ov-{here.network}", "sysctl")
    filters = host.run(*inside, "-n", "net.ipv4.conf.all.rp_filter").strip() == "1"
    host.run(*inside, "-w", f"net.ipv4.conf.all.rp_filter={int(not filters)}")


BREAKS = (
    delete_vxlan,
    delete_veth,
    set_veth_down,
    delete_neighbours,
    delete_fdb,
    change_mac_and_mtu,
    set_vxlan_down,
    switch_forwarding,
    switch_the_check_of_sources,
    let_bridges_be_filtered,
    flush_the_hosts_rules,
    delete_uplink,
    set_uplink_down,
    delete_the_hosts_routes,
    delete_namespace,
    change_the_uplinks_mac,
    stop_the_uplink_forwarding,
    stop_the_way_out_forwarding,
    stop_a_device_forwarding,
    loosen_the_check_of_sources_at_a_device,
)
CASES = [
    *product(BREAKS, ("routed", "switched")),
    (delete_routes, "routed"),
    (delete_bridge, "switched"),
    (flush_the_networks_rules, "switched"),
]


@pytest.mark.parametrize(("break_it", "topology"), CASES)
def test_what_is_broken_by_hand_is_repaired_at_once(
    lab: Lab, new_network: NewNetwork, break_it: Break, topology: str
) -> None:
    network = new_network("--topology", topology)
    host = lab.hosts[0]
    here, there = lab.attach_everywhere(network)
    assert here.ping(there.address) is not None
    before, repairs = kernel_of(host, network), repairs_of(host)

    break_it(host, here, there)

    eventually(lambda: repairs_of(host) > repairs, "it was noticed")
    eventually(lambda: kernel_of(host, network) == before, "the kernel is as it was")
    eventually(lambda: here.ping(there.address, wait=0.2) is not None, "the ping works again")
    eventually(lambda: plan_of(host) == [], "the agent agrees")
    status = host.agent_status()
    assert status is not None
    assert status["problems"] == []


def plan_of(host: LabHost) -> list[object]:
    answer = host.control("plan")
    assert answer is not None
    operations = answer["operations"]
    assert isinstance(operations, list)
    return operations


def test_what_is_not_ours_stays(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    host = lab.hosts[0]
    here, there = lab.attach_everywhere(network)
    inside = ("ip", "-n", f"ov-{network}")
    host.run(*inside, "link", "add", "foreign0", "type", "bridge")
    host.run(*inside, "link", "set", "foreign0", "up")
    host.run(*inside, "address", "add", "192.0.2.1/24", "dev", "foreign0")
    host.run(*inside, "route", "add", "198.51.100.0/24", "dev", "foreign0")
    host.run(
        "ip", "link", "add", "vxforeign", "type", "vxlan", "id", "77", "dstport", "4790", "local", str(host.address)
    )
    host.run("ip", "netns", "add", "foreign-ns")

    def foreign() -> list[str]:
        return [
            host.run(*inside, "-o", "address", "show", "dev", "foreign0"),
            host.run(*inside, "route", "show", "dev", "foreign0"),
            host.run("ip", "-o", "-d", "link", "show", "vxforeign"),
            host.run("ip", "netns", "list").replace("\n", " ").partition("foreign-ns")[1],
        ]

    before = foreign()
    delete_vxlan(host, here, there)
    eventually(lambda: here.ping(there.address, wait=0.2) is not None, "the ping works again")
    assert foreign() == before
    host.run("ip", "link", "del", "vxforeign")


def test_a_vni_that_a_foreign_device_has_is_a_problem_with_its_reason(own_lab: Lab) -> None:
    host, other = own_lab.hosts
    host.run(
        "ip", "link", "add", "vxforeign", "type", "vxlan", "id", "99", "dstport", "4789", "local", str(host.address)
    )
    own_lab.overlayctl("network", "create", "taken", "--range", "10.50.0.0/16", "--vni", "99")
    own_lab.overlayctl("network", "create", "free", "--range", "10.51.0.0/16")
    host.add_sandbox("c")
    refused = host.cni(
        "ADD", {"cniVersion": "1.0.0", "name": "taken"}, CONTAINERID="c", NETNS="/run/netns/c", IFNAME="e0"
    )
    assert refused.status == 1
    assert refused.json["code"] == 11
    assert "vx0" in str(refused.json["msg"])
    assert "VNI 99 on UDP port 4789 is taken by a VXLAN device that is not ours: vxforeign" in str(refused.json["msg"])
    free = [h.attach(f"free-{h.name}", "free") for h in (host, other)]
    eventually(lambda: free[0].ping(free[1].address, wait=0.2) is not None, "another network is not concerned")
    assert "in force on 2 of 2 hosts" in own_lab.overlayctl("wait", "--network", "free")
    with pytest.raises(CommandFailed, match=rf"{host.name}: .*vx0"):
        own_lab.overlayctl("wait", "--network", "taken", "--timeout", "1")

    host.run("ip", "link", "del", "vxforeign")
    eventually(lambda: (host.agent_status() or {}).get("problems") == [], "the problem is over")
    assert host.attach("c", "taken").address in IPv4Network("10.50.0.0/16")


@pytest.mark.parametrize("topology", ["routed", "switched"])
def test_a_udp_port_that_another_program_has_is_a_problem_with_its_reason(own_lab: Lab, topology: str) -> None:
    host = own_lab.hosts[0]
    script = (
        "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 4789)); print(flush=True); input()"
    )
    with subprocess.Popen(
        host.enter([sys.executable, "-c", script]), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout
        program.stdout.readline()
        own_lab.overlayctl("network", "create", "blue", "--range", "10.50.0.0/16", "--topology", topology)
        with pytest.raises(CommandFailed, match="UDP port 4789 is taken by another program on this host"):
            host.attach("c", "blue")
        program.kill()
    eventually(lambda: (host.agent_status() or {}).get("problems") == [], "the problem is over")
    assert host.attach("c", "blue").address in IPv4Network("10.50.0.0/16")


def test_the_second_of_two_hosts_with_one_address_is_refused(own_lab: Lab) -> None:
    first, second = own_lab.hosts
    second.stop_agent()
    second.start_agent("--vtep", str(first.address), wait=False)

    def problems() -> str:
        return str((second.agent_status() or {}).get("problems"))

    eventually(lambda: f"{first.address} is the address of host" in problems(), "the refusal and its reason are shown")
    assert not (second.agent_status() or {})["in_sync"]
    assert (first.agent_status() or {})["in_sync"]


def test_a_changed_address_is_announced_and_the_block_is_kept(own_lab: Lab) -> None:
    own_lab.overlayctl("network", "create", "blue", "--range", "10.52.0.0/16")
    here, there = (h.attach(f"blue-{h.name}", "blue") for h in own_lab.hosts)
    own_lab.in_force(here, there)
    host = own_lab.hosts[1]
    blocks = own_lab.overlayctl("network", "show", "blue", "--json")
    host.stop_agent()
    host.run("ip", "address", "del", f"{host.address}/24", "dev", "eth0")
    host.run("ip", "address", "add", "10.99.0.99/24", "dev", "eth0")
    assert here.ping(there.address, wait=0.3) is None

    host.start_agent("--vtep", "10.99.0.99")

    own_lab.overlayctl("wait")
    assert here.ping(there.address) is not None
    assert (
        own_lab.overlayctl("network", "show", "blue", "--json").partition("blocks")[2] == blocks.partition("blocks")[2]
    )


def test_an_address_that_changes_while_the_agent_runs_is_announced_and_the_block_is_kept(attentive_lab: Lab) -> None:
    attentive_lab.overlayctl("network", "create", "blue", "--range", "10.52.0.0/16")
    here, there = (h.attach(f"blue-{h.name}", "blue") for h in attentive_lab.hosts)
    attentive_lab.in_force(here, there)
    host = attentive_lab.hosts[1]
    blocks = attentive_lab.overlayctl("network", "show", "blue", "--json").partition("blocks")[2]

    host.run("ip", "address", "del", f"{host.address}/24", "dev", "eth0")
    host.run("ip", "address", "add", "10.99.0.99/24", "dev", "eth0")

    eventually(lambda: "10.99.0.99" in attentive_lab.overlayctl("host", "list"), "the new address is announced")
    eventually(lambda: here.ping(there.address, wait=0.2) is not None, "the ping works again")
    assert attentive_lab.overlayctl("network", "show", "blue", "--json").partition("blocks")[2] == blocks
    assert there.ping(here.address) is not None


def tables_of(container: Container) -> list[list[str]]:
    """Return the addresses, routes and permanent neighbours of a sandbox."""
    commands = ("ip -o address show dev eth0", "ip route", "ip -6 route", "ip neighbour show nud permanent")
    return [sorted(container.run(*command.split()).splitlines()) for command in commands]


@pytest.mark.parametrize("topology", ["routed", "switched"])
def test_what_a_container_loses_as_its_device_is_down_comes_back(attentive_lab: Lab, topology: str) -> None:
    ranges = ("--range", "10.53.0.0/16", "--range", "fd00:53::/64")
    attentive_lab.overlayctl("network", "create", "flap", *ranges, "--topology", topology)
    here, there = (host.attach(f"flap-{host.name}", "flap") for host in attentive_lab.hosts)
    attentive_lab.in_force(here, there)
    host = here.host

    def is_whole() -> bool:
        return tables_of(here) == before and all(here.ping(each, wait=0.2) is not None for each in there.addresses)

    before = tables_of(here)
    here.run("sh", "-c", "ip link set lo down; ip link set eth0 down; ip link set eth0 up")
    eventually(is_whole, "all of it is back")
    assert here.ping(here.address) is not None
    here.run("ip", "link", "set", "eth0", "down")
    host.stop_agent()
    here.run("ip", "link", "set", "eth0", "up")
    assert not is_whole()
    host.start_agent(*SELDOM)
    eventually(is_whole, "an agent that starts finds it out")
    repairs = host.control("plan")
    assert repairs == {"operations": []}


@pytest.mark.parametrize("topology", ["routed", "switched"])
@pytest.mark.parametrize("mtu", [1400, 9000])
def test_the_underlays_mtu_is_followed_into_the_containers(
    lab: Lab, new_network: NewNetwork, mtu: int, topology: str
) -> None:
    network = new_network("--topology", topology)
    here, there = lab.attach_everywhere(network)

    def mtus() -> set[int]:
        shown = [json.loads(each.run("ip", "-j", "link", "show", "dev", "eth0")) for each in (here, there)]
        return {int(link["mtu"]) for links in shown for link in links}

    with Pinging(here, there.address, lab.directory / f"ping-{network}") as pinging:
        for underlay in (mtu, 1500):
            lab.set_mtu(underlay)
            eventually(lambda: mtus() == {underlay - 50}, "the MTU is followed")  # noqa: B023 - used at once
            assert here.ping(there.address, size=underlay - 50) is not None
            pinging.more(50)
    assert pinging.lost == set()


@pytest.mark.parametrize("topology", ["routed", pytest.param("switched", marks=pytest.mark.thorough)])
def test_an_underlay_too_narrow_for_ipv6_leaves_ipv4_and_gives_ipv6_back(lab: Lab, topology: str) -> None:
    name = f"narrow-{topology}"
    lab.overlayctl(
        "network", "create", name, "--range", "10.51.0.0/16", "--range", "fd00:51::/64", "--topology", topology
    )
    lab.overlayctl("network", "create", f"{name}6", "--range", "fd00:52::/64", "--topology", topology)
    here, there = lab.hosts
    before = here.attach(f"{name}-before", name)

    def is_told() -> bool:
        found = (here.agent_status() or {})["problems"]
        return f"network {name}" in {problem["object"] for problem in found}  # type: ignore[attr-defined]

    try:
        lab.set_mtu(1300)
        eventually(is_told, "the problem is named")
        during = there.attach(f"{name}-during", name)
        eventually(lambda: before.ping(during.addresses[0], wait=0.2) is not None, "IPv4 works")
        with pytest.raises(CommandFailed, match="no IPv6 on this host"):
            here.attach(f"{name}-only6", f"{name}6")
    finally:
        lab.set_mtu(1500)
    eventually(lambda: before.ping(during.addresses[1], wait=0.2) is not None, "IPv6 is back")
    eventually(lambda: not is_told(), "the problem is over")


@pytest.mark.parametrize("topology", ["routed", pytest.param("switched", marks=pytest.mark.thorough)])
def test_a_way_that_is_narrower_than_the_device_is_a_problem_until_it_is_wide_enough(
    own_lab: Lab, topology: str
) -> None:
    own_lab.overlayctl("network", "create", "blue", "--range", "10.52.0.0/16", "--topology", topology)
    own_lab.underlay_run("ip", "link", "set", "to-host2", "mtu", "1400")
    here, there = (h.attach(f"blue-{h.name}", "blue") for h in own_lab.hosts)
    host = here.host

    def problems() -> list[object]:
        found = (host.agent_status() or {})["problems"]
        assert isinstance(found, list)
        return [problem["object"] for problem in found if "packets of 1500 bytes do not reach" in problem["message"]]

    eventually(lambda: problems() == ["host host2"], "it is reported")
    assert here.ping(there.address) is not None, "small packets arrive"

    own_lab.underlay_run("ip", "link", "set", "to-host2", "mtu", "1500")
    eventually(lambda: problems() == [], "the problem is over")


@pytest.mark.parametrize("topology", ["routed", "switched"])
def test_another_udp_port_is_taken_online(own_lab: Lab, topology: str) -> None:
    own_lab.overlayctl("network", "create", "blue", "--range", "10.52.0.0/16", "--topology", topology)
    here, there = (h.attach(f"blue-{h.name}", "blue") for h in own_lab.hosts)
    own_lab.in_force(here, there)
    for host in own_lab.hosts:
        host.stop_agent()
        host.start_agent("--vxlan-port", "8472")
    eventually(lambda: here.ping(there.address, wait=0.2) is not None, "the ping works again")
    assert "dstport 8472" in own_lab.hosts[0].run("ip", "-n", "ov-blue", "-d", "link", "show", "vx0")
    assert here.ping(there.address, size=1450) is not None


def test_a_full_disk_refuses_attachments_and_keeps_forwarding(own_lab: Lab) -> None:
    own_lab.overlayctl("network", "create", "blue", "--range", "10.53.0.0/16")
    host = own_lab.hosts[0]
    here, there = (h.attach(f"blue-{h.name}", "blue") for h in own_lab.hosts)
    own_lab.in_force(here, there)
    host.add_sandbox("late")
    host.run("mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", "/run/overlayd/attachments")
    host.execute(["sh", "-c", "cat /dev/zero > /run/overlayd/attachments/filler"])
    refused = host.cni(
        "ADD", {"cniVersion": "1.0.0", "name": "blue"}, CONTAINERID="late", NETNS="/run/netns/late", IFNAME="e"
    )
    assert refused.status == 1
    assert refused.json["code"] == 5
    assert here.ping(there.address) is not None
    assert "e@" not in host.run("ip", "-n", "late", "-o", "link")
    host.run("umount", "/run/overlayd/attachments")
    assert host.attach("late", "blue").ping(there.address) is not None


def test_a_run_directory_that_cannot_be_written_refuses_attachments_and_keeps_forwarding(own_lab: Lab) -> None:
    own_lab.overlayctl("network", "create", "blue", "--range", "10.53.0.0/16")
    host = own_lab.hosts[0]
    here, there = (h.attach(f"blue-{h.name}", "blue") for h in own_lab.hosts)
    ending = host.attach("ending", "blue")
    own_lab.in_force(here, there, ending)
    host.add_sandbox("late")
    records = "/run/overlayd/attachments"
    host.run("mount", "--bind", records, records)
    host.run("mount", "-o", "remount,bind,ro", records)
    config = {"cniVersion": "1.0.0", "name": "blue"}
    refused = host.cni("ADD", config, CONTAINERID="late", NETNS="/run/netns/late", IFNAME="e")
    assert refused.status == 1
    assert refused.json["code"] == 5
    assert "Read-only file system" in str(refused.json["msg"])
    assert host.detach(ending).status == 0
    assert here.ping(there.address) is not None
    host.run("umount", records)
    late = host.attach("late", "blue")
    assert late.ping(there.address) is not None
    assert host.detach(ending).status == 0
    eventually(lambda: own_lab.published("blue") == {here.name, there.name, late.name}, "what ended is forgotten")
