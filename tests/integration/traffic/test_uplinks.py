"""The way out of a network and in, on real hosts: egress, host access, isolation, redirections of the host."""

import json
import re
from ipaddress import IPv4Address

import pytest

from tests.integration.conftest import NewNetwork
from tests.support.lab.lab import COMMANDS, Container, Lab, LabHost, plugin_config
from tests.support.lab.processes import eventually
from tests.support.packets.conversation import Server, ask

OUTSIDE = "10.99.0.1"
"""The underlay's own address: a machine of the world outside."""

BOTH = pytest.mark.parametrize("topology", ["routed", "switched"])


def reaches(container: Container, address: str) -> bool:
    return container.ping(IPv4Address(address), wait=5) is not None


def is_cut_off(container: Container, address: str) -> bool:
    return container.ping(IPv4Address(address), wait=1) is None


def host_reaches(host: LabHost, container: Container) -> bool:
    done = host.execute(["ping", "-n", "-c1", "-W1", str(container.address)])
    return done.returncode == 0


def own_address(lab: Lab, container: Container) -> str:
    """Return the address that the container's host has itself in the network."""
    vni = json.loads(lab.overlayctl("network", "show", container.network, "--json"))["vni"]
    (shown,) = json.loads(container.host.run("ip", "-j", "address", "show", "dev", f"ov{vni}"))
    return next(str(each["local"]) for each in shown["addr_info"] if each["scope"] == "global")


@BOTH
@pytest.mark.parametrize("kind", ["host", "isolated"])
def test_containers_reach_the_world_outside_as_their_host(
    lab: Lab, new_network: NewNetwork, topology: str, kind: str
) -> None:
    here, there = lab.attach_everywhere(new_network("--topology", topology, "--uplink", kind))
    with Server(lab.enter_underlay, OUTSIDE) as server:
        assert ask(here.enter, OUTSIDE, server.port) == str(here.host.address)
        assert ask(there.enter, OUTSIDE, server.port) == str(there.host.address)
    assert here.ping(there.address) is not None


@BOTH
def test_the_host_is_a_member_of_the_network(lab: Lab, new_network: NewNetwork, topology: str) -> None:
    network = new_network("--topology", topology)
    here, there = lab.attach_everywhere(network)
    for container in (here, there):
        assert host_reaches(here.host, container)
        with Server(container.enter, str(container.address)) as server:
            seen = ask(here.host.enter, str(container.address), server.port)
            assert seen == own_address(lab, here), "a host speaks with its address in the network"
        assert reaches(container, own_address(lab, here))


@BOTH
def test_without_egress_nothing_begins_outwards_and_the_network_goes_on(
    lab: Lab, new_network: NewNetwork, topology: str
) -> None:
    network = new_network("--topology", topology)
    here, there = lab.attach_everywhere(network)
    assert reaches(here, OUTSIDE)
    lab.overlayctl("network", "set", network, "--no-egress")
    lab.overlayctl("wait", "--network", network)
    assert is_cut_off(here, OUTSIDE)
    assert here.ping(there.address) is not None
    assert host_reaches(here.host, there)
    assert reaches(there, own_address(lab, here))
    lab.overlayctl("network", "set", network, "--egress")
    lab.overlayctl("wait", "--network", network)
    assert reaches(here, OUTSIDE)


def test_a_container_from_before_egress_gets_out_when_it_is_attached_again(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--no-egress")
    early = lab.attach_everywhere(network)[0]
    lab.overlayctl("network", "set", network, "--egress")
    lab.overlayctl("wait", "--network", network)
    assert is_cut_off(early, OUTSIDE)
    assert early.host.cni("CHECK", plugin_config(network, prevResult=early.result), **variables(early)).stdout == ""
    assert early.host.detach(early).status == 0
    again = early.host.attach(early.name, network)
    assert reaches(again, OUTSIDE)
    again.run("ip", "route", "del", "default")
    check = again.host.cni("CHECK", plugin_config(network, prevResult=again.result), **variables(again))
    assert "0.0.0.0/0" in check.stdout


def variables(container: Container) -> dict[str, str]:
    return {"CONTAINERID": container.name, "NETNS": container.sandbox, "IFNAME": container.interface}


def test_a_network_without_uplink_has_no_way_out(lab: Lab, new_network: NewNetwork) -> None:
    here, there = lab.attach_everywhere(new_network("--uplink", "none"))
    assert is_cut_off(here, OUTSIDE)
    assert not host_reaches(here.host, here)
    assert here.ping(there.address) is not None


@pytest.mark.parametrize("kind", ["host", "isolated"])
def test_networks_do_not_reach_each_other_through_their_host(lab: Lab, new_network: NewNetwork, kind: str) -> None:
    one, other = (lab.attach_everywhere(new_network("--uplink", kind))[0] for _ in range(2))
    with Server(other.enter, str(other.address)) as server:
        assert ask(one.enter, str(other.address), server.port) is None
        assert ask(other.enter, str(other.address), server.port) == str(other.address)


def test_of_networks_with_one_range_the_first_has_host_access_and_both_have_egress(
    lab: Lab, new_network: NewNetwork
) -> None:
    first, second = (new_network(cidr="10.78.0.0/16") for _ in range(2))
    in_first, in_second = (lab.attach_everywhere(network)[0] for network in (first, second))
    assert in_first.address == in_second.address
    assert host_reaches(in_first.host, in_first)
    with Server(in_second.enter, str(in_second.address)) as server:
        assert ask(in_first.host.enter, str(in_second.address), server.port) is None, "that is the other network's"
    with Server(lab.enter_underlay, OUTSIDE) as server:
        assert ask(in_first.enter, OUTSIDE, server.port) == ask(in_second.enter, OUTSIDE, server.port)


def test_a_range_that_the_host_has_a_route_to_is_isolated(lab: Lab, new_network: NewNetwork) -> None:
    host = lab.hosts[0]
    host.run("ip", "route", "add", "10.79.7.0/24", "via", OUTSIDE)
    network = new_network(cidr="10.79.0.0/16")
    here = host.attach(f"{network}-c", network)
    lab.in_force(here)
    assert "10.79.0.0/16" not in host.run("ip", "route")
    assert reaches(here, OUTSIDE)
    host.run("ip", "route", "del", "10.79.7.0/24")
    host.control("plan")  # which looks at everything, as each half minute does
    eventually(lambda: host_reaches(host, here), "the host is a member as soon as it can be")


@pytest.mark.parametrize("topology", ["routed", "switched"])
def test_a_redirection_of_the_host_to_a_backend_on_another_host_works(
    lab: Lab, new_network: NewNetwork, topology: str
) -> None:
    here, there = lab.attach_everywhere(new_network("--topology", topology))
    second = here.host.attach(f"{here.name}-2", here.network)
    lab.in_force(second)
    with Server(there.enter, str(there.address)) as server:
        service, rule = "10.96.0.10", f"ip daddr 10.96.0.10 tcp dport 80 dnat to {there.address}:{server.port}"
        here.host.run("nft", "add table ip services")
        for hook, priority in (("prerouting", -100), ("output", -100)):
            chain = f"{hook} {{ type nat hook {hook} priority {priority}; }}"
            here.host.run("nft", f"add chain ip services {chain}")
            here.host.run("nft", f"add rule ip services {hook} {rule}")
        # The host itself must have some route to the service, if only the default one.
        here.host.run("ip", "route", "add", "default", "via", OUTSIDE)
        try:
            expected = own_address(lab, here)
            assert ask(here.enter, service, 80) == expected
            assert ask(second.enter, service, 80) == expected
            assert ask(here.host.enter, service, 80) == expected
        finally:
            here.host.run("ip", "route", "del", "default")
            here.host.run("nft", "delete table ip services")


def test_nobody_beyond_the_host_gets_in_by_routing(lab: Lab, new_network: NewNetwork) -> None:
    here, _ = lab.attach_everywhere(new_network())
    lab.underlay_run("ip", "route", "add", f"{here.address}/32", "via", str(here.host.address))
    with Server(here.enter, str(here.address)) as server:
        assert ask(lab.enter_underlay, str(here.address), server.port) is None
        assert ask(here.host.enter, str(here.address), server.port) is not None
    lab.underlay_run("ip", "route", "del", f"{here.address}/32")


@pytest.mark.parametrize("kind", ["host", "isolated"])
def test_an_uplink_that_is_broken_by_hand_comes_back(lab: Lab, new_network: NewNetwork, kind: str) -> None:
    network = new_network("--uplink", kind)
    here, _ = lab.attach_everywhere(network)
    host = here.host
    vni = json.loads(lab.overlayctl("network", "show", network, "--json"))["vni"]
    for breaking in (
        ["ip", "link", "del", f"ov{vni}"],
        ["ip", "link", "set", f"ov{vni}", "down"],
        ["ip", "-n", f"ov-{network}", "route", "del", "default"],
        ["nft", "flush", "ruleset"],
        ["nsenter", f"--net=/run/netns/ov-{network}", "nft", "flush", "ruleset"],
        ["sysctl", "-q", "-w", "net.ipv4.ip_forward=0"],
    ):
        host.run(*breaking)
        what = f"the way out works again after {' '.join(breaking)}"
        eventually(lambda: not is_cut_off(here, OUTSIDE), what)


def test_beside_dockers_tables_the_network_works_and_the_page_tells_how_egress_does(
    lab: Lab, new_network: NewNetwork
) -> None:
    here, there = lab.attach_everywhere(new_network())
    host = here.host
    host.run("nft", "add table ip filter; add chain ip filter DOCKER-USER")
    host.run("nft", "add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
    host.run("nft", "add rule ip filter FORWARD jump DOCKER-USER")
    assert here.ping(there.address) is not None
    assert host_reaches(host, there)
    assert is_cut_off(here, OUTSIDE), "a rule that drops decides, whichever other rule accepts"
    vni = json.loads(lab.overlayctl("network", "show", here.network, "--json"))["vni"]
    for direction in ("iifname", "oifname"):
        host.run("nft", f"add rule ip filter DOCKER-USER {direction} ov{vni} accept")
    assert reaches(here, OUTSIDE)
    host.run("nft", "delete table ip filter")


def test_the_agent_lets_uplinks_pass_where_docker_drops_and_cleanup_takes_that_away(own_lab: Lab) -> None:
    own_lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
    here = own_lab.hosts[0].attach("here", "blue")
    host = here.host
    host.run("nft", "add table ip filter; add chain ip filter DOCKER-USER")
    host.run("nft", "add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
    host.run("nft", "add rule ip filter FORWARD jump DOCKER-USER; add rule ip filter DOCKER-USER return")
    before = host.run("nft", "list", "table", "ip", "filter")
    assert is_cut_off(here, OUTSIDE)
    host.stop_agent()
    host.start_agent("--resync", "1")
    eventually(lambda: reaches(here, OUTSIDE), "the uplink passes")
    host.run("nft", "flush", "chain", "ip", "filter", "DOCKER-USER")
    eventually(lambda: reaches(here, OUTSIDE), "it passes again")
    host.run("nft", "add rule ip filter DOCKER-USER return")
    host.stop_agent()
    host.run(str(COMMANDS / "overlayd"), "cleanup", "--yes", "--attached")
    assert host.run("nft", "list", "table", "ip", "filter") == before


FIREWALLD = """
table inet firewalld {
  chain filter_INPUT {
    type filter hook input priority 10; policy accept;
    ct state established,related accept
    iifname lo accept
    meta l4proto { icmp, ipv6-icmp } accept
    UDP
    reject with icmpx admin-prohibited
  }
  chain filter_FORWARD {
    type filter hook forward priority 10; policy accept;
    ct state established,related accept
    ct status dnat accept
    TRUSTED
    reject with icmpx admin-prohibited
  }
}
"""
"""The shape of firewalld's table: a zone that rejects, with what the page says in the places of the two words."""


def test_beside_firewalld_the_network_works_as_the_page_tells(lab: Lab, new_network: NewNetwork) -> None:
    here, there = lab.attach_everywhere(new_network())
    host = here.host

    def reload(udp: str, trusted: str) -> None:
        rules = FIREWALLD.replace("UDP", udp).replace("TRUSTED", trusted)
        host.run("nft", f"table inet firewalld; delete table inet firewalld; {rules}")

    reload("", "")
    assert there.ping(here.address, wait=0.5) is None, "tunnelled packets are not tracked: their port must be open"
    assert is_cut_off(here, OUTSIDE)
    vni = json.loads(lab.overlayctl("network", "show", here.network, "--json"))["vni"]
    reload("udp dport 4789 accept", f'iifname "ov{vni}" accept')
    assert there.ping(here.address) is not None
    assert reaches(here, OUTSIDE)
    host.run("nft", "delete table inet firewalld")


def test_packets_inside_an_isolated_network_are_not_tracked(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--uplink", "isolated")
    here, there = lab.attach_everywhere(network)
    inside = ["nsenter", f"--net=/run/netns/ov-{network}", "nft"]
    here.host.run(*inside, "add table inet tracker; add chain inet tracker f { type filter hook forward priority 0; }")
    here.host.run(*inside, "add rule inet tracker f ct state untracked counter")
    here.host.run(*inside, "add rule inet tracker f ct state new,established counter")
    assert here.ping(there.address) is not None
    listed = here.host.run(*inside, "list", "table", "inet", "tracker")
    untracked, tracked = (int(number) for number in re.findall(r"counter packets (\d+)", listed))
    assert (untracked, tracked) == (2, 0)
    here.host.run(*inside, "delete table inet tracker")
