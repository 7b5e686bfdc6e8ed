"""Rules that name several things at once, as nft reads them."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from overlayd.dataplane.desired.firewall import HostUplink, Metadata, host_table, inner_table, vxlan_table
from overlayd.dataplane.desired.uplink import host_device
from overlayd.model.ids import NetworkName, Vni
from overlayd.model.network import Pool, Topology, Uplink
from overlayd.model.published_port import PortMapping, Published, TransportProtocol
from tests.support.controllers import clusters

BLUE = clusters.dual(Topology.ROUTED).networks[NetworkName("blue")]
WIDE = replace(BLUE, pools=(*BLUE.pools, Pool(ip_network("10.33.0.0/16"), 24)))
ADDRESSES = ip_address("10.32.0.5"), ip_address("fd00:32::5")
WEB = Published(BLUE.name, ADDRESSES, PortMapping(TransportProtocol.TCP, 8080, 80))
OWN = [ip_address(each) for each in ("10.32.1.2", "fd00:32::2", "10.32.0.2")]


def rules(text: str, chain: str) -> list[str]:
    """Return the rules of a chain, without the line that says where it is hooked in."""
    lines = text.partition(f"chain {chain} {{\n")[2].partition("\t}\n")[0].replace("\t", "").splitlines()
    return [line for line in lines if not line.startswith("type ")]


def test_packets_of_every_network_come_from_known_tunnel_ends() -> None:
    table = vxlan_table([Vni(101), Vni(100)], [ip_address("192.0.2.2")], 4789, {4789}, is_tracking=False)
    ours = "udp dport 4789 @th,96,24 { 100, 101 }"
    assert rules(table.text, "arriving") == [
        f"{ours} ip saddr @vteps notrack accept",
        f"{ours} ip6 saddr @vteps6 notrack accept",
        f"{ours} fib daddr type local counter name forged_vxlan drop",
    ]
    assert rules(table.text, "reassembled") == [
        f"{ours} ip saddr @vteps accept",
        f"{ours} ip6 saddr @vteps6 accept",
        f"{ours} counter name forged_vxlan drop",
    ]


def test_packets_are_checked_once_where_the_kernel_reassembles_them_first() -> None:
    table = vxlan_table([Vni(100)], [ip_address("192.0.2.2")], 4789, {4789}, is_tracking=True)
    assert rules(table.text, "arriving")[-1].endswith("counter name forged_vxlan drop")
    assert "reassembled" not in table.text


def test_what_is_from_no_uplink_leaves_the_rules_for_arrivals_first() -> None:
    way = HostUplink(BLUE, Uplink.HOST, host_device(BLUE.vni))
    arriving = rules(host_table([way], (), {4789}, Metadata.ALLOWED).text, "arriving")
    assert arriving[:2] == ['iifname != "ov*" accept', "iifname != @uplinks accept"]


def test_only_a_host_with_published_ports_looks_at_all_that_enters() -> None:
    way = HostUplink(BLUE, Uplink.HOST, host_device(BLUE.vni))
    assert "chain entering" not in host_table([way], (), {4789}, Metadata.ALLOWED).text
    with_port = host_table([replace(way, published=(WEB,))], (), {4789}, Metadata.ALLOWED).text
    assert rules(with_port, "entering") == ['iifname != "lo" ip daddr 127.0.0.0/8 counter name to_loopback drop']


@pytest.mark.parametrize("metadata", Metadata)
def test_the_metadata_service_is_kept_from_containers_unless_they_may_use_it(metadata: Metadata) -> None:
    way = HostUplink(BLUE, Uplink.HOST, host_device(BLUE.vni))
    passing = rules(host_table([way], (), {4789}, metadata).text, "passing")
    refused = [rule for rule in passing if rule.endswith("jump metadata")]
    assert len(refused) == (2 if metadata is Metadata.REFUSED else 0)


def test_a_published_port_leads_to_an_ipv6_address_in_brackets() -> None:
    way = HostUplink(BLUE, Uplink.HOST, host_device(BLUE.vni), (WEB,))
    assert rules(host_table([way], (), {4789}, Metadata.ALLOWED).text, "published") == [
        "meta nfproto ipv4 tcp dport 8080 dnat ip to 10.32.0.5:80",
        "meta nfproto ipv6 tcp dport 8080 dnat ip6 to [fd00:32::5]:80",
    ]


def test_a_host_in_one_of_the_ranges_of_a_network_keeps_its_address_there() -> None:
    way = HostUplink(WIDE, Uplink.HOST, host_device(WIDE.vni))
    assert rules(host_table([way], (), {4789}, Metadata.ALLOWED).text, "leaving")[:2] == [
        'oifname "ov100" ip saddr != { 10.32.0.0/16, 10.33.0.0/16 } masquerade',
        'oifname "ov100" ip6 saddr != { fd00:32::/48 } masquerade',
    ]


def test_an_isolated_network_tracks_what_is_for_an_address_of_the_host_and_what_leaves() -> None:
    table = inner_table(WIDE, Uplink.ISOLATED, OWN)
    assert table
    ranges = "{ 10.32.0.0/16, 10.33.0.0/16 }"
    assert rules(table.text, "untracked") == [
        f'iifname != "up0" ip daddr {ranges} ip daddr != {{ 10.32.0.2, 10.32.1.2 }} notrack',
        'iifname != "up0" ip6 daddr { fd00:32::/48 } ip6 daddr != { fd00:32::2 } notrack',
    ]


@pytest.mark.parametrize(
    ("topology", "kind", "chains"),
    [
        (Topology.ROUTED, Uplink.HOST, {"sources"}),
        (Topology.ROUTED, Uplink.ISOLATED, {"sources", "untracked", "passing", "leaving"}),
        (Topology.SWITCHED, Uplink.ISOLATED, {"untracked", "passing", "leaving"}),
        (Topology.SWITCHED, Uplink.HOST, set()),
    ],
)
def test_a_network_with_ipv6_is_kept_from_forgery_and_an_isolated_one_is_hidden(
    topology: Topology, kind: Uplink, chains: set[str]
) -> None:
    table = inner_table(replace(BLUE, topology=topology), kind, OWN)
    found = {part.split()[0] for part in table.text.split("chain ")[1:]} if table else set()
    assert found == chains
