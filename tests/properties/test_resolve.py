"""Resolving what has changed gives what resolving everything gives, and leaves the rest as it was."""

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from overlayd.dataplane.desired.resolve import Desired, resolve
from overlayd.dataplane.items import HOST, network_namespace
from overlayd.model.cluster import Cluster, Record, RecordKey
from overlayd.model.ids import MacAddress, Revision
from tests.support.controllers.clusters import Scene, scenes


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
