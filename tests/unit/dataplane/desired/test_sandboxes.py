"""What an endpoint has inside its sandbox and outside, and what is left where someone else makes the inside."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from overlayd.dataplane.desired.endpoint import (
    IPV6_MTU_MIN,
    destinations,
    endpoint_address,
    gateway_of,
    host_end,
    in_sandbox,
    resolve_endpoint,
    without_guard,
    without_way_out,
)
from overlayd.dataplane.desired.new_endpoint import NewEndpoint
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.desired.site import Site
from overlayd.dataplane.items import (
    HOST,
    Address,
    Item,
    Link,
    NamespaceRef,
    RateLimit,
    Route,
    SourceGuard,
    State,
    Veth,
    VethPeer,
    network_namespace,
)
from overlayd.dataplane.plan import Add
from overlayd.model.address import Family
from overlayd.model.bandwidth import Bandwidth, Rate
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import InterfaceName, NetworkName
from overlayd.model.network import Network, Pool, Topology, Uplink
from tests.support.controllers import clusters

BLUE = NetworkName("blue")
OURS, SANDBOX = network_namespace(BLUE), NamespaceRef("/run/netns/web")
V4 = clusters.endpoint(1, "web", "10.32.0.5")
DUAL = clusters.endpoint(1, "web", "10.32.0.5,fd00:32::5")
LIMITS = Bandwidth(Rate(8_000_000, 0), Rate(16_000_000, 0))
BOTH = pytest.mark.parametrize("topology", Topology)


def network(topology: Topology) -> Network:
    return replace(clusters.dual(topology).networks[BLUE], uplink=Uplink.HOST)


def far_end(items: State) -> VethPeer | None:
    """Return the far end of the only veth pair that is made here; comparisons leave it out."""
    (kind,) = (item.kind for item in items if isinstance(item, Link) and item.name == host_end(DUAL.key))
    assert isinstance(kind, Veth)
    return kind.peer


@BOTH
def test_the_interface_has_the_mac_of_its_endpoint(topology: Topology) -> None:
    items = resolve_endpoint(network(topology), DUAL, 1450)
    (inside,) = (item for item in items if isinstance(item, Link) and item.ns == SANDBOX and item.name == "eth0")
    assert inside.mac == DUAL.mac
    assert far_end(items) == VethPeer(SANDBOX, DUAL.interface, DUAL.mac)


def test_the_source_filter_lets_the_ethertypes_of_the_network_pass() -> None:
    items = resolve_endpoint(replace(network(Topology.SWITCHED), ethertypes=(0x8892,)), DUAL, 1450)
    assert [item.ethertypes for item in items if isinstance(item, SourceGuard)] == [{0x8892}]


@BOTH
def test_inside_a_sandbox_are_the_loopback_and_the_devices_of_one_endpoint(topology: Topology) -> None:
    second = replace(DUAL, interface=InterfaceName("eth1"))
    first, both = (
        frozenset[Item]().union(*(resolve_endpoint(network(topology), each, 1450) for each in endpoints))
        for endpoints in ([DUAL], [DUAL, second])
    )
    inside = in_sandbox(both, DUAL)
    assert inside == {item for item in first if item.ns == SANDBOX}
    assert {item.name for item in inside if isinstance(item, Link)} == {"lo", "eth0"}


@BOTH
def test_an_endpoint_without_a_way_out_has_all_but_default_routes(topology: Topology) -> None:
    with_way, without = (
        resolve_endpoint(replace(network(topology), egress=egress), DUAL, 1450) for egress in (True, False)
    )
    ways = {item for item in with_way if isinstance(item, Route) and not item.dst.prefixlen}
    assert len(ways) == 2
    assert without_way_out(with_way) == with_way - ways
    assert without_way_out(without) == without


def test_an_endpoint_without_a_guard_has_everything_else() -> None:
    items = resolve_endpoint(network(Topology.SWITCHED), DUAL, 1450)
    (guard,) = (item for item in items if isinstance(item, SourceGuard))
    assert without_guard(items) == items - {guard}


@pytest.mark.parametrize("limits", [Bandwidth(), LIMITS])
@BOTH
def test_a_sandbox_out_of_reach_has_nothing_and_the_hosts_side_stays(topology: Topology, limits: Bandwidth) -> None:
    site = replace(clusters.site(), bandwidths=((V4, limits),))
    within, beyond = (
        resolve(clusters.example(topology), each, [V4])
        for each in (site, replace(site, out_of_reach=frozenset({V4.key})))
    )
    assert within - beyond == {item for item in within if item.ns == SANDBOX}
    assert beyond <= within
    assert far_end(within) == VethPeer(SANDBOX, V4.interface, V4.mac)
    assert far_end(beyond) is None, "nothing is made where the far end was"
    assert len([item for item in beyond if isinstance(item, RateLimit)]) == (limits == LIMITS)


OTHER = clusters.endpoint(1, "other", "10.32.0.6")
LIMITED = replace(clusters.site(), bandwidths=((V4, LIMITS), (OTHER, LIMITS)))
ITS_OWN = frozenset({V4.key})


@pytest.mark.parametrize(
    "site",
    [
        replace(LIMITED, unguarded=ITS_OWN),
        replace(LIMITED, out_of_reach=ITS_OWN),
        replace(LIMITED, handed_over=ITS_OWN),
    ],
    ids=["unguarded", "out of reach", "handed over"],
)
def test_what_is_known_of_one_endpoint_changes_no_other(site: Site) -> None:
    known = clusters.example(Topology.SWITCHED)
    before, after = (resolve(known, each, [V4, OTHER]) for each in (LIMITED, site))
    gone = {item for item in before if item.ns == SANDBOX}
    if site.unguarded:
        gone = {item for item in before if isinstance(item, SourceGuard) and item.dev == host_end(V4.key)}
    assert gone
    assert before - after == gone
    assert after <= before


@pytest.mark.parametrize(
    ("topology", "endpoint", "mtu", "answers"),
    [
        (Topology.ROUTED, DUAL, 1450, True),
        (Topology.ROUTED, DUAL, IPV6_MTU_MIN, True),
        (Topology.ROUTED, DUAL, IPV6_MTU_MIN - 1, False),
        (Topology.ROUTED, V4, 1450, False),
        (Topology.SWITCHED, DUAL, 1450, False),
    ],
)
def test_a_host_answers_for_the_ipv6_gateway_of_an_endpoint_that_is_handed_over(
    topology: Topology,
    endpoint: Endpoint,
    mtu: int,
    answers: bool,  # noqa: FBT001 - an expected value
) -> None:
    handed = NewEndpoint(network(topology), endpoint, mtu, LIMITS, is_handed_over=True).items
    own = NewEndpoint(network(topology), endpoint, mtu, LIMITS).items
    gateway = Address(OURS, host_end(endpoint.key), ip_interface("fe80::1/128"))
    assert handed - own == ({gateway} if answers else frozenset())
    assert own - handed == {item for item in own if item.ns == SANDBOX}


@BOTH
def test_the_far_end_of_an_endpoint_that_is_handed_over_is_made_on_the_host(topology: Topology) -> None:
    new = NewEndpoint(network(topology), DUAL, 1450, is_handed_over=True)
    (made,) = (op.item for op in new.plan if isinstance(op, Add) and isinstance(op.item, Link))
    assert far_end(frozenset({made})) == VethPeer(HOST, DUAL.interface, DUAL.mac)
    assert {op.item.ns for op in new.plan} == {OURS}


def test_a_container_in_two_networks_has_what_both_of_them_say() -> None:
    green = clusters.network("green", cidr="10.64.0.0/16")
    known = clusters.example(Topology.ROUTED)
    known = known.changed(known.revision, [green, clusters.block(1, "10.64.0.0/24", "green")])
    second = clusters.endpoint(1, "web", "10.64.0.5", "green", "eth1")
    state = resolve(known, clusters.site(), [V4, second])
    addresses = {(item.dev, str(item.address)) for item in state if isinstance(item, Address) and item.ns == SANDBOX}
    assert addresses == {("eth0", "10.32.0.5/32"), ("eth1", "10.64.0.5/32")}


def test_an_address_that_is_in_no_range_any_more_is_alone_and_has_no_gateway() -> None:
    gone = ip_address("10.99.0.5")
    assert endpoint_address(network(Topology.SWITCHED), gone) == ip_interface("10.99.0.5/32")
    assert gateway_of(network(Topology.SWITCHED), gone) is None
    assert gateway_of(network(Topology.ROUTED), gone) == ip_address("169.254.1.1")


@pytest.mark.parametrize(
    ("topology", "egress", "families", "expected"),
    [
        (Topology.ROUTED, True, {Family.V4}, ["10.32.0.0/16", "10.33.0.0/16", "0.0.0.0/0"]),
        (Topology.ROUTED, False, {Family.V4}, ["10.32.0.0/16", "10.33.0.0/16"]),
        (Topology.ROUTED, True, {Family.V6}, ["fd00:32::/48", "::/0"]),
        (
            Topology.ROUTED,
            True,
            {Family.V6, Family.V4},
            ["10.32.0.0/16", "fd00:32::/48", "10.33.0.0/16", "0.0.0.0/0", "::/0"],
        ),
        (Topology.SWITCHED, True, {Family.V4}, ["0.0.0.0/0"]),
        (Topology.SWITCHED, False, {Family.V4}, []),
    ],
)
def test_the_gateway_leads_to_the_ranges_of_a_routed_network_and_out_where_it_has_egress(
    topology: Topology,
    egress: bool,  # noqa: FBT001 - a case
    families: set[Family],
    expected: list[str],
) -> None:
    blue = network(topology)
    wide = replace(blue, pools=(*blue.pools, Pool(ip_network("10.33.0.0/16"), 24)), egress=egress)
    assert [str(each) for each in destinations(wide, families)] == expected
