"""The reconcile cycle: resolve → observe → diff → plan → apply."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import structlog

from overlayd.agent.backoff import Backoff
from overlayd.agent.changes import Changes
from overlayd.agent.checkpoint import AttachmentRecords
from overlayd.agent.feed import ClusterFeed
from overlayd.agent.kernel_turn import KernelTurn
from overlayd.agent.problem import Problem
from overlayd.dataplane import ownership
from overlayd.dataplane.diff import diff, retain
from overlayd.dataplane.items import HOST, Link, Namespace, NamespaceRef, network_namespace
from overlayd.dataplane.plan import Plan
from overlayd.dataplane.resolve import Site, resolve
from overlayd.kernel.port import Outcome
from overlayd.model.cluster import UNKNOWN, Cluster
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import OverlayError, Unavailable
from overlayd.model.ids import HostId, NetworkName, Revision

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Status:
    """How far this host is: the revision that its kernel matches but for these problems.

    Until `is_pruned` there may be more in the kernel: what is not desired is deleted only when a feed is in sync.
    """

    applied: Revision = UNKNOWN
    problems: tuple[Problem, ...] = ()
    is_pruned: bool = False


@dataclass(frozen=True, slots=True)
class Local:
    """What the settings say of this host. `vxlan_port` is in host byte order, `resync` in seconds."""

    host: HostId
    vxlan_port: int
    resync: float


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan, the networks that it brings into force, and what was wrong already before it."""

    plan: Plan
    networks: frozenset[NetworkName]
    problems: tuple[Problem, ...]


class Reconciler:
    """Makes the kernel match the cluster and the local attachments.

    Woken by a change of either, by a failure (after a growing time), and by a slow periodic resync.
    """

    def __init__(self, turn: KernelTurn, feed: ClusterFeed, records: AttachmentRecords, local: Local) -> None:
        self.status = Status()
        self.reports = Changes()
        self._turn = turn
        self._feed = feed
        self._records = records
        self._local = local
        self._site: Site | None = None
        self._ready: frozenset[NetworkName] = frozenset()

    async def run(self) -> None:
        """Keep the kernel as desired, for ever."""
        backoff = Backoff(shortest=0.2, longest=self._local.resync)
        while True:
            seen = self._feed.changes.count
            status = await self.cycle()
            if status.problems:
                delay = backoff.failed()
            else:
                backoff.succeeded()
                delay = self._local.resync
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._feed.changes.wait(seen)

    async def cycle(self) -> Status:
        """Go through the cycle once; return and keep how far it got."""
        async with self._turn.taken():
            cluster, in_sync = self._feed.cluster, self._feed.in_sync
            try:
                draft = await self._turn.call(self._draft, cluster, may_delete=in_sync)
                outcomes = await self._turn.call(self._turn.kernel.apply, draft.plan)
            except OverlayError as error:
                return self._keep(replace(self.status, problems=(Problem("host", str(error)),)))
            failed = {outcome.op.item.ns for outcome in outcomes if not outcome.done and _is_device(outcome)}
            self._ready = frozenset(name for name in draft.networks if network_namespace(name) not in failed)
        problems = (*draft.problems, *_problems(outcomes, self._places(cluster)))
        return self._keep(Status(cluster.revision, problems, in_sync))

    async def plan(self) -> Plan:
        """Return what the next cycle would execute."""
        async with self._turn.taken():
            draft = await self._turn.call(self._draft, self._feed.cluster, may_delete=self._feed.in_sync)
        return draft.plan

    async def ensure(self, network: NetworkName) -> None:
        """Return when the network's devices are in force on this host; raise `Unavailable` when they cannot be."""
        if network not in self._ready:
            await self.cycle()
        if network not in self._ready:
            reasons = "; ".join(map(str, self.status.problems)) or "it has no block on this host"
            raise Unavailable(f"network {network} is not in force on this host: {reasons}")

    @property
    def mtu(self) -> int:
        """The MTU of the overlay's devices in bytes, as of the last cycle; 0 before the first one."""
        return self._site.mtu if self._site else 0

    def _draft(self, cluster: Cluster, *, may_delete: bool) -> Draft:
        """Resolve, observe and diff."""
        me = cluster.hosts.get(self._local.host)
        present, problems = self._present_endpoints()
        if me:
            self._site = Site(self._local.host, self._turn.kernel.underlay(me.address).mtu, self._local.vxlan_port)
        desired = resolve(cluster, self._site, present) if self._site else frozenset()
        networks = {item.ns for item in desired if isinstance(item, Namespace)}
        names = frozenset(name for name in cluster.networks if network_namespace(name) in networks)
        unknown = Counter(e.network for e in self._records.endpoints if network_namespace(e.network) not in networks)
        problems += [
            Problem(
                f"network {name}", f"not known to the controllers; its {count} endpoints are left as they are", name
            )
            for name, count in unknown.items()
        ]
        kept = {network_namespace(name) for name in unknown}
        observed = self._turn.kernel.observe((self._turn.kernel.namespaces() | networks | {HOST}) - kept)
        if not may_delete:
            desired = retain(desired, observed)
        return Draft(diff(desired, observed), names, tuple(problems))

    def _present_endpoints(self) -> tuple[list[Endpoint], list[Problem]]:
        """Return the endpoints whose sandbox still is the one that they were attached to."""
        present, problems = [], []
        for attachment in self._records.attachments.values():
            endpoint = attachment.endpoint
            if self._turn.kernel.sandbox_id(endpoint.sandbox) == attachment.sandbox_id:
                present.append(endpoint)
            else:
                name = f"endpoint {endpoint.network}/{endpoint.container_id}/{endpoint.interface}"
                reason = f"its sandbox {endpoint.sandbox} is gone; it waits for a DEL"
                problems.append(Problem(name, reason, endpoint.network))
        return present, problems

    def _places(self, cluster: Cluster) -> dict[NamespaceRef, NetworkName | None]:
        """Return the network that each namespace is for; None for a sandbox that is in several."""
        places: dict[NamespaceRef, NetworkName | None] = {network_namespace(name): name for name in cluster.networks}
        for endpoint in self._records.endpoints:
            sandbox = NamespaceRef(endpoint.sandbox)
            places[sandbox] = endpoint.network if places.get(sandbox, endpoint.network) == endpoint.network else None
        return places

    def _keep(self, status: Status) -> Status:
        if status != self.status:
            for problem in set(status.problems) - set(self.status.problems):
                _log.warning("problem", object=problem.object, problem=problem.message)
            for problem in set(self.status.problems) - set(status.problems):
                _log.info("problem is over", object=problem.object, problem=problem.message)
            self.status = status
            self.reports.set()
        return status


def _is_device(outcome: Outcome) -> bool:
    """Tell whether a network cannot carry anything without this operation."""
    item = outcome.op.item
    return isinstance(item, Namespace) or (isinstance(item, Link) and not item.name.startswith(ownership.VETH_PREFIX))


def _problems(outcomes: Iterable[Outcome], places: Mapping[NamespaceRef, NetworkName | None]) -> list[Problem]:
    return [
        Problem(str(outcome.op), str(outcome.error), places.get(outcome.op.item.ns))
        for outcome in outcomes
        if outcome.error
    ]
