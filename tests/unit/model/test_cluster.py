"""A cluster is a value: a change returns another one and leaves the first as it was."""

from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlayd.model.block import Block
from overlayd.model.cluster import UNKNOWN, Cluster, Record, RecordKey, differing
from overlayd.model.endpoint import Endpoint
from overlayd.model.host import Host
from overlayd.model.ids import HostId, NetworkName, Revision
from overlayd.model.lineage import Lineage
from overlayd.model.network import Network, Topology
from tests.support.controllers import clusters

BLUE, GREEN = clusters.network("blue"), clusters.network("green")
HOST = clusters.host(1)
BLOCK = clusters.block(1, "10.32.0.0/24")
ENDPOINT = clusters.endpoint(1, "web", "10.32.0.5")
EVERYTHING: tuple[Record, ...] = (BLUE, HOST, BLOCK, ENDPOINT)


def test_a_new_cluster_knows_nothing() -> None:
    assert (Cluster().revision, Cluster().records) == (UNKNOWN, ())


@pytest.mark.parametrize(
    ("record", "kind", "key"),
    [
        (BLUE, Network, "blue"),
        (HOST, Host, "host-1"),
        (BLOCK, Block, ("blue", IPv4Network("10.32.0.0/24"))),
        (ENDPOINT, Endpoint, ("blue", "host-1", "web", "eth0")),
    ],
)
def test_a_record_is_known_by_its_key(record: Record, kind: type[Record], key: object) -> None:
    assert (RecordKey.of(record).kind, RecordKey.of(record).key) == (kind, key)
    there = Cluster().changed(Revision(1), [record])
    assert there.records == (record,)
    assert there.changed(Revision(2), deletes=[RecordKey.of(record)]).records == ()


def test_networks_and_hosts_come_before_what_refers_to_them() -> None:
    assert clusters.cluster(reversed(EVERYTHING)).records == EVERYTHING


def test_a_change_leaves_the_cluster_it_began_with() -> None:
    before = clusters.cluster(EVERYTHING, revision=3)
    after = before.changed(Revision(4), [GREEN], [RecordKey.of(ENDPOINT)])
    assert (before.revision, before.records) == (3, EVERYTHING)
    assert (after.revision, after.records) == (4, (BLUE, GREEN, HOST, BLOCK))


def test_a_put_replaces_the_record_with_its_key() -> None:
    moved = clusters.host(1, "198.51.100.1")
    assert clusters.cluster(EVERYTHING).changed(Revision(2), [moved]).hosts == {HostId("host-1"): moved}


def test_a_deleted_network_takes_its_blocks_and_endpoints_with_it() -> None:
    green = clusters.block(1, "10.32.0.0/24", "green")
    left = clusters.cluster([*EVERYTHING, GREEN, green]).changed(Revision(2), deletes=[RecordKey.of(BLUE)])
    assert left.records == (GREEN, HOST, green)


def test_a_network_made_anew_in_one_change_has_only_its_new_blocks() -> None:
    again, moved = clusters.network("blue", Topology.SWITCHED), clusters.block(2, "10.32.1.0/24")
    left = clusters.cluster(EVERYTHING).changed(Revision(2), [again, moved], [RecordKey.of(BLUE)])
    assert left.records == (again, HOST, moved)


def test_a_deleted_host_leaves_what_refers_to_it() -> None:
    left = clusters.cluster(EVERYTHING).changed(Revision(2), deletes=[RecordKey.of(HOST)])
    assert left.records == (BLUE, BLOCK, ENDPOINT)


def test_one_change_may_delete_several_records_and_bring_some_of_them_back() -> None:
    before = clusters.cluster(clusters.host(number) for number in range(1, 5))
    deletes = [RecordKey.of(clusters.host(number)) for number in (1, 2, 2, 3)]
    after = before.changed(Revision(2), [clusters.host(3)], deletes)
    assert after.records == (clusters.host(4), clusters.host(3))


def test_a_put_that_is_undone_later_in_the_change_does_not_stay() -> None:
    moved, back = clusters.host(1, "198.51.100.1"), clusters.host(1)
    assert clusters.cluster([back]).changed(Revision(2), [moved, back]).records == (back,)


def test_a_change_stays_in_the_lineage() -> None:
    known = replace(clusters.cluster(EVERYTHING), lineage=Lineage.founded())
    assert known.changed(Revision(2), [GREEN]).lineage == known.lineage


def test_deleting_what_is_gone_changes_the_revision_only() -> None:
    gone = [RecordKey.of(GREEN), RecordKey.of(clusters.block(9, "10.32.9.0/24"))]
    left = clusters.cluster(EVERYTHING).changed(Revision(2), deletes=gone)
    assert (left.revision, left.records) == (2, EVERYTHING)


def test_blocks_of_a_host_come_by_address() -> None:
    mine = [clusters.block(1, f"10.32.{third}.0/24") for third in (10, 2, 1)]
    others = [clusters.block(2, "10.32.0.0/24"), clusters.block(1, "10.32.0.0/24", "green")]
    held = clusters.cluster([BLUE, GREEN, *mine, *others]).blocks_of(NetworkName("blue"), HostId("host-1"))
    assert [str(block.cidr) for block in held] == ["10.32.1.0/24", "10.32.2.0/24", "10.32.10.0/24"]


def test_a_clusters_tables_cannot_be_changed() -> None:
    networks = clusters.cluster(EVERYTHING).networks
    with pytest.raises(TypeError):
        networks[GREEN.name] = GREEN  # type: ignore[index]


def test_a_change_leaves_the_tables_alone_that_it_does_not_touch() -> None:
    before = clusters.example(Topology.SWITCHED)
    after = before.changed(Revision(2), [clusters.endpoint(1, "web", "10.32.0.5")])
    assert after.has_hosts_of(before)
    assert not after.has_records_of(before)
    assert not before.changed(Revision(2), [clusters.host(9)]).has_hosts_of(before)


def test_a_change_of_one_network_leaves_the_tables_of_the_others_alone() -> None:
    green = clusters.block(1, "10.32.0.0/24", "green")
    before = clusters.cluster([*EVERYTHING, GREEN, green])
    after = before.changed(Revision(2), [clusters.block(2, "10.32.1.0/24", "green")], [RecordKey.of(ENDPOINT)])
    assert after.blocks.of(BLUE.name) is before.blocks.of(BLUE.name)
    assert len(after.blocks.of(GREEN.name)) == 2
    assert after.endpoints.of(BLUE.name) == {}
    assert after.endpoints.of(BLUE.name) is after.endpoints.of(GREEN.name), "neither has any"


def test_what_is_known_already_is_no_change() -> None:
    before = clusters.cluster(EVERYTHING)
    again: list[Record] = [clusters.network("blue"), clusters.host(1), clusters.block(1, "10.32.0.0/24"), ENDPOINT]
    unknown = [RecordKey.of(GREEN), RecordKey.of(clusters.endpoint(1, "unknown", "10.32.0.9"))]
    after = before.changed(Revision(2), again, unknown)
    assert after.revision == 2
    assert after.has_records_of(before)


def test_records_of_all_networks_read_as_one_table() -> None:
    green = clusters.block(1, "10.32.0.0/24", "green")
    blocks = clusters.cluster([*EVERYTHING, GREEN, green]).blocks
    assert dict(blocks) == {BLOCK.key: BLOCK, green.key: green}
    assert list(blocks.values()) == [BLOCK, green]
    assert dict(blocks.items()) == dict(blocks)
    assert (len(blocks), blocks[green.key], blocks.get(BLOCK.key)) == (2, green, BLOCK)
    assert green.key in blocks
    assert (NetworkName("red"), green.cidr) not in blocks
    assert blocks.get((NetworkName("red"), green.cidr)) is None


KEYS = st.lists(st.integers(0, 7), unique=True)


@given(KEYS, KEYS)
def test_what_differs_between_two_tables_is_what_only_one_of_them_has(before: list[int], after: list[int]) -> None:
    records = [clusters.host(1) for _ in range(8)]  # equal, and yet not the same
    gone, come = differing({key: records[key] for key in before}, {key: records[key] for key in after})
    assert [id(each) for each in gone] == [id(records[key]) for key in before if key not in after]
    assert [id(each) for each in come] == [id(records[key]) for key in after if key not in before]


def test_a_table_does_not_differ_from_itself() -> None:
    table = {1: HOST}
    assert differing(table, table) == ([], [])
