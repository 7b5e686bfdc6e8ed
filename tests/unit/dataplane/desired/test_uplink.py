"""Which kind of uplink a network gets, and whose packets are whose."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from overlayd.dataplane import ownership
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.desired.site import Site
from overlayd.dataplane.desired.uplink import choose, disguise, host_device, host_side, severing, without
from overlayd.dataplane.items import HOST, Address, Item, Link, NftTable, Route, State, Sysctl, network_namespace
from overlayd.ipam.lifelines import Lifeline, Lifelines
from overlayd.model.address import Family
from overlayd.model.cluster import Cluster, Record
from overlayd.model.ids import InterfaceName, NetworkName, Revision, Vni
from overlayd.model.network import Network, Topology, Uplink
from overlayd.model.published_port import PortMapping, Published, TransportProtocol
from tests.support.controllers import clusters

BLUE, GREEN = NetworkName("blue"), NetworkName("green")


def network(name: str, kind: Uplink, cidr: str = "10.32.0.0/16") -> Network:
    return replace(clusters.network(name, cidr=cidr), uplink=kind)


@pytest.mark.parametrize(
    ("kind", "routes", "chosen"),
    [
        (Uplink.AUTO, [], Uplink.HOST),
        (Uplink.AUTO, ["192.0.2.0/24", "fd00::/8"], Uplink.HOST),
        (Uplink.AUTO, ["10.32.7.0/24"], Uplink.ISOLATED),
        (Uplink.AUTO, ["10.0.0.0/8"], Uplink.ISOLATED),
        (Uplink.HOST, ["10.0.0.0/8"], Uplink.HOST),
        (Uplink.ISOLATED, [], Uplink.ISOLATED),
        (Uplink.NONE, [], Uplink.NONE),
    ],
)
def test_a_network_gets_what_it_says_or_what_the_hosts_routes_allow(
    kind: Uplink, routes: list[str], chosen: Uplink
) -> None:
    assert choose([network("blue", kind)], [ip_network(route) for route in routes], Lifelines()) == {BLUE: chosen}


@pytest.mark.parametrize(
    ("blue", "green", "chosen"),
    [
        (Uplink.AUTO, Uplink.AUTO, (Uplink.HOST, Uplink.ISOLATED)),
        (Uplink.AUTO, Uplink.HOST, (Uplink.HOST, Uplink.ISOLATED)),
        (Uplink.ISOLATED, Uplink.AUTO, (Uplink.ISOLATED, Uplink.HOST)),
        (Uplink.NONE, Uplink.HOST, (Uplink.NONE, Uplink.HOST)),
    ],
)
def test_of_two_networks_with_one_range_one_at_most_has_host_access(
    blue: Uplink, green: Uplink, chosen: tuple[Uplink, Uplink]
) -> None:
    both = [network("green", green), network("blue", blue)]
    found = choose(both, [], Lifelines())
    assert (found[BLUE], found[GREEN]) == chosen
    assert choose(reversed(both), [], Lifelines()) == found


def test_a_network_that_a_host_had_made_takes_no_range_from_one_of_an_administrator() -> None:
    blue = network("blue", Uplink.AUTO)
    green = replace(network("green", Uplink.AUTO, "10.32.4.0/24"), vni=Vni(1), made_by=clusters.HERE)
    assert choose([green, blue], [], Lifelines()) == {BLUE: Uplink.HOST, GREEN: Uplink.ISOLATED}
    assert choose([green], [], Lifelines()) == {GREEN: Uplink.HOST}


def test_networks_with_ranges_of_their_own_all_have_host_access() -> None:
    both = [network("blue", Uplink.AUTO), network("green", Uplink.AUTO, "10.33.0.0/16")]
    assert set(choose(both, [], Lifelines()).values()) == {Uplink.HOST}


@pytest.mark.parametrize(
    ("kind", "address", "chosen"),
    [
        (Uplink.AUTO, "10.32.0.0", Uplink.ISOLATED),
        (Uplink.HOST, "10.32.255.255", Uplink.ISOLATED),
        (Uplink.HOST, "10.31.255.255", Uplink.HOST),
        (Uplink.HOST, "10.33.0.0", Uplink.HOST),
        (Uplink.HOST, "fd00::1", Uplink.HOST),
        (Uplink.NONE, "10.32.7.7", Uplink.NONE),
    ],
)
def test_a_range_with_a_lifeline_in_it_gets_no_host_access_whatever_the_network_says(
    kind: Uplink, address: str, chosen: Uplink
) -> None:
    lifelines = Lifelines([Lifeline(ip_address(address), "a gateway"), Lifeline(ip_address("192.0.2.1"), "another")])
    assert choose([network("blue", kind)], [], lifelines) == {BLUE: chosen}


def test_an_ipv6_range_and_a_second_one_are_looked_at_too() -> None:
    both = replace(clusters.dual(Topology.ROUTED).networks[BLUE], uplink=Uplink.HOST)
    assert choose([both], [], Lifelines([Lifeline(ip_address("fd00:32::99"), "a gateway")])) == {BLUE: Uplink.ISOLATED}


def test_a_network_that_lost_host_access_to_a_lifeline_leaves_it_to_the_next_one() -> None:
    wide, narrow = network("blue", Uplink.HOST), network("green", Uplink.AUTO, "10.32.0.0/24")
    found = choose([wide, narrow], [], Lifelines([Lifeline(ip_address("10.32.7.7"), "a gateway")]))
    assert found == {BLUE: Uplink.ISOLATED, GREEN: Uplink.HOST}


@pytest.mark.parametrize("what", ["the VTEP of another host", "of this host alone"])
def test_a_tunnel_end_in_a_range_takes_the_hosts_way_to_it_away(what: str) -> None:
    known, site = clusters.dual(Topology.ROUTED), clusters.site()
    blue = replace(known.networks[BLUE], uplink=Uplink.HOST)
    known = known.changed(Revision(2), [blue])
    before = resolve(known, site, [])
    inside = ip_address("10.32.7.7")
    if what == "of this host alone":
        site = replace(site, lifelines=frozenset({Lifeline(inside, "a gateway")}))
    else:
        known = known.changed(Revision(3), [clusters.host(9, str(inside))])
    assert route_to(before, "10.32.0.0/16")
    assert not route_to(resolve(known, site, []), "10.32.0.0/16")
    lifelines = Lifelines([Lifeline(inside, "a gateway")])
    assert {item.dst for item in severing(before, lifelines) if isinstance(item, Route)} == {ip_network("10.32.0.0/16")}
    assert not severing(resolve(known, site, []), lifelines)


def route_to(state: State, cidr: str) -> list[Item]:
    return [item for item in state if isinstance(item, Route) and item.ns == HOST and item.dst == ip_network(cidr)]


def test_a_lifeline_is_severed_by_an_address_of_the_host_too() -> None:
    on_host = Address(HOST, host_device(Vni(1)), ip_interface("10.32.0.2/32"))
    inside = Address(network_namespace(BLUE), ownership.UPLINK, ip_interface("10.32.0.2/32"))
    lifelines = Lifelines([Lifeline(ip_address("10.32.0.2"), "a gateway")])
    assert severing(frozenset({on_host, inside}), lifelines) == {on_host}
    assert severing(frozenset({on_host}), Lifelines([Lifeline(ip_address("10.32.0.3"), "another")])) == frozenset()


@pytest.mark.parametrize("kind", [Uplink.HOST, Uplink.ISOLATED])
def test_a_device_of_the_host_that_is_left_out_takes_along_what_is_on_it(kind: Uplink) -> None:
    known = clusters.dual(Topology.ROUTED)
    green: list[Record] = [network("green", kind, "10.64.0.0/16"), clusters.block(1, "10.64.0.0/24", "green")]
    with_blue = known.changed(Revision(2), [replace(known.networks[BLUE], uplink=kind)])
    with_both = with_blue.changed(Revision(3), green)
    one, both = (resolve(each, clusters.site(), []) for each in (with_blue, with_both))
    rest = without(both, frozenset({host_device(with_both.networks[GREEN].vni)}))

    def on_devices(state: State) -> State:
        return frozenset(item for item in state if item.ns == HOST and not isinstance(item, NftTable | Sysctl))

    assert on_devices(rest) == on_devices(one)
    assert {item for item in both if item.ns != HOST} == {item for item in rest if item.ns != HOST}
    assert without(both, frozenset()) == both


def test_the_hosts_end_of_an_uplink_has_the_mac_that_its_networks_neighbours_have() -> None:
    known = clusters.example(Topology.ROUTED)
    blue = replace(known.networks[BLUE], uplink=Uplink.HOST)
    state = resolve(known.changed(Revision(2), [blue]), clusters.site(), [])
    (end,) = (item for item in state if isinstance(item, Link) and item.ns == HOST)
    assert end.mac == ownership.HOST_MAC


@pytest.mark.parametrize(
    ("kind", "ranges", "comes_back"),
    [
        (Uplink.HOST, "both", True),
        (Uplink.ISOLATED, "both", True),
        (Uplink.NONE, "both", False),
        (Uplink.HOST, "IPv6 only", False),
    ],
)
def test_what_comes_back_from_the_world_is_forwarded_where_it_comes_in(
    kind: Uplink,
    ranges: str,
    comes_back: bool,  # noqa: FBT001 - an expected value
) -> None:
    known = clusters.dual(Topology.ROUTED)
    blue = replace(known.networks[BLUE], uplink=kind)
    blue = replace(blue, pools=blue.pools[1:]) if ranges == "IPv6 only" else blue
    site = replace(clusters.site(), ways_out=frozenset({InterfaceName("eth0")}))
    state = resolve(known.changed(Revision(2), [blue]), site, [])
    wanted = Sysctl(HOST, "net/ipv4/conf/eth0/forwarding", "1")
    assert (wanted in state) is comes_back


def test_every_vni_has_a_device_and_addresses_of_its_own() -> None:
    first, last = Vni(1), Vni((1 << 24) - 1)
    assert (host_device(first), host_device(last)) == ("ov1", "ov16777215")
    assert (disguise(first, Family.V4), disguise(last, Family.V4)) == (
        ip_address("241.0.0.1"),
        ip_address("241.255.255.255"),
    )
    assert disguise(last, Family.V6) == ip_address("fd6f:7665:726c:6179::ff:ffff")
    assert host_side(last, Family.V6) == ip_address("fd6f:7665:726c:6179:0:1:ff:ffff")


def test_a_network_without_uplink_leaves_nothing_on_the_host_but_the_list_of_vteps() -> None:
    state = resolve(clusters.dual(Topology.SWITCHED), clusters.site(), [])
    assert [type(item) for item in state if item.ns == HOST] == [NftTable]


def test_a_kept_uplink_stays_in_the_hosts_table() -> None:
    known = clusters.example(Topology.ROUTED)
    blue = replace(known.networks[BLUE], uplink=Uplink.HOST)
    site = replace(clusters.site(), kept_uplinks=frozenset({host_device(Vni(777))}))
    state = resolve(known.changed(Revision(2), [blue]), site, [])
    (table,) = (item for item in state if isinstance(item, NftTable) and item.name == "overlayd")
    assert 'elements = { "ov100", "ov777" }' in table.text
    assert {item.name for item in state if isinstance(item, Link) and item.ns == HOST} == {"ov100"}


def test_a_forgotten_network_keeps_its_rules_on_the_host() -> None:
    known = clusters.example(Topology.ROUTED)
    blue = replace(known.networks[BLUE], uplink=Uplink.HOST)
    mapping = PortMapping(TransportProtocol.TCP, 8080, 80)
    site = replace(clusters.site(), published=(Published(BLUE, (ip_address("10.32.0.2"),), mapping),))

    def rules(cluster: Cluster, site: Site) -> str:
        tables = [item for item in resolve(cluster, site, []) if isinstance(item, NftTable) and item.ns == HOST]
        return next(item.text for item in tables if item.name == ownership.TABLE)

    before = rules(known.changed(Revision(2), [blue]), site)
    assert "dport 8080 dnat ip to 10.32.0.2:80" in before
    lost = clusters.cluster([clusters.host(1)])
    assert rules(lost, replace(site, forgotten=(blue,), kept_uplinks=frozenset({host_device(blue.vni)}))) == before


def test_every_port_at_which_hosts_may_take_in_vxlan_is_closed_to_networks() -> None:
    known = clusters.example(Topology.ROUTED)
    blue = replace(known.networks[BLUE], uplink=Uplink.HOST)
    site = replace(clusters.site(), vxlan_port=8472, former_vxlan_ports=frozenset({8473}))
    state = resolve(known.changed(Revision(2), [blue]), site, [])
    (table,) = (item for item in state if isinstance(item, NftTable) and item.name == ownership.TABLE)
    rule = "iifname @uplinks udp dport { 4789, 8472, 8473 } counter name forged_tunnel drop"
    chains = {part.split()[0]: part for part in table.text.split("chain ")[1:]}
    assert {name for name, chain in chains.items() if rule in chain} == {"passing", "arriving"}
    for name in ("passing", "arriving"):
        assert rule not in chains[name].partition(" ct ")[2], "nothing lets replies through before"


@pytest.mark.parametrize("egress", [True, False])
def test_a_container_has_a_default_route_while_its_network_has_egress(egress: bool) -> None:  # noqa: FBT001 - a case
    known = clusters.dual(Topology.ROUTED)
    blue = replace(known.networks[BLUE], uplink=Uplink.AUTO, egress=egress)
    first = clusters.endpoint(1, "web", "10.32.0.2,fd00:32::2")
    second, third = (replace(first, interface=InterfaceName(name)) for name in ("eth1", "eth2"))
    state = resolve(known.changed(Revision(2), [blue]), clusters.site(), [first, second, third])
    routes = [item for item in state if isinstance(item, Route) and item.ns == first.sandbox and not item.dst.prefixlen]
    by_metric = [route.dev for route in sorted(routes, key=lambda route: route.metric) if route.dst.version == 4]
    assert by_metric == (["eth0", "eth1", "eth2"] if egress else [])
    assert len({(route.dst, route.metric) for route in routes}) == len(routes) == (6 if egress else 0)
