"""The offload probe: whether packets through the tunnel arrive with good checksums, and large segments whole.

Some devices claim to make the checksums and segments of tunnelled packets, and make bad ones: pings pass, and
connections hang. A probe goes through a network to which both hosts have access, and the other host's kernel answers it
by itself.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import structlog

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.probes import remote_kernel
from overlayd.agent.probes.remote_kernel import ProbeRoute
from overlayd.agent.probes.schedule import Schedule
from overlayd.agent.probes.segment import SegmentPath, loses_segments
from overlayd.agent.probes.shared_hosts import SharedHosts
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.dataplane.desired import uplink
from overlayd.dataplane.desired.resolve import Membership
from overlayd.dataplane.desired.site import Site
from overlayd.kernel.port import KernelError
from overlayd.model.address import Family, IpAddress
from overlayd.model.block import Block
from overlayd.model.cluster import Cluster
from overlayd.model.host import Host
from overlayd.model.ids import HostId, NetworkName
from overlayd.model.network import Network, Uplink

_log = structlog.get_logger(__name__)

PACE = 1.0
"""Seconds between two hosts."""

_CONTENT = 20
"""How many intervals pass until a host that answered is probed again."""


@dataclass(frozen=True, slots=True)
class Target:
    """Another host, its display name, and a route to it."""

    host: HostId
    name: str
    path: SegmentPath

    @property
    def way(self) -> ProbeRoute:
        """Its two ends."""
        return self.path.way


class Targets:
    """The hosts with which this one shares a network to which both have access."""

    def __init__(self) -> None:
        self._shared = SharedHosts[Target]()
        self._membership = Membership()
        self._cluster = Cluster()
        self._basis: tuple[object, ...] = ()

    @property
    def values(self) -> Mapping[HostId, Target]:
        """The targets by their hosts."""
        return self._shared.values

    def update(self, cluster: Cluster, site: Site, kinds: Mapping[NetworkName, Uplink]) -> frozenset[HostId]:
        """Determine the targets in a cluster; return the hosts whose target has changed or is gone.

        `kinds` are those of this host's uplinks; a network that has none is one without access.
        """
        basis = (site, kinds)
        if self._basis == basis and self._cluster.has_hosts_of(cluster):
            return frozenset()
        self._cluster, self._basis = cluster, basis
        self._membership = self._membership.of(cluster, site.host)
        own = self._membership.blocks
        networks = {name: cluster.networks[name] for name in sorted(own)}
        sources = {name: _sources(network, own[name]) for name, network in networks.items()}

        def target(name: NetworkName, remote: Host, blocks: tuple[Block, ...]) -> Target | None:
            network, ours = networks[name], sources[name]
            if remote.id == site.host or kinds.get(name) is not Uplink.HOST:
                return None
            theirs = uplink.own_addresses(network, blocks)
            address = next((address for address in theirs if Family.of(address) in ours), None)
            if address is None or Family.of(remote.address) is not site.underlay:
                return None
            path = SegmentPath(ProbeRoute(ours[Family.of(address)], address), uplink.host_device(network.vni), site.mtu)
            return Target(remote.id, remote.name, path)

        context = (networks, {name: kinds.get(name) for name in networks}, sources, site.underlay, site.mtu)
        return self._shared.update(cluster, tuple(networks), context, target)


def _sources(network: Network, blocks: Iterable[Block]) -> Mapping[Family, IpAddress]:
    """Return this host's own address in a network, the first one of each family."""
    return {Family.of(address): address for address in reversed(uplink.own_addresses(network, blocks))}


class OffloadProbe:
    """Probes one host after the other; one that does not answer again after `interval` seconds."""

    def __init__(self, feed: ClusterFeed, reconciler: Reconciler, interval: float) -> None:
        self._feed = feed
        self._reconciler = reconciler
        self._checksums = reconciler.checksums
        self._interval = interval
        self._schedule = Schedule[HostId, Target]()
        self._tried: set[HostId] = set()
        self._targets = Targets()

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            await asyncio.sleep(PACE)
            if target := self._next():
                try:
                    await self._examine(target)
                except KernelError:  # this host cannot ask now: nothing is known of the other one
                    self._schedule.again(target.host, target, asyncio.get_running_loop().time() + self._interval)

    def _next(self) -> Target | None:
        """Return the next host to probe: one that was never probed on this route, or the one that waits longest."""
        self._look()
        due = self._schedule.take(asyncio.get_running_loop().time(), 1)
        return self._schedule.values[due[0]] if due else None

    def _look(self) -> None:
        """Determine the targets again if their inputs have changed; endpoints and reservations do not matter."""
        if (site := self._reconciler.site) is None:
            return
        changed = self._targets.update(self._feed.cluster, site.without_endpoints, self._reconciler.uplinks)
        if self._targets.values is not self._schedule.values:
            self._schedule.keep(self._targets.values, changed)

    async def _examine(self, target: Target) -> None:
        answers = await remote_kernel.echoes(target.way)
        if answers and await _is_spoilt(target):
            await self._try_software(target)
        self._checksums.was_probed(target.host)
        patience = self._interval * (_CONTENT if answers else 1)
        self._schedule.again(target.host, target, asyncio.get_running_loop().time() + patience)

    async def _try_software(self, target: Target) -> None:
        """Let this kernel do the work, and keep that only if the other host then gets what it lacked."""
        if self._checksums.in_software or target.host in self._tried:
            return
        self._tried.add(target.host)
        await self._let_kernel(make_them=True)
        try:
            spoilt = await _is_spoilt(target)
        except KernelError:
            self._tried.discard(target.host)
            await self._let_kernel(make_them=False)
            raise
        if not spoilt:
            _log.warning(
                "the underlay's device makes bad checksums or segments of what is in the tunnel; the kernel makes them "
                "from now on",
                found_with=target.name,
            )
        else:
            await self._let_kernel(make_them=False)

    async def _let_kernel(self, *, make_them: bool) -> None:
        try:
            self._checksums.let_kernel(make_them=make_them)
        except OSError as error:
            _log.warning("cannot remember how checksums are made", problem=str(error))
            return
        await self._reconciler.cycle()


async def _is_spoilt(target: Target) -> bool:
    """Return whether a host that answers pings does not get what needs checksums or segments."""
    return not await remote_kernel.refuses(target.way) or await loses_segments(target.path)
