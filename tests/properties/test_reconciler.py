"""A reconciler on a kernel in memory, while the cluster, containers, other programs and failures change things."""

import asyncio
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from errno import EBUSY, ENOBUFS, ENOMEM
from ipaddress import IPv4Address
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from overlayd.agent.controllers.client import ControllerClient, Controllers
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.reconcile.checksums import Checksums
from overlayd.agent.reconcile.controller_addresses import ControllerAddresses
from overlayd.agent.reconcile.local import Local
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.dataplane.desired.endpoint import host_end
from overlayd.dataplane.desired.firewall import Metadata
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.diff import diff, retirement
from overlayd.dataplane.items import HOST, Bridge, Item, Link, Namespace, Neighbour, State, Sysctl, network_namespace
from overlayd.model.cluster import Cluster, Record, RecordKey
from overlayd.model.ids import InterfaceName, MacAddress, NetworkName, Revision
from overlayd.model.network import Network, Topology, Uplink
from overlayd.model.reservation import Holder
from tests.support.agents.loopback import IDENTITY, claims_of
from tests.support.controllers import clusters
from tests.support.kernel.fake_kernel import FakeKernel

NAMES = st.sampled_from(clusters.NETWORK_NAMES)
REMOTES = st.integers(2, 4)
CONTAINERS = st.integers(1, 3)
_SECOND_OCTETS = {"blue": 32, "green": 64, "red": 96}
_TUNNEL, _MAC = InterfaceName("tun7"), MacAddress("02:ff:00:00:00:01")


def _range(name: str) -> str:
    return f"10.{_SECOND_OCTETS[name]}"


class ReconcilerMachine(RuleBasedStateMachine):
    """What happens around one host, `clusters.HERE`."""

    def __init__(self) -> None:
        super().__init__()
        self._closing = ExitStack()
        self._directory = Path(self._closing.enter_context(tempfile.TemporaryDirectory()))
        self._runner = self._closing.enter_context(asyncio.Runner())
        self.kernel = FakeKernel()
        self.records = AttachmentRecords(self._directory / "attachments")
        self.foreign: set[Item] = set()
        self.may_fail = False

    @initialize()
    def begin(self) -> None:
        members = [clusters.host(number) for number in range(1, 5)]
        self._start(clusters.cluster(members))

    def _start(self, cluster: Cluster) -> None:
        client = ControllerClient(Controllers(["http://127.0.0.1:9"]), IDENTITY, None)
        self._closing.callback(lambda: self._runner.run(client.close()))
        self.feed = ClusterFeed(client, cluster, claims_of(client))
        self.turn, self.reconciler = self._reconciler()

    def _reconciler(self) -> tuple[KernelTurn, Reconciler]:
        """Return a reconciler that has looked at nothing yet."""
        turn = KernelTurn(self.kernel)
        self._closing.callback(turn.close)
        controllers = ControllerAddresses(["http://192.0.2.250:7471"], self._directory / "controllers.json")
        local = Local(clusters.HERE, 4789, 3600, frozenset(), controllers, Metadata.REFUSED)
        return turn, Reconciler(turn, self.feed, self.records, Checksums(self._directory / "checksums"), local)

    def teardown(self) -> None:
        self._closing.close()

    # The cluster.

    def _hear(self, *puts: Record, deletes: tuple[RecordKey, ...] = ()) -> None:
        self.feed.cluster = self.feed.cluster.changed(Revision(self.feed.cluster.revision + 1), puts, deletes)

    @rule(name=NAMES, topology=st.sampled_from(Topology), kind=st.sampled_from(Uplink))
    def network_comes(self, name: str, topology: Topology, kind: Uplink) -> None:
        made = replace(clusters.network(name, topology, f"{_range(name)}.0.0/16"), uplink=kind)
        own = clusters.block(1, f"{_range(name)}.1.0/24", name)
        there = self.feed.cluster.networks.get(made.name)
        gone = (RecordKey.of(there),) if there and there.topology is not topology else ()
        self._hear(made, own, deletes=gone)

    @rule(name=NAMES)
    def network_goes(self, name: str) -> None:
        self._hear(deletes=(RecordKey(Network, NetworkName(name)),))

    @rule(number=REMOTES, name=NAMES, second=st.booleans(), comes=st.booleans())
    def block_comes_or_goes(self, number: int, name: str, *, second: bool, comes: bool) -> None:
        block = clusters.block(number, f"{_range(name)}.{number + 8 * second}.0/24", name)
        if comes and block.network in self.feed.cluster.networks:
            self._hear(block)
        else:
            self._hear(deletes=(RecordKey.of(block),))

    @rule(number=REMOTES, address=st.sampled_from(["192.0.2.{}", "198.51.100.{}", "2001:db8::{}", None]))
    def host_moves_or_goes(self, number: int, address: str | None) -> None:
        if address:
            self._hear(clusters.host(number, address.format(number)))
        else:
            self._hear(deletes=(RecordKey.of(clusters.host(number)),))

    @rule(number=REMOTES, name=NAMES, container=CONTAINERS, comes=st.booleans(), clashes=st.booleans())
    def remote_endpoint_comes_or_goes(
        self, number: int, name: str, container: int, *, comes: bool, clashes: bool
    ) -> None:
        third = 1 if clashes else number
        endpoint = clusters.endpoint(number, f"r{container}", f"{_range(name)}.{third}.{container + 4}", name)
        if comes and endpoint.network in self.feed.cluster.networks:
            self._hear(endpoint)
        else:
            self._hear(deletes=(RecordKey.of(endpoint),))

    @rule(number=st.integers(1, 4), name=NAMES, container=CONTAINERS, comes=st.booleans())
    def reservation_comes_or_goes(self, number: int, name: str, container: int, *, comes: bool) -> None:
        holder = clusters.endpoint(number, f"c{container}", f"{_range(name)}.1.{container + 4}", name)
        made = replace(clusters.reservation("held", str(holder.addresses[0]), None, name), holder=Holder.of(holder.key))
        if comes and made.network in self.feed.cluster.networks:
            self._hear(made)
        else:
            self._hear(deletes=(RecordKey.of(made),))

    # Containers.

    @rule(name=NAMES, container=CONTAINERS, at_once=st.booleans())
    def container_is_attached(self, name: str, container: int, *, at_once: bool) -> None:
        endpoint = clusters.endpoint(1, f"c{container}", f"{_range(name)}.1.{container + 4}", name)
        endpoint = replace(endpoint, interface=InterfaceName(f"eth{clusters.NETWORK_NAMES.index(name)}"))
        if endpoint.key in self.records.attachments or endpoint.network not in self.reconciler.networks:
            return
        if self.kernel.sandbox_id(endpoint.sandbox) is None:
            self.kernel.add_sandbox(endpoint.sandbox)
        found = self.kernel.sandbox_id(endpoint.sandbox)
        assert found
        before = self.records.endpoints
        self.records.put(Attachment(endpoint, found))
        site, cluster = self.reconciler.site, self.feed.cluster
        if at_once and site:
            # As an ADD does it: without the reconciler's knowledge.
            plan = diff(resolve(cluster, site, [*before, endpoint]), resolve(cluster, site, before))
            self.kernel.apply(plan)

    @precondition(lambda self: self.records.endpoints)
    @rule(data=st.data(), dies=st.booleans())
    def container_is_detached(self, data: st.DataObject, *, dies: bool) -> None:
        endpoint = data.draw(st.sampled_from(self.records.endpoints))
        if dies:
            self.kernel.remove_sandbox(endpoint.sandbox)
            for each in self.records.endpoints:
                if each.sandbox == endpoint.sandbox:
                    self.records.remove(each.key)
            return
        end = self.kernel.link(network_namespace(endpoint.network), host_end(endpoint.key))
        if end:
            hanging = frozenset(item for item in self._observed() if getattr(item, "dev", None) == end.name)
            self.kernel.apply(retirement(hanging | {end}))
        self.records.remove(endpoint.key)

    # Others, and failures.

    @rule(data=st.data())
    def something_is_removed_by_hand(self, data: st.DataObject) -> None:
        ours = sorted(self._observed(), key=repr)
        item = data.draw(st.sampled_from(ours))
        self.kernel.remove_by_hand(item)
        if isinstance(item, Namespace):
            self.foreign = {each for each in self.foreign if each.ns != item.ns}

    @rule(name=NAMES)
    def others_make_something(self, name: str) -> None:
        ns = network_namespace(NetworkName(name))
        if ns in self.kernel.namespaces() and _TUNNEL not in self.kernel.devices(ns):
            items = (
                Link(ns, _TUNNEL, Bridge(), _MAC, 1500),
                Neighbour(ns, _TUNNEL, IPv4Address("198.18.0.1"), _MAC),
            )
            for item in items:
                self.kernel.add_foreign(item)
                self.foreign.add(item)

    @rule(code=st.sampled_from([EBUSY, ENOBUFS, ENOMEM]))
    def the_next_operation_fails(self, code: int) -> None:
        self.kernel.fail_next(code)
        self.may_fail = True

    @rule()
    def agent_restarts(self) -> None:
        self.turn.close()
        self._start(self.feed.cluster)

    @rule()
    def feed_is_in_sync(self) -> None:
        self.feed.in_sync = True

    # The reconciler.

    @rule()
    def agent_wakes(self) -> None:
        """Go through the cycle as `Reconciler.run` does when the feed or the kernel has news."""
        before, was_whole = self._keys(), not self.may_fail
        self._runner.run(self._wake())
        if was_whole and not self.feed.in_sync:
            assert before <= self._keys(), "nothing is deleted before in-sync"

    @rule()
    def agent_looks_everywhere(self) -> None:
        self._runner.run(self.reconciler.cycle())

    @rule()
    def all_is_quiet(self) -> None:
        self._runner.run(self._wake())
        if self.may_fail:
            self._runner.run(self.reconciler.cycle())  # the retry
            self.may_fail = False
        assert str(self._runner.run(self.reconciler.plan())) == ""
        _, fresh = self._reconciler()
        assert str(self._runner.run(fresh.plan())) == "", "what was kept of earlier looks makes a difference"
        if self.feed.in_sync:
            assert {network_namespace(name) for name in fresh.networks} <= self.kernel.namespaces()

    async def _wake(self) -> None:
        self.reconciler.drift.suspect(self.kernel.changed())
        await self.reconciler.cycle(self.reconciler.drift.take())

    @invariant()
    def foreign_state_is_left_alone(self) -> None:
        there = self.kernel.namespaces()
        self.foreign = {item for item in self.foreign if item.ns in there}
        assert self.kernel.missing(frozenset(self.foreign)) == frozenset()

    def _observed(self) -> State:
        return self.kernel.observe(self.kernel.namespaces() | {HOST})

    def _keys(self) -> set[tuple[object, ...]]:
        return {item.key for item in self._observed() if not isinstance(item, Sysctl)}


def test_the_kernel_follows_whatever_happens() -> None:
    few = settings(max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(ReconcilerMachine, settings=few)
