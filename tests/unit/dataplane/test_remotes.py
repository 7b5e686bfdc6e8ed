"""What other hosts add to a network is kept host by host, and what two of them claim is told apart."""

from dataclasses import replace
from ipaddress import IPv4Address

from overlayd.dataplane.desired.remotes import EntryClaims
from overlayd.dataplane.desired.resolve import Desired, resolve
from overlayd.dataplane.items import FLOOD, FdbEntry
from overlayd.dataplane.ownership import VXLAN
from overlayd.model.cluster import RecordKey
from overlayd.model.ids import HostNumber, Revision
from overlayd.model.network import Topology
from tests.support.controllers import clusters

_TWO, _THREE = HostNumber(2), HostNumber(3)


def test_a_claim_contested_from_the_second_one_on_until_the_last_but_one_is_gone() -> None:
    both = EntryClaims().changed([], [_TWO, _THREE, _TWO, _TWO])
    assert both.contested == 1
    assert both.changed([_TWO], []).contested == 1
    assert both.changed([_TWO, _TWO], []).contested == 0
    assert both.changed([_TWO, _TWO, _THREE], [_THREE]).contested == 0
    assert both.contested == 1, "it is a value"


def test_a_tunnel_end_that_two_hosts_announce_stays_when_one_of_them_goes() -> None:
    """One has given its address up to the other, and is not told yet."""
    shared = IPv4Address("192.0.2.3")
    moved = replace(clusters.host(2), address=shared)
    cluster = clusters.example(Topology.SWITCHED).changed(Revision(2), [moved])
    before = Desired().of(cluster, clusters.site(), [])
    flood = {item for item in before.state if isinstance(item, FdbEntry) and item.mac == FLOOD}
    assert {(item.dev, item.dst) for item in flood} == {(VXLAN, shared)}
    gone = cluster.changed(Revision(3), (), [RecordKey.of(clusters.block(2, "10.32.1.0/24"))])
    after = before.of(gone, clusters.site(), [])
    assert flood <= after.state
    assert after.state == resolve(gone, clusters.site(), [])


def test_only_the_host_that_was_touched_has_another_part() -> None:
    cluster, name = clusters.example(Topology.ROUTED), clusters.network().name
    before = Desired().of(cluster, clusters.site(), [])
    more = cluster.changed(Revision(2), [clusters.block(2, "10.32.9.0/24")])
    first, then = before.parts[name], before.of(more, clusters.site(), []).parts[name]
    second, third = clusters.host(2).id, clusters.host(3).id
    assert then.others.parts[second].items != first.others.parts[second].items
    assert then.others.parts[third] is first.others.parts[third]
    assert then.own is first.own
