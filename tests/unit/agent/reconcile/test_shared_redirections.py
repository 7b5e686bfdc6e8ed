"""Containers whose ports are published at the same time share one change of the tables, and each may count on it."""

import asyncio
import errno
from dataclasses import replace
from pathlib import Path

import pytest

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.reconcile.checksums import Checksums
from overlayd.agent.reconcile.controller_addresses import ControllerAddresses
from overlayd.agent.reconcile.local import Local
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.dataplane.desired.firewall import Metadata
from overlayd.dataplane.items import NftTable, network_namespace
from overlayd.kernel.port import KernelError, Surroundings
from overlayd.model.network import Network, Uplink
from overlayd.model.published_port import PortMapping, TransportProtocol
from tests.support.agents.loopback import claims_of, client_of, unused_url
from tests.support.controllers import clusters
from tests.support.kernel.fake_kernel import FakeKernel

pytestmark = pytest.mark.anyio

NETWORKS = {
    number: replace(clusters.network(name, cidr=f"10.{number}.0.0/16"), uplink=Uplink.ISOLATED)
    for number, name in enumerate(("blue", "green", "red"), 32)
}
BLOCKS = [clusters.block(1, f"10.{number}.0.0/24", each.name) for number, each in NETWORKS.items()]
PORT = PortMapping(TransportProtocol.TCP, 8080, 80)


class StumblingKernel(FakeKernel):
    """Fails the next look at the host, once."""

    stumbles = False

    def surroundings(self) -> Surroundings:
        if self.stumbles:
            self.stumbles = False
            raise KernelError(errno.ENOBUFS, "netlink answer lost")
        return super().surroundings()


def publish(kernel: FakeKernel, records: AttachmentRecords, number: int) -> None:
    """Record a container of a network with a port, to which nothing leads yet."""
    endpoint = clusters.endpoint(1, f"c{number}", f"10.{number}.0.5", NETWORKS[number].name)
    kernel.add_sandbox(endpoint.sandbox)
    found = kernel.sandbox_id(endpoint.sandbox)
    assert found
    records.put(Attachment(endpoint, found, (replace(PORT, host_port=8000 + number),)))


def leads_in(kernel: FakeKernel, network: Network) -> bool:
    """Tell whether the tables of a network's namespace lead to a container."""
    found = kernel.observe({network_namespace(network.name)})
    return any(isinstance(item, NftTable) and " dnat ip to " in item.text for item in found)


async def test_a_change_that_fails_is_made_by_the_next_one_for_all_who_wait(tmp_path: Path) -> None:
    kernel, records = StumblingKernel(), AttachmentRecords(tmp_path / "attachments")
    turn = KernelTurn(kernel)
    controllers = ControllerAddresses(["http://192.0.2.250:7471"], tmp_path / "controllers.json")
    local = Local(clusters.HERE, 4789, 3600, frozenset(), controllers, Metadata.REFUSED)
    cluster = clusters.cluster([clusters.host(1), *NETWORKS.values(), *BLOCKS])
    async with client_of(await unused_url()) as client:
        feed = ClusterFeed(client, cluster, claims_of(client))
        reconciler = Reconciler(turn, feed, records, Checksums(tmp_path / "checksums"), local)
        await reconciler.cycle()
        async with turn.taken():
            for number in NETWORKS:
                publish(kernel, records, number)
            waiting = [asyncio.create_task(reconciler.redirect(each.name, turn.taken)) for each in NETWORKS.values()]
            await asyncio.sleep(0)
            kernel.stumbles = True
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in outcomes] == [KernelError, type(None), type(None)]
    assert all(leads_in(kernel, each) for each in NETWORKS.values())
    turn.close()
