"""IPv4, IPv6 and both, inside the networks and on the underlay, in both topologies."""

import json
from collections.abc import Iterator
from itertools import count

import pytest

from tests.support.lab.lab import Container, Lab, LabHost, plugin_config
from tests.support.lab.processes import eventually
from tests.support.packets.capture import ICMPV6, Capture

RANGES = {
    "ipv4": ("10.{0}.0.0/16",),
    "ipv6": ("fd00:{0}::/48",),
    "dual": ("10.{0}.0.0/16", "fd00:{0}::/48"),
}
INSIDE = pytest.mark.parametrize("inside", RANGES)
BOTH = pytest.mark.parametrize("topology", ["routed", "switched"])
ECHO_REQUEST, NEIGHBOUR_SOLICITATION = 128, 135

_numbers = count(1)


@pytest.fixture(scope="module", params=[pytest.param(4, marks=pytest.mark.thorough), 6], ids=["over-ipv4", "over-ipv6"])
def underlay(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts that reach each other over IPv4, or over IPv6."""
    with Lab(tmp_path_factory.mktemp("lab"), hosts=2) as made:
        made.start_controller()
        for host in made.hosts:
            host.start_agent(*(["--vtep", str(host.address6)] if request.param == 6 else []))
        yield made


def overhead(lab: Lab) -> int:
    """Return what encapsulation costs on the lab's underlay."""
    return 70 if ":" in vtep(lab, lab.hosts[0]) else 50


def vtep(lab: Lab, host: LabHost) -> str:
    known = json.loads(lab.overlayctl("host", "list", "--json"))
    return next(str(each["address"]) for each in known if each["name"] == host.name)


def new_network(lab: Lab, inside: str, topology: str) -> str:
    number = 100 + next(_numbers)
    ranges = [word for cidr in RANGES[inside] for word in ("--range", cidr.format(number))]
    lab.overlayctl("network", "create", f"net{number}", "--topology", topology, *ranges)
    return f"net{number}"


@BOTH
@INSIDE
def test_every_pair_pings_on_one_host_and_across(underlay: Lab, inside: str, topology: str) -> None:
    network = new_network(underlay, inside, topology)
    containers = [host.attach(f"{network}-{n}-{host.name}", network) for host in underlay.hosts for n in (1, 2)]
    underlay.in_force(*containers)
    assert {len(container.addresses) for container in containers} == {len(RANGES[inside])}
    lost = [
        (source.name, str(address))
        for source in containers
        for destination in containers
        for address in destination.addresses
        if source.ping(address) is None
    ]
    assert lost == []


@BOTH
@INSIDE
def test_a_packet_of_full_size_passes_and_a_larger_one_is_refused_at_the_source(
    underlay: Lab, inside: str, topology: str
) -> None:
    network = new_network(underlay, inside, topology)
    source, destination = (host.attach(f"{network}-{host.name}", network) for host in underlay.hosts)
    underlay.in_force(source, destination)
    full = 1500 - overhead(underlay)
    for address in destination.addresses:
        assert source.ping(address, size=full) is not None
        assert source.ping(address, size=full + 1) is None


@BOTH
def test_vxlan_goes_between_the_vteps_and_nobody_asks_for_neighbours(underlay: Lab, topology: str) -> None:
    network = new_network(underlay, "ipv6", topology)
    source, destination = (host.attach(f"{network}-{host.name}", network) for host in underlay.hosts)
    underlay.in_force(source, destination)
    with Capture(underlay.enter_underlay) as capture:
        assert source.ping(destination.address) is not None
        passed = []
        for packet in capture.packets(5.0):
            passed.append(packet)
            if (packet.inner_source, packet.icmpv6) == (str(source.address), ECHO_REQUEST):
                break
    echo = passed[-1]
    assert echo.protocol == ICMPV6
    assert (echo.outer_source, echo.outer_destination) == tuple(vtep(underlay, host) for host in underlay.hosts)
    assert echo.inner_destination == str(destination.address)
    asked = {packet.inner_source for packet in passed if packet.icmpv6 == NEIGHBOUR_SOLICITATION}
    assert echo.inner_source not in asked


@BOTH
def test_a_network_with_ipv6_has_no_addresses_but_ours_and_one_without_has_no_ipv6(
    underlay: Lab, topology: str
) -> None:
    host = underlay.hosts[0]
    without, dual = (new_network(underlay, inside, topology) for inside in ("ipv4", "dual"))
    for network in (without, dual):
        host.attach(f"{network}-c", network)
    assert addresses_in(host, without) == set()
    assert automatic_addresses_in(underlay, dual) == set()


def test_the_uplinks_end_on_the_host_has_no_address_but_ours(underlay: Lab) -> None:
    network = new_network(underlay, "dual", "routed")
    host = underlay.hosts[0]
    given = host.attach(f"{network}-c", network)
    device = f"ov{json.loads(underlay.overlayctl('network', 'show', network, '--json'))['vni']}"
    (link,) = json.loads(host.run("ip", "-j", "-6", "address", "show", "dev", device))
    own = given.addresses[1] - 1
    assert {each["local"] for each in link["addr_info"]} == {str(own)}, "the host's own of the block, and no other"


def addresses_in(host: LabHost, network: str) -> set[str]:
    links = json.loads(host.run("ip", "-n", f"ov-{network}", "-j", "-6", "address"))
    return {each["local"] for link in links for each in link.get("addr_info", ())}


def automatic_addresses_in(underlay: Lab, network: str) -> set[str]:
    """Return the addresses that neither we nor the network's ranges gave."""
    number = json.loads(underlay.overlayctl("network", "show", network, "--json"))["gateway_number"]
    found = addresses_in(underlay.hosts[0], network) - {"::1", f"fe80::{number:x}"}
    return {each for each in found if not each.startswith("fd00:")}


def test_a_sandbox_in_which_ipv6_was_disabled_gets_its_address_and_believes_no_router(underlay: Lab) -> None:
    network = new_network(underlay, "dual", "switched")
    here, there = underlay.hosts
    here.add_sandbox(f"{network}-c")
    here.run("ip", "netns", "exec", f"{network}-c", "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    source, destination = here.attach(f"{network}-c", network), there.attach(f"{network}-d", network)
    underlay.in_force(source, destination)
    assert source.ping(destination.addresses[1]) is not None
    assert sysctl(source, "accept_ra") == "0"
    assert checked(source) == 0


@BOTH
def test_a_container_reaches_its_own_address_where_ipv6_was_disabled_everywhere(underlay: Lab, topology: str) -> None:
    network = new_network(underlay, "dual", topology)
    host = underlay.hosts[0]
    host.add_sandbox(f"{network}-c")
    host.run("ip", "netns", "exec", f"{network}-c", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    container = host.attach(f"{network}-c", network)
    assert container.ping(container.addresses[1]) is not None


def sysctl(container: Container, name: str) -> str:
    return container.run("sysctl", "-n", f"net.ipv6.conf.{container.interface}.{name}").strip()


def checked(container: Container) -> int:
    """Return the exit status of a CHECK with the result of the ADD."""
    config = {"cniVersion": "1.0.0", "name": container.network, "type": "overlayd", "prevResult": container.result}
    variables = {"CONTAINERID": container.name, "NETNS": container.sandbox, "IFNAME": container.interface}
    return container.host.cni("CHECK", config, **variables).status


@BOTH
def test_an_address_of_each_family_may_be_asked_for(underlay: Lab, topology: str) -> None:
    network = new_network(underlay, "dual", topology)
    host = underlay.hosts[0]
    first = host.attach(f"{network}-first", network)
    wanted = [str(address + 7) for address in first.addresses]
    second = host.attach(f"{network}-second", network, runtimeConfig={"ips": wanted})
    assert [str(address) for address in second.addresses] == wanted
    third = host.attach(f"{network}-third", network, arguments=f"IP={first.addresses[1] + 9}")
    assert third.addresses[1] == first.addresses[1] + 9
    assert first.ping(third.addresses[1]) is not None


def devices(container: Container) -> list[str]:
    return [link["ifname"] for link in json.loads(container.run("ip", "-j", "link"))]


def test_one_container_is_in_networks_of_all_kinds_at_once(underlay: Lab) -> None:
    networks = [new_network(underlay, inside, topology) for topology in ("routed", "switched") for inside in RANGES]
    here, there = underlay.hosts
    name = f"{networks[0]}-all"
    inside = [here.attach(name, network, interface=f"eth{index}") for index, network in enumerate(networks)]
    peers = [there.attach(f"{network}-peer", network) for network in networks]
    underlay.in_force(*inside, *peers)
    lost = [str(address) for peer in peers for address in peer.addresses if inside[0].ping(address) is None]
    assert lost == []
    for attached in inside:
        assert here.detach(attached).status == 0
    eventually(lambda: devices(inside[0]) == ["lo"], "what was taken out of use is deleted")


@BOTH
def test_a_network_that_gets_an_ipv6_range_while_it_is_used_gives_it_to_the_next_container(
    underlay: Lab, topology: str
) -> None:
    network = new_network(underlay, "ipv4", topology)
    old = [host.attach(f"{network}-old-{host.name}", network) for host in underlay.hosts]
    underlay.overlayctl("network", "add-range", network, f"fd00:{network[3:]}::/48")
    underlay.overlayctl("wait", "--network", network)
    new = [host.attach(f"{network}-new-{host.name}", network) for host in underlay.hosts]
    underlay.in_force(*old, *new)
    assert [new[0].ping(address) is not None for address in new[1].addresses] == [True, True]
    assert new[0].ping(old[1].address) is not None
    assert automatic_addresses_in(underlay, network) == set()


def test_an_address_of_nobody_is_refused_at_once(underlay: Lab) -> None:
    network = new_network(underlay, "dual", "routed")
    source = underlay.hosts[0].attach(f"{network}-c", network)
    for address in source.addresses:
        ping = ["ping", "-n", "-c1", "-W2", str(address + 9)]
        done = source.host.execute(["nsenter", f"--net={source.sandbox}", *ping])
        assert "nreachable" in done.stdout, done.stdout


def test_networks_with_the_same_addresses_do_not_see_each_other(underlay: Lab) -> None:
    number = 100 + next(_numbers)
    names = [f"same{number}-{topology}" for topology in ("routed", "switched")]
    for name in names:
        ranges = ("--range", f"10.{number}.0.0/16", "--range", f"fd00:{number}::/48")
        underlay.overlayctl("network", "create", name, "--topology", name.partition("-")[2], *ranges)
    pairs = [[host.attach(f"{name}-{host.name}", name) for host in underlay.hosts] for name in names]
    underlay.in_force(*pairs[0], *pairs[1])
    for source, destination in pairs:
        before = {each.name: each.echoes for pair in pairs for each in pair}
        for address in destination.addresses:
            assert source.ping(address) is not None
        others = [each for pair in pairs for each in pair if each is not source and each is not destination]
        assert {each.name: each.echoes for each in others} == {each.name: before[each.name] for each in others}


@pytest.mark.parametrize("inside", ["ipv4", "ipv6"])
def test_a_container_cannot_be_in_two_networks_that_share_addresses(underlay: Lab, inside: str) -> None:
    number, host = 100 + next(_numbers), underlay.hosts[0]
    shared = RANGES[inside][0].format(number)
    for name in (f"one{number}", f"two{number}"):
        underlay.overlayctl("network", "create", name, "--range", shared)
    first = host.attach(f"c{number}", f"one{number}")
    variables = {"CONTAINERID": first.name, "NETNS": first.sandbox, "IFNAME": "eth1"}
    refused = host.cni("ADD", plugin_config(f"two{number}"), **variables)
    assert refused.status == 1
    assert f"the container is in network one{number} by eth0, and the range of two{number} overlaps" in str(
        refused.json["msg"]
    )
    links = json.loads(first.run("ip", "-j", "link"))
    assert [link["ifname"] for link in links] == ["lo", "eth0"]


def test_hosts_of_different_underlay_families_say_so_by_name(own_lab: Lab) -> None:
    here, there = own_lab.hosts
    there.stop_agent()
    there.start_agent("--vtep", str(there.address6))
    own_lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
    for host in own_lab.hosts:
        host.attach(f"c-{host.name}", "blue")

    def reported() -> str:
        status = here.agent_status()
        assert status is not None
        return json.dumps(status["problems"])

    eventually(lambda: there.name in reported(), "the host's problem names the other one")
    assert str(there.address6) in reported()
    there.stop_agent()
    there.start_agent()
    eventually(lambda: reported() == "[]", "the problem is over with a common family")
