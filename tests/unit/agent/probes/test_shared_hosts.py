"""The hosts with which this one shares networks: determined where something changed, and the same as from nothing."""

from hypothesis import given
from hypothesis import strategies as st

from overlayd.agent.probes.shared_hosts import SharedHosts
from overlayd.model.block import Block
from overlayd.model.cluster import Cluster, Record, RecordKey
from overlayd.model.host import Host
from overlayd.model.ids import NetworkName, Revision
from tests.support.controllers import clusters

ORDERS = [tuple(map(NetworkName, names)) for names in (["blue", "green"], ["green", "blue"], ["blue"], [])]
CIDRS = ["10.32.0.0/24", "10.32.1.0/24", "10.64.0.0/24"]
RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(clusters.block, st.integers(1, 3), st.sampled_from(CIDRS), st.sampled_from(["blue", "green"])),
    st.builds(clusters.host, st.integers(1, 3), st.sampled_from([None, "192.0.2.9"])),
)

Shared = SharedHosts[tuple[str, Host, tuple[Block, ...]]]


def update(shared: Shared, cluster: Cluster, order: tuple[NetworkName, ...], asked: list[str]) -> frozenset[str]:
    """Update with blocks as values; of host 3 there is nothing in `green`."""

    def make(name: NetworkName, host: Host, blocks: tuple[Block, ...]) -> tuple[str, Host, tuple[Block, ...]] | None:
        asked.append(host.id)
        return None if (name, host.id) == ("green", "host-3") else (name, host, blocks)

    return frozenset(shared.update(cluster, order, "context", make))


@given(st.lists(st.tuples(RECORDS, st.booleans(), st.sampled_from(ORDERS)), max_size=15))
def test_it_does_not_matter_what_was_known_before(changes: list[tuple[Record, bool, tuple[NetworkName, ...]]]) -> None:
    shared, cluster = Shared(), clusters.cluster([clusters.network("blue"), clusters.network("green")])
    for record, is_deleted, order in changes:
        deletes = [RecordKey.of(record)] if is_deleted else []
        cluster = cluster.changed(Revision(cluster.revision + 1), [] if is_deleted else [record], deletes)
        before, fresh = dict(shared.values), Shared()
        changed = update(shared, cluster, order, [])
        update(fresh, cluster, order, [])
        assert shared.values == fresh.values
        assert changed == {host for host in {*before, *fresh.values} if before.get(host) != fresh.values.get(host)}


def test_only_hosts_that_something_changed_of_are_asked_for() -> None:
    held = [clusters.block(number, f"10.32.{number}.0/24") for number in (1, 2, 3)]
    cluster = clusters.cluster([clusters.network("blue"), *map(clusters.host, (1, 2, 3)), *held])
    shared, first, then = Shared(), list[str](), list[str]()
    update(shared, cluster, ORDERS[2], first)
    values = shared.values
    update(shared, cluster.changed(Revision(2), [clusters.block(2, "10.32.9.0/24")]), ORDERS[2], then)
    assert (first, then) == (["host-1", "host-2", "host-3"], ["host-2"])
    assert shared.values is not values
    assert (
        update(shared, cluster.changed(Revision(3), [clusters.block(2, "10.32.9.0/24")]), ORDERS[2], []) == frozenset()
    )
