"""What attachments do in the kernel beside the cycle: news of another network finds whatever of it went wrong."""

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from overlayd.dataplane.items import Neighbour, network_namespace
from overlayd.dataplane.ownership import BRIDGE
from overlayd.kernel.port import KernelError
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.ids import Revision
from overlayd.model.network import Topology, Uplink
from tests.support.agents.lone_host import GREEN, LoneHost, asked, named, sandbox_of
from tests.support.controllers import clusters

RED = replace(clusters.network("red", Topology.SWITCHED, cidr="10.96.0.0/24", block_length=29), uplink=Uplink.NONE)
REMOTE = clusters.endpoint(2, "moved", "10.96.0.3", "red")
"""It has an address of this host's block, as while a reservation or a block goes from one host to another."""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LoneHost]:
    made = LoneHost(tmp_path)
    made.kernel.add_sandbox(sandbox_of("web"))
    made.feed.in_sync = True
    hear(made, clusters.host(2), RED, clusters.block(1, "10.96.0.0/29", "red"), REMOTE)
    made.run(made.reconciler.cycle())
    yield made
    made.close()


def hear(host: LoneHost, *puts: Record, deletes: tuple[RecordKey, ...] = ()) -> None:
    host.feed.cluster = host.feed.cluster.changed(Revision(host.feed.cluster.revision + 1), puts, deletes)


def wake(host: LoneHost, *puts: Record) -> None:
    """Go through the cycle as after news of another network."""
    hear(host, *puts)
    status = host.run(host.reconciler.cycle(host.reconciler.drift.take()))
    assert status.problems == ()


def test_a_refused_attachment_takes_nothing_of_others_with_it(host: LoneHost) -> None:
    neighbour = Neighbour(network_namespace(RED.name), BRIDGE, REMOTE.addresses[0], REMOTE.mac)
    assert not host.kernel.missing(frozenset({neighbour}))
    with pytest.raises(KernelError):
        host.run(host.attachments.attach(asked("web", RED.name)))
    wake(host, clusters.block(2, "10.64.0.8/29", "green"))
    assert not host.kernel.missing(frozenset({neighbour}))


def test_what_a_refused_detachment_removed_is_made_again(host: LoneHost) -> None:
    hear(host, deletes=(RecordKey.of(REMOTE),))
    host.run(host.reconciler.cycle())
    host.run(host.attachments.attach(asked("web", RED.name)))
    host.run(host.reconciler.cycle())
    host.kernel.fail_next(errno.ENOBUFS)
    with pytest.raises(KernelError):
        host.run(host.attachments.detach(named("web", RED.name)))
    assert host.records.endpoints
    wake(host, clusters.block(2, "10.64.0.8/29", "green"))
    assert str(host.run(host.reconciler.plan())) == ""


def test_the_network_of_the_last_container_goes_when_no_controller_knows_it(host: LoneHost) -> None:
    host.run(host.attachments.attach(asked("web", GREEN)))
    hear(host, deletes=(RecordKey.of(host.feed.cluster.networks[GREEN]),))
    host.run(host.reconciler.cycle(host.reconciler.drift.take()))
    host.run(host.attachments.detach(named("web", GREEN)))
    wake(host, clusters.block(2, "10.96.0.8/29", "red"))
    assert network_namespace(GREEN) not in host.kernel.namespaces()
