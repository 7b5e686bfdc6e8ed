"""What a host's kernel should hold: in which networks it takes part, and who is reachable in them."""

from collections.abc import Iterator, ValuesView
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlayd.dataplane.desired.endpoint import host_end
from overlayd.dataplane.desired.network_items import UNREACHABLE_METRIC
from overlayd.dataplane.desired.resolve import Desired, resolve
from overlayd.dataplane.desired.site import Site
from overlayd.dataplane.items import (
    FLOOD,
    HOST,
    Address,
    BridgeEntry,
    FdbEntry,
    Item,
    Link,
    Namespace,
    Neighbour,
    NftTable,
    Route,
    SourceGuard,
    State,
    network_namespace,
)
from overlayd.dataplane.ownership import BRIDGE, LOOPBACK, UPLINK
from overlayd.model import ids
from overlayd.model.address import Family
from overlayd.model.cluster import ByNetwork, Cluster, Record, RecordKey
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.ids import MacAddress, NetworkName, ReservationName, Revision
from overlayd.model.network import NetworkState, Topology, Uplink
from tests.support.controllers import clusters

SITE = clusters.site()
WEB = clusters.endpoint(1, "web", "10.32.0.2")
DATABASE = clusters.endpoint(2, "db", "10.32.1.2")
BOTH = pytest.mark.parametrize("topology", Topology)


def without(known: Cluster, *keys: RecordKey) -> Cluster:
    return known.changed(Revision(2), deletes=keys)


def test_a_host_that_is_not_registered_has_nothing() -> None:
    known = without(clusters.example(Topology.ROUTED), RecordKey.of(clusters.host(1)))
    assert resolve(known, SITE, [WEB]) == frozenset()


@BOTH
def test_a_host_without_a_block_takes_no_part_in_a_network(topology: Topology) -> None:
    known = without(clusters.example(topology), RecordKey.of(clusters.block(1, "10.32.0.0/24")))
    (table,) = resolve(known, SITE, [WEB])
    assert isinstance(table, NftTable)
    assert "sent_by_users" in table.text, "other hosts take it for a VTEP all the same"
    assert "forged_vxlan" not in table.text


@BOTH
def test_a_network_that_is_being_deleted_forwards_as_long_as_blocks_are_held(topology: Topology) -> None:
    known = clusters.example(topology)
    deleting = replace(clusters.network(topology=topology), state=NetworkState.DELETING)
    assert resolve(known.changed(Revision(2), [deleting]), SITE, [WEB]) == resolve(known, SITE, [WEB])


@BOTH
def test_nothing_leads_to_a_host_that_is_still_known_at_this_hosts_address(topology: Topology) -> None:
    """It has given the address up, and announces another one; a tunnel to it would end here."""
    known = clusters.example(topology, DATABASE)
    there = clusters.host(2)
    stale = known.changed(Revision(2), [replace(there, address=clusters.host(1).address)])
    gone = without(known, RecordKey.of(there))
    assert ways(resolve(stale, SITE, [WEB])) == ways(resolve(gone, SITE, [WEB]))


def test_a_mac_that_another_host_was_first_with_leads_there() -> None:
    """A container of this host got it at the same time, and the controllers refused it."""
    double = replace(WEB, mac=DATABASE.mac)
    known = clusters.example(Topology.SWITCHED, DATABASE)
    state = resolve(known, SITE, [double])
    (port,) = (item.dev for item in state if isinstance(item, BridgeEntry) and item.mac == DATABASE.mac)
    assert port == "vx0"
    # Otherwise it is the other one that was refused, or what it was has not been heard of yet.
    published = resolve(known.changed(Revision(2), [double]), SITE, [double])
    (port,) = (item.dev for item in published if isinstance(item, BridgeEntry) and item.mac == DATABASE.mac)
    assert port == host_end(double.key)


def test_a_remote_endpoint_with_the_mac_of_a_gateway_or_a_tunnel_end_gets_no_entry() -> None:
    """Controllers of earlier releases let containers have it."""
    for mac in ("02:6f:76:00:00:00", "02:6f:76:00:00:01", "02:6f:76:00:00:03"):
        thief = replace(DATABASE, mac=MacAddress(mac))
        assert ways(resolve(clusters.example(Topology.SWITCHED, thief), SITE, [])) == ways(
            resolve(clusters.example(Topology.SWITCHED), SITE, [])
        )


def ways(state: State) -> State:
    return frozenset(item for item in state if isinstance(item, FdbEntry | BridgeEntry | Neighbour | Route))


@BOTH
def test_local_endpoints_come_from_the_host_and_not_from_the_cluster(topology: Topology) -> None:
    stale = clusters.endpoint(1, "stale", "10.32.0.9")
    assert resolve(clusters.example(topology, stale), SITE, [WEB]) == resolve(clusters.example(topology), SITE, [WEB])


@BOTH
def test_each_network_has_a_namespace_of_its_own(topology: Topology) -> None:
    green: list[Record] = [clusters.network("green", topology), clusters.block(1, "10.32.0.0/24", "green")]
    known = clusters.example(topology)
    blue_only, both = resolve(known, SITE, []), resolve(known.changed(Revision(2), green), SITE, [])
    green_only = {item for item in both if item.ns == network_namespace(NetworkName("green"))}
    assert {item for item in blue_only if item.ns != HOST} == {item for item in both - green_only if item.ns != HOST}
    assert green_only


@BOTH
def test_every_device_has_the_underlays_mtu_less_the_encapsulation(topology: Topology) -> None:
    site = Site(clusters.HERE, Family.V4, 9000, 4789)
    links = [item for item in resolve(clusters.example(topology), site, [WEB]) if isinstance(item, Link)]
    assert {link.mtu for link in links if link.name != "lo"} == {8950}
    assert site.mtu == 8950


@BOTH
def test_no_key_stands_for_two_items(topology: Topology) -> None:
    state = resolve(clusters.example(topology, DATABASE), SITE, [WEB])
    assert len({item.key for item in state}) == len(state)


def test_a_remote_host_with_two_blocks_has_one_tunnel_end_and_two_routes() -> None:
    known = clusters.example(Topology.ROUTED).changed(Revision(2), [clusters.block(2, "10.32.9.0/24")])
    state = resolve(known, SITE, [])
    via = IPv4Address("169.254.2.2")
    assert len([item for item in state if isinstance(item, FdbEntry) and item.dst == IPv4Address("192.0.2.2")]) == 1
    assert len([item for item in state if isinstance(item, Neighbour) and item.address == via]) == 1
    routes = {(item.dst, item.metric) for item in state if isinstance(item, Route) and item.via == via}
    assert routes == {(IPv4Network("10.32.1.0/24"), 2), (IPv4Network("10.32.9.0/24"), 2)}


def test_addresses_of_nobody_are_unreachable() -> None:
    routes = [item for item in resolve(clusters.example(Topology.ROUTED), SITE, []) if isinstance(item, Route)]
    nobody = [route for route in routes if route.dev is None]
    assert [(route.dst, route.metric) for route in nobody] == [(IPv4Network("10.32.0.0/16"), UNREACHABLE_METRIC)]
    assert all(route.metric < UNREACHABLE_METRIC for route in routes if route.dev)
    assert ids.HOST_NUMBER_MAX < UNREACHABLE_METRIC < 2**32


@BOTH
def test_a_block_of_a_host_that_is_not_known_is_left_out(topology: Topology) -> None:
    known = clusters.example(topology, clusters.endpoint(3, "far", "10.32.2.2"))
    all_gone = without(known, RecordKey.of(clusters.host(3)), RecordKey.of(clusters.block(3, "10.32.2.0/24")))
    assert resolve(without(known, RecordKey.of(clusters.host(3))), SITE, []) == resolve(all_gone, SITE, [])


def test_a_routed_network_has_its_own_gateway_in_its_namespace_and_in_its_containers() -> None:
    known = clusters.example(Topology.ROUTED)
    numbered = replace(known.networks[NetworkName("blue")], gateway_number=7, uplink=Uplink.HOST)
    state = resolve(known.changed(Revision(2), [numbered]), SITE, [WEB])
    gateway, namespace = IPv4Address("169.254.1.7"), network_namespace(NetworkName("blue"))
    assert Address(namespace, LOOPBACK, IPv4Interface("169.254.1.7/32")) in state
    ways = {item.via for item in state if isinstance(item, Route) and item.ns == WEB.sandbox}
    known_by = {item.address for item in state if isinstance(item, Neighbour) and item.ns == WEB.sandbox}
    assert (ways, known_by) == ({gateway}, {gateway})
    assert {item.via for item in state if isinstance(item, Route) and item.ns == HOST} == {IPv4Address("169.254.1.1")}


def test_a_routed_network_holds_nothing_for_remote_endpoints() -> None:
    assert resolve(clusters.example(Topology.ROUTED, DATABASE), SITE, []) == resolve(
        clusters.example(Topology.ROUTED), SITE, []
    )


def test_a_switched_network_holds_where_each_remote_endpoint_is() -> None:
    with_it, without_it = (
        resolve(clusters.example(Topology.SWITCHED, *endpoints), SITE, []) for endpoints in ([DATABASE], [])
    )
    ns = network_namespace(NetworkName("blue"))
    vx0, br0 = ids.interface_name("vx0"), ids.interface_name("br0")
    assert with_it - without_it == {
        FdbEntry(ns, vx0, DATABASE.mac, IPv4Address("192.0.2.2")),
        BridgeEntry(ns, br0, DATABASE.mac, vx0),
        *(Neighbour(ns, br0, address, DATABASE.mac) for address in DATABASE.addresses),
    }


def test_a_switched_network_floods_to_each_other_host_once() -> None:
    known = clusters.example(Topology.SWITCHED).changed(Revision(2), [clusters.block(2, "10.32.9.0/24")])
    flood = [item for item in resolve(known, SITE, []) if isinstance(item, FdbEntry) and item.mac == FLOOD]
    assert sorted(entry.dst for entry in flood) == [IPv4Address("192.0.2.2"), IPv4Address("192.0.2.3")]


@pytest.mark.parametrize(("topology", "length"), [(Topology.ROUTED, 32), (Topology.SWITCHED, 16)])
def test_a_workload_has_its_address_alone_or_with_the_segments_prefix(topology: Topology, length: int) -> None:
    inside = [item for item in resolve(clusters.example(topology), SITE, [WEB]) if item.ns == WEB.sandbox]
    assert [str(item.address) for item in inside if isinstance(item, Address)] == [f"10.32.0.2/{length}"]


@pytest.mark.parametrize(("topology", "forwards"), [(Topology.ROUTED, True), (Topology.SWITCHED, False)])
def test_only_a_routed_network_forwards_and_filters_by_reverse_path(
    topology: Topology,
    forwards: bool,  # noqa: FBT001 - an expected value
) -> None:
    namespace = next(item for item in resolve(clusters.example(topology), SITE, []) if isinstance(item, Namespace))
    for sysctl in ("net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter"):
        assert ((sysctl, "1") in namespace.sysctls) is forwards


@BOTH
def test_bridge_ports_neither_learn_nor_flood(topology: Topology) -> None:
    links = [item for item in resolve(clusters.example(topology), SITE, [WEB]) if isinstance(item, Link)]
    ports = {link.name: link.port for link in links if link.port}
    assert len(ports) == (2 if topology is Topology.SWITCHED else 0)
    assert not any(port.learning or port.unicast_flood for port in ports.values())
    assert len({link.mac for link in links if link.port}) == len(ports)


def test_a_reserved_address_is_routed_to_its_holders_host_wherever_the_blocks_are() -> None:
    known = clusters.dual(Topology.ROUTED)
    held = clusters.reservation("db", "10.32.9.9,fd00:32:0:9::9", DATABASE)
    free = clusters.reservation("web", "10.32.9.8")
    added = resolve(known.changed(Revision(2), [held, free]), SITE, []) - resolve(known, SITE, [])
    ns, vx0 = network_namespace(NetworkName("blue")), ids.interface_name("vx0")
    assert added == {
        Route(ns, IPv4Network("10.32.9.9/32"), vx0, IPv4Address("169.254.2.2"), 2),
        Route(ns, IPv6Network("fd00:32:0:9::9/128"), vx0, IPv6Address("fe80::6f76:2"), 1024 + 2),
    }


@pytest.mark.parametrize("holder", [WEB, DATABASE])
def test_a_shared_address_is_at_the_member_that_holds_it_and_members_may_speak_for_it(holder: Endpoint) -> None:
    known = clusters.dual(Topology.SWITCHED)
    member = replace(WEB, shares=(ReservationName("vip"),))
    free = replace(clusters.reservation("vip", "10.32.9.9"), shared=True)
    held = replace(clusters.reservation("vip", "10.32.9.9", holder), shared=True)
    others = [clusters.reservation("aa", "10.32.9.7"), clusters.reservation("zz", "10.32.9.8")]
    known = known.changed(Revision(1), others)
    before, after = (resolve(known.changed(Revision(2), [each, DATABASE]), SITE, [member]) for each in (free, held))
    ns = network_namespace(NetworkName("blue"))
    assert after - before == {Neighbour(ns, BRIDGE, IPv4Address("10.32.9.9"), holder.mac)}
    assert not before - after
    (guard,) = (item for item in before if isinstance(item, SourceGuard))
    assert guard.addresses == {*WEB.addresses, IPv4Address("10.32.9.9")}
    own = replace(free, shared=False)
    (guard,) = (
        item for item in resolve(known.changed(Revision(2), [own]), SITE, [member]) if isinstance(item, SourceGuard)
    )
    assert guard.addresses == {*WEB.addresses}


def test_nothing_leads_to_a_shared_address_at_a_host_that_cannot_be_reached() -> None:
    known = clusters.dual(Topology.SWITCHED, DATABASE)
    held = replace(clusters.reservation("vip", "10.32.9.9", DATABASE), shared=True)
    beyond = known.changed(Revision(2), [clusters.host(2, "2001:db8::2")])
    with_it, without_it = (resolve(each, SITE, []) for each in (beyond.changed(Revision(3), [held]), beyond))
    assert with_it == without_it


def test_an_endpoint_that_claims_the_own_address_of_a_host_makes_no_second_entry() -> None:
    blue = replace(clusters.network(topology=Topology.SWITCHED), uplink=Uplink.HOST)
    claimed = IPv4Address("10.32.2.0")
    known = clusters.example(Topology.SWITCHED, clusters.endpoint(2, "thief", str(claimed)))
    state = resolve(known.changed(Revision(2), [blue]), SITE, [])
    assert len({item.key for item in state}) == len(state)
    assert len([item for item in state if isinstance(item, Neighbour) and item.address == claimed]) == 1


@BOTH
def test_a_reservation_that_an_endpoint_of_this_host_holds_changes_nothing(topology: Topology) -> None:
    known = clusters.dual(topology)
    held = known.changed(Revision(2), [clusters.reservation("db", "10.32.0.2", WEB)])
    assert resolve(held, SITE, [WEB]) == resolve(known, SITE, [WEB])


@BOTH
@pytest.mark.parametrize("holder", [DATABASE, None])
def test_an_endpoint_that_lost_its_only_address_is_cut_off_and_nothing_leads_to_it(
    topology: Topology, holder: Endpoint | None
) -> None:
    known = clusters.dual(topology).changed(Revision(2), [clusters.reservation("db", "10.32.0.2", holder)])
    state = resolve(known, SITE, [WEB])
    (link,) = (item for item in state if isinstance(item, Link) and item.name == host_end(WEB.key))
    assert not link.up
    ours = [item for item in state if item.ns == link.ns]
    assert not [item for item in ours if isinstance(item, Neighbour) and item.address == WEB.addresses[0]]
    assert not [item for item in ours if isinstance(item, Route) and item.dev == link.name]


def nameless(item: Item) -> Item:
    """Return an item without what is written on it: a record keeps the addresses that an endpoint lost."""
    return replace(item, alias="") if isinstance(item, Link) else item


@BOTH
def test_an_endpoint_that_lost_one_of_two_addresses_keeps_the_other(topology: Topology) -> None:
    both = clusters.endpoint(1, "web", "10.32.0.2,fd00:32::2")
    known = clusters.dual(topology)
    lost = known.changed(Revision(2), [clusters.reservation("db", "fd00:32::2")])
    alone = replace(both, addresses=both.addresses[:1])
    ns = network_namespace(NetworkName("blue"))
    with_one, with_alone = (
        {nameless(item) for item in resolve(cluster, SITE, [endpoint]) if item.ns == ns}
        for cluster, endpoint in ((lost, both), (known, alone))
    )
    assert with_one == with_alone


def test_whoever_took_an_address_over_has_its_mac_too() -> None:
    here = clusters.endpoint(1, "old", "10.32.0.9")
    there = clusters.endpoint(2, "new", "10.32.0.9")
    moved: list[Record] = [clusters.reservation("db", "10.32.0.9", there), there]
    state = resolve(clusters.example(Topology.SWITCHED).changed(Revision(2), moved), SITE, [here])
    (port,) = (item for item in state if isinstance(item, BridgeEntry) and item.mac == here.mac)
    assert port.dev == "vx0"


@BOTH
def test_a_host_over_the_other_underlay_family_is_left_out(topology: Topology) -> None:
    known = clusters.dual(topology, DATABASE)
    gone = without(known, *(RecordKey.of(record) for record in known.records if is_of_host_2(record)))
    moved = known.changed(Revision(2), [clusters.host(2, "2001:db8::2")])
    assert without_table(resolve(moved, SITE, [])) == without_table(resolve(gone, SITE, []))


def is_of_host_2(record: Record) -> bool:
    return getattr(record, "host", getattr(record, "id", None)) == "host-2"


def without_table(state: State) -> State:
    """Leave out the host's table of VTEPs, which are all that are known."""
    return frozenset(item for item in state if not isinstance(item, NftTable))


def test_two_endpoints_that_claim_one_mac_or_address_make_one_item_each() -> None:
    here, there, elsewhere = (
        replace(clusters.endpoint(number, "moving", "10.32.0.9"), mac=MacAddress("02:00:00:00:00:09"))
        for number in (1, 2, 3)
    )
    known = clusters.example(Topology.SWITCHED, here, elsewhere, there)
    states = [resolve(known, clusters.site(), local) for local in ((), (here,))]
    for state in states:
        assert len({item.key for item in state}) == len(state)
    (entry,) = (item for item in states[0] if isinstance(item, FdbEntry) and item.mac == there.mac)
    assert entry.dst == known.hosts[there.host].address, "one of the two, and always the same one"
    (port,) = (item for item in states[1] if isinstance(item, BridgeEntry) and item.mac == here.mac)
    assert port.dev == host_end(here.key), "what is on this host comes first"


class Read(ByNetwork[EndpointKey, Endpoint]):
    """Endpoints by key, which counts how often those of all networks are read."""

    times = 0

    def values(self) -> ValuesView[Endpoint]:
        self.times += 1
        return super().values()

    def __iter__(self) -> Iterator[EndpointKey]:
        self.times += 1
        return super().__iter__()


@BOTH
def test_the_endpoints_of_each_network_are_read_by_themselves(topology: Topology) -> None:
    networks = [clusters.network(name, topology) for name in clusters.NETWORK_NAMES]
    blocks = [clusters.block(1, "10.32.0.0/24", each.name) for each in networks]
    cluster = clusters.cluster([*networks, clusters.host(1), clusters.host(2), *blocks, DATABASE])
    endpoints = Read(cluster.endpoints.tables)
    assert resolve(replace(cluster, endpoints=endpoints), SITE, [])
    assert endpoints.times == 0


@given(data=st.data())
def test_the_devices_of_one_network_are_those_of_the_whole(data: st.DataObject) -> None:
    known = data.draw(clusters.clusters())
    site = data.draw(clusters.sites(known))
    whole = resolve(known, site, ())
    for name in known.networks:
        found, ns = Desired().devices(name, known, site), network_namespace(name)
        assert found <= whole
        links = (item for item in whole if item.ns == ns and isinstance(item, Namespace | Link))
        assert {item for item in links if not (isinstance(item, Link) and item.name == UPLINK)} == {
            item for item in found if isinstance(item, Namespace | Link)
        }
