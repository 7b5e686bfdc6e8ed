"""To which hosts this host probes the way."""

from overlayd.agent.probes.path import ProbedHosts
from overlayd.model.cluster import RecordKey
from overlayd.model.host import Host
from overlayd.model.ids import NetworkName, Revision
from overlayd.model.network import Topology
from tests.support.controllers import clusters

NETWORKS = (NetworkName("blue"),)


def test_the_ways_are_those_to_the_other_hosts_of_its_networks() -> None:
    cluster = clusters.example(Topology.ROUTED)
    assert {*ProbedHosts(cluster, clusters.site(), NETWORKS).ways} == {"host-2", "host-3"}
    assert not ProbedHosts(cluster, clusters.site(), ()).ways


def test_a_host_that_the_cluster_has_forgotten_has_none() -> None:
    cluster = clusters.example(Topology.ROUTED).changed(Revision(2), (), [RecordKey(Host, clusters.HERE)])
    assert not ProbedHosts(cluster, clusters.site(), NETWORKS).ways
