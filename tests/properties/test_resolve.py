"""Resolving what has changed gives what resolving everything gives, and leaves the rest as it was."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from overlayd.dataplane.desired.resolve import Desired, resolve
from overlayd.dataplane.items import HOST, network_namespace
from overlayd.model.block import Block
from overlayd.model.cluster import Cluster, Record, RecordKey, differing
from overlayd.model.endpoint import Endpoint
from overlayd.model.host import Host
from overlayd.model.ids import HostNumber, MacAddress, NetworkName, ReservationName, Revision
from overlayd.model.network import Network, Topology, Uplink
from overlayd.model.reservation import Holder, Reservation
from tests.support.controllers import clusters
from tests.support.controllers.clusters import Scene, scenes

_BLUE = NetworkName("blue")
_OTHERS = range(1, 5)
_CIDRS = [IPv4Network(f"10.32.{third}.0/24") for third in range(5)]
_ADDRESSES = [IPv4Address(f"10.32.{third}.5") for third in range(5)]
_MACS = [MacAddress(f"02:00:00:00:00:0{last}") for last in range(1, 4)]


def _network() -> st.SearchStrategy[Network]:
    return st.builds(
        lambda topology, uplink: replace(clusters.network(topology=topology), uplink=uplink),
        st.sampled_from(Topology),
        st.sampled_from([Uplink.NONE, Uplink.AUTO]),
    )


def _host() -> st.SearchStrategy[Host]:
    """One of a few hosts at one of fewer addresses: two of them may be at one, and have one number."""
    return st.builds(
        lambda number, last, other: replace(clusters.host(number, f"192.0.2.{last}"), number=HostNumber(other)),
        st.sampled_from(_OTHERS),
        st.integers(1, 3),
        st.sampled_from(_OTHERS),
    )


def _block() -> st.SearchStrategy[Block]:
    return st.builds(
        lambda number, cidr: clusters.block(number, str(cidr)), st.sampled_from(_OTHERS), st.sampled_from(_CIDRS)
    )


def _endpoint(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[Endpoint]:
    """An endpoint on one of these hosts that may have the address and the MAC of another one."""
    return st.builds(
        lambda number, name, address, mac, shares: replace(
            clusters.endpoint(number, f"c{number}-{name}", str(address)), mac=mac, shares=shares
        ),
        numbers,
        st.integers(1, 2),
        st.sampled_from(_ADDRESSES),
        st.sampled_from(_MACS),
        st.sampled_from([(), (ReservationName("r1"),)]),
    )


def _reservation() -> st.SearchStrategy[Reservation]:
    return st.builds(
        lambda name, address, holder, shared: Reservation(
            _BLUE,
            ReservationName(name),
            (address,),
            holder=Holder.of(holder.key) if holder else None,
            shared=shared,
        ),
        st.sampled_from(["r1", "r2"]),
        st.sampled_from(_ADDRESSES),
        st.none() | _endpoint(st.sampled_from(_OTHERS)),
        st.booleans(),
    )


_RECORDS: st.SearchStrategy[Record] = st.one_of(_host(), _block(), _endpoint(st.sampled_from(_OTHERS)), _reservation())


@given(_network(), st.lists(_RECORDS, max_size=12), st.lists(_endpoint(st.just(1)), max_size=2), st.data())
def test_it_gives_the_same_where_hosts_and_endpoints_claim_the_same(
    network: Network, records: list[Record], local: list[Endpoint], data: st.DataObject
) -> None:
    """Numbers, tunnel ends, MACs and addresses that two have, reservations that move, and several revisions at once."""
    mine: list[Record] = [clusters.host(1), clusters.block(1, "10.32.0.0/24")]
    cluster = clusters.cluster([network, *mine, *records])
    site, desired = clusters.site(), Desired()
    for burst in data.draw(st.lists(st.lists(_RECORDS | _network(), max_size=4), max_size=5)):
        desired = desired.of(cluster, site, local)
        assert desired.state == resolve(cluster, site, local)
        for change in burst:
            deletes = [RecordKey.of(change)] if data.draw(st.booleans()) and not isinstance(change, Network) else []
            is_put = not deletes or data.draw(st.booleans())
            cluster = cluster.changed(Revision(cluster.revision + 1), [change] if is_put else [], deletes)
        local = data.draw(st.just(local) | st.lists(_endpoint(st.just(1)), max_size=2))
    desired = desired.of(cluster, site, local)
    assert desired.state == resolve(cluster, site, local)


@given(st.lists(st.integers(0, 9), unique=True), st.lists(st.integers(0, 9), unique=True))
def test_what_differs_between_two_tables_is_found_wherever_it_is(before: list[int], after: list[int]) -> None:
    objects = [object() for _ in range(10)]
    gone, come = differing({key: objects[key] for key in before}, {key: objects[key] for key in after})
    assert set(gone) == {objects[key] for key in set(before) - set(after)}
    assert set(come) == {objects[key] for key in set(after) - set(before)}


@given(st.lists(scenes(), min_size=2, max_size=4))
def test_it_does_not_matter_what_was_resolved_before(one_after_the_other: list[Scene]) -> None:
    desired = Desired()
    for scene in one_after_the_other:
        desired = desired.of(scene.cluster, scene.site, scene.endpoints)
        assert desired.state == resolve(scene.cluster, scene.site, scene.endpoints)


@given(scenes(), scenes(), st.data())
def test_records_that_come_and_go_one_by_one_give_the_same(first: Scene, second: Scene, data: st.DataObject) -> None:
    cluster, site, endpoints = first.cluster, first.site, first.endpoints
    desired = Desired().of(cluster, site, endpoints)
    changes: list[Record | RecordKey] = [*second.cluster.records, *map(RecordKey.of, cluster.records)]
    for change in data.draw(st.lists(st.sampled_from(changes), max_size=8)):
        puts, deletes = ([], [change]) if isinstance(change, RecordKey) else ([change], [])
        cluster = cluster.changed(Revision(cluster.revision + 1), puts, deletes)
        desired = desired.of(cluster, site, endpoints)
        assert desired.state == resolve(cluster, site, endpoints)


@given(scenes(), st.randoms(use_true_random=False))
def test_a_cluster_that_grows_from_nothing_gives_the_same(scene: Scene, order: Random) -> None:
    """As on a new host: other hosts are known before its first network, which then must admit them as VTEPs."""
    cluster, desired = Cluster(), Desired()
    for record in (*scene.cluster.hosts.values(), *order.sample(scene.cluster.records, len(scene.cluster.records))):
        cluster = cluster.changed(Revision(cluster.revision + 1), [record])
        desired = desired.of(cluster, scene.site, scene.endpoints)
        assert desired.state == resolve(cluster, scene.site, scene.endpoints)


@given(scenes(), st.data())
def test_each_key_is_claimed_once_though_endpoints_have_the_same_mac(scene: Scene, data: st.DataObject) -> None:
    there = list(scene.cluster.endpoints.values())
    same = st.sampled_from([MacAddress("02:00:00:00:00:01"), MacAddress("02:00:00:00:00:02"), None])
    macs = {each.key: data.draw(same) or each.mac for each in (*there, *scene.endpoints)}
    cluster = scene.cluster.changed(Revision(9), [replace(each, mac=macs[each.key]) for each in there])
    local = [replace(each, mac=macs[each.key]) for each in scene.endpoints]
    state = resolve(cluster, scene.site, local)
    assert len({item.key for item in state}) == len(state)


@given(scenes(), st.data())
def test_a_change_of_one_network_leaves_the_spaces_of_the_others_alone(scene: Scene, data: st.DataObject) -> None:
    before = Desired().of(scene.cluster, scene.site, scene.endpoints)
    blocks = [block for block in scene.cluster.blocks.values() if block.host != scene.site.host]
    if not blocks:
        return
    gone = data.draw(st.sampled_from(blocks))
    after = before.of(scene.cluster.changed(Revision(9), (), [RecordKey.of(gone)]), scene.site, scene.endpoints)
    changed = {ns for ns in before.spaces.keys() | after.spaces.keys() if before.spaces[ns] is not after.spaces[ns]}
    assert {ns for ns in changed if not ns.startswith("/run/netns/host-1")} <= {network_namespace(gone.network)}
    assert after.spaces.get(HOST) is before.spaces.get(HOST)
