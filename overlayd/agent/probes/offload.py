"""The offload probe: whether packets through the tunnel arrive with good checksums, and large segments whole.

Some devices claim to make the checksums and segments of tunnelled packets, and make bad ones: pings pass, and
connections hang. A probe goes through a network to which both hosts have access, and the other host's kernel answers it
by itself.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.probes import remote_kernel
from overlayd.agent.probes.remote_kernel import ProbeRoute
from overlayd.agent.probes.schedule import Schedule
from overlayd.agent.probes.segment import SegmentPath, loses_segments
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.dataplane.desired import uplink
from overlayd.dataplane.desired.resolve import joined, uplink_kinds
from overlayd.dataplane.desired.site import Site
from overlayd.kernel.port import KernelError
from overlayd.model.address import Family
from overlayd.model.cluster import Cluster
from overlayd.model.ids import HostId, NetworkName
from overlayd.model.network import Uplink

if TYPE_CHECKING:
    from overlayd.model.block import Block

_log = structlog.get_logger(__name__)

PACE = 1.0
"""Seconds between two hosts."""

_CONTENT = 20
"""How many intervals a host is left in peace that answered."""


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


def targets(cluster: Cluster, site: Site) -> Iterator[Target]:
    """Yield each host with which this one shares a network to which both have access. Pure."""
    networks = [cluster.networks[name] for name in sorted(joined(cluster, site.host))]
    kinds = uplink_kinds(cluster, site, networks)
    blocks: dict[NetworkName, dict[HostId, list[Block]]] = {}
    for block in cluster.blocks.values():
        blocks.setdefault(block.network, {}).setdefault(block.host, []).append(block)
    found: set[HostId] = {site.host}
    for network in networks:
        if kinds[network.name] is not Uplink.HOST:
            continue
        addresses = {host: uplink.own_addresses(network, held) for host, held in blocks[network.name].items()}
        sources = {Family.of(address): address for address in reversed(addresses[site.host])}
        for host, theirs in sorted(addresses.items()):
            remote = cluster.hosts.get(host)
            target = next((address for address in theirs if Family.of(address) in sources), None)
            if remote and target and host not in found and Family.of(remote.address) is site.underlay:
                found.add(host)
                way = ProbeRoute(sources[Family.of(target)], target)
                yield Target(host, remote.name, SegmentPath(way, uplink.host_device(network.vni), site.mtu))


class OffloadProbe:
    """Probes one host after the other; one that does not answer again after `interval` seconds."""

    def __init__(self, feed: ClusterFeed, reconciler: Reconciler, interval: float) -> None:
        self._feed = feed
        self._reconciler = reconciler
        self._checksums = reconciler.checksums
        self._interval = interval
        self._schedule = Schedule[HostId, Target]()
        self._tried: set[HostId] = set()
        self._known: tuple[Cluster, Site] | None = None

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
        cluster, site = self._feed.cluster, self._reconciler.site and self._reconciler.site.without_endpoints
        if site is None or (self._known and self._known[0].has_hosts_of(cluster) and self._known[1] == site):
            return
        self._known = (cluster, site)
        self._schedule.keep({target.host: target for target in targets(cluster, site)})

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
