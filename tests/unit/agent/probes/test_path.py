"""To which hosts this host probes the way."""

from overlayd.agent.probes.path import ProbedHosts
from overlayd.model.cluster import Cluster, RecordKey
from overlayd.model.host import Host
from overlayd.model.ids import NetworkName, Revision
from overlayd.model.network import Topology
from tests.support.controllers import clusters

NETWORKS = (NetworkName("blue"),)


def probed(cluster: Cluster, networks: tuple[NetworkName, ...] = NETWORKS) -> ProbedHosts:
    found = ProbedHosts()
    found.update(cluster, clusters.site(), networks)
    return found


def test_the_ways_are_those_to_the_other_hosts_of_its_networks() -> None:
    cluster = clusters.example(Topology.ROUTED)
    assert {*probed(cluster).ways} == {"host-2", "host-3"}
    assert not probed(cluster, ()).ways


def test_a_host_that_the_cluster_has_forgotten_has_none() -> None:
    cluster = clusters.example(Topology.ROUTED).changed(Revision(2), (), [RecordKey(Host, clusters.HERE)])
    assert not probed(cluster).ways


def test_another_address_of_this_host_is_the_one_that_probes_are_sent_from() -> None:
    cluster = clusters.example(Topology.ROUTED)
    hosts = probed(cluster)
    moved = clusters.host(1, "192.0.2.77")
    assert hosts.update(cluster.changed(Revision(2), [moved]), clusters.site(), NETWORKS) == frozenset()
    assert {way.own for way in hosts.ways.values()} == {moved}


def test_a_host_is_found_by_the_mac_of_its_tunnel_end_as_long_as_it_is_in_a_network() -> None:
    cluster, second = clusters.example(Topology.ROUTED), clusters.host(2)
    hosts = probed(cluster)
    assert hosts.at(second.vtep.mac) == second
    gone = cluster.changed(Revision(2), (), [RecordKey.of(clusters.block(2, "10.32.1.0/24"))])
    assert hosts.update(gone, clusters.site(), NETWORKS) == {second.id}
    assert hosts.at(second.vtep.mac) is None
    assert hosts.at(clusters.host(3).vtep.mac) == clusters.host(3)
