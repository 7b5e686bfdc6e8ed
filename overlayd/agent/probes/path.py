"""The path probe: whether packets of full size reach the other hosts of this host's networks.

Where the underlay carries less than the MTU of its devices, small packets arrive and large ones do not: connections
open, and hang at the first large answer.
"""

import asyncio
import contextlib
import errno
import secrets
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.controllers.problem import Problem
from overlayd.agent.probes.schedule import Schedule
from overlayd.agent.probes.shared_hosts import SharedHosts
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.dataplane.desired.site import Site
from overlayd.dataplane.items import NamespaceRef, network_namespace
from overlayd.dataplane.probe import SMALLEST, Probe, ProbeKind, decode, encode
from overlayd.kernel.packets import probe_socket
from overlayd.kernel.port import KernelError
from overlayd.kernel.spaces.namespaces import Identity, identity
from overlayd.model.address import Family
from overlayd.model.block import Block
from overlayd.model.cluster import Cluster
from overlayd.model.host import Host
from overlayd.model.ids import HostId, MacAddress, NetworkName
from overlayd.model.network import Network

INTERVAL = 1.0
"""Seconds between two looks at what is to be probed."""

_PATIENCE = 1.0
_TRIES = 3
_AT_ONCE = 8
_FRAME_MAX = 1 << 16


class PathState(Enum):
    """The known state of a path. The value is the number of seconds for which it holds."""

    WIDE = 600.0
    NARROW = 15.0
    SILENT = 300.0


@dataclass(frozen=True, slots=True)
class ProbedWay:
    """A path to another host; another address or size makes another path. `own` is this host."""

    own: Host = field(compare=False)
    remote: Host
    network: Network
    size: int


@dataclass(frozen=True, slots=True)
class Tunnel:
    """From this host to another one, in a network that both are in."""

    own: Host
    remote: Host
    network: Network
    site: Site

    def send(self, kind: ProbeKind, nonce: bytes, size: int) -> None:
        """Send a probe in an IP packet of this size in bytes; one that the device itself does not take is lost.

        Raises `KernelError` when this host's address is gone, there is no route, or descriptors or memory are short.
        """
        probe = Probe(kind, nonce, self.own.vtep.mac, self.remote.vtep.mac)
        payload = encode(probe, self.network.vni, self.site.underlay, size)
        with contextlib.closing(probe_socket.sending(self.own.address)) as sock:
            try:
                sock.sendto(payload, (str(self.remote.address), self.site.vxlan_port))
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise KernelError.of(error, f"probe to {self.remote.address}") from error


class ProbedHosts:
    """The ways to the other hosts of this host's networks; none when the cluster has forgotten this host."""

    def __init__(self) -> None:
        self._shared = SharedHosts[ProbedWay]()
        self._by_mac: dict[MacAddress, Host] = {}
        self._cluster = Cluster()
        self._basis: tuple[object, ...] = ()

    @property
    def ways(self) -> Mapping[HostId, ProbedWay]:
        """The ways by their hosts: another object after a change."""
        return self._shared.values

    def at(self, mac: MacAddress) -> Host | None:
        """Return the host whose tunnel end has this MAC."""
        return self._by_mac.get(mac)

    def update(self, cluster: Cluster, site: Site, networks: tuple[NetworkName, ...]) -> frozenset[HostId]:
        """Determine the ways in a cluster; return the hosts to which another way leads than before, or none."""
        basis = (networks, site.host, site.underlay, site.underlay_mtu)
        if basis == self._basis and self._cluster.has_hosts_of(cluster):
            return frozenset()
        self._cluster, self._basis = cluster, basis
        own = cluster.hosts.get(site.host)
        records = tuple(cluster.networks.get(name) for name in networks)

        def way(name: NetworkName, remote: Host, _: tuple[Block, ...]) -> ProbedWay | None:
            if own is None or remote.id == own.id or Family.of(remote.address) is not site.underlay:
                return None
            return ProbedWay(own, remote, cluster.networks[name], site.underlay_mtu)

        before = self.ways
        changed = self._shared.update(cluster, networks, (own, records, site.underlay, site.underlay_mtu), way)
        for host in changed & before.keys():
            self._by_mac.pop(before[host].remote.vtep.mac, None)
        for host in changed & self.ways.keys():
            self._by_mac[self.ways[host].remote.vtep.mac] = self.ways[host].remote
        return changed


class PathProbe:
    """Probes each path when it is new and again at intervals, and answers the probes of other hosts."""

    def __init__(self, turn: KernelTurn, feed: ClusterFeed, reconciler: Reconciler, host: HostId) -> None:
        self._turn = turn
        self._feed = feed
        self._reconciler = reconciler
        self._host = host
        self._ears: dict[NamespaceRef, tuple[Identity, socket.socket]] = {}
        self._schedule = Schedule[HostId, ProbedWay]()
        self._narrow: dict[HostId, ProbedWay] = {}
        self._waiting: dict[bytes, asyncio.Future[None]] = {}
        self._hosts = ProbedHosts()

    async def run(self) -> None:
        """Probe until cancelled."""
        now = asyncio.get_running_loop().time
        try:
            while True:
                await asyncio.sleep(INTERVAL)
                site = self._reconciler.site
                if site is None or not self._feed.in_sync:
                    continue
                await self._listen()
                ways = self._ways(site)
                while self._ways(self._reconciler.site or site) is ways:
                    if not (due := self._schedule.take(now(), _AT_ONCE)):
                        break
                    part = [(host, ways[host]) for host in due]
                    paths = await asyncio.gather(*(self._path(way, site) for _, way in part))
                    self._note(part, paths, now())
        finally:
            for ns in list(self._ears):
                self._stop_listening(ns)

    def _ways(self, site: Site) -> Mapping[HostId, ProbedWay]:
        """Return the ways to the other hosts of this host's networks as they are now."""
        changed = self._hosts.update(self._feed.cluster, site, self._reconciler.networks)
        ways = self._hosts.ways
        if ways is not self._schedule.values:
            self._schedule.keep(ways, changed)
            self._tell({host: way for host, way in self._narrow.items() if ways.get(host) == way})
        return ways

    def _note(self, probed: Iterable[tuple[HostId, ProbedWay]], paths: Iterable[PathState | None], now: float) -> None:
        """Record the states of paths, and when to probe each again; None: this host could not try it."""
        narrow = dict(self._narrow)
        for (host, way), path in zip(probed, paths, strict=True):
            self._schedule.again(host, way, now + (path.value if path else INTERVAL))
            if path is PathState.NARROW:
                narrow[host] = way
            elif path:
                narrow.pop(host, None)
        self._tell(narrow)

    async def _path(self, way: ProbedWay, site: Site) -> PathState | None:
        """Probe a path and return its state; None when this host itself could not try it."""
        tunnel = Tunnel(way.own, way.remote, way.network, site)
        try:
            if not await self._is_answered(tunnel, SMALLEST):
                return PathState.SILENT
            return PathState.WIDE if await self._is_answered(tunnel, way.size) else PathState.NARROW
        except KernelError as error:
            # Otherwise the address or the route is gone, which is reported where it matters.
            return None if error.is_shortage else PathState.SILENT

    async def _is_answered(self, tunnel: Tunnel, size: int) -> bool:
        for _ in range(_TRIES):
            nonce = secrets.token_bytes(8)
            answer = self._waiting[nonce] = asyncio.get_running_loop().create_future()
            try:
                tunnel.send(ProbeKind.REQUEST, nonce, size)
                async with asyncio.timeout(_PATIENCE):
                    await answer
            except TimeoutError:
                continue
            finally:
                del self._waiting[nonce]
            return True
        return False

    async def _listen(self) -> None:
        """Listen in every network that is in force, and not in a deleted namespace."""
        wanted = {network_namespace(name): name for name in self._reconciler.networks}
        for ns in self._ears.keys() - wanted.keys():
            self._stop_listening(ns)
        for ns, name in wanted.items():
            # What cannot be looked at stays as it is until the next time; the reconciler reports why.
            with contextlib.suppress(KernelError):
                found = identity(ns)
                if ns in self._ears and self._ears[ns][0] != found:
                    self._stop_listening(ns)
                if found and ns not in self._ears:
                    sock = await self._turn.call(probe_socket.receiving, ns)
                    self._ears[ns] = (found, sock)
                    asyncio.get_running_loop().add_reader(sock, self._receive, sock, name)

    def _stop_listening(self, ns: NamespaceRef) -> None:
        _, sock = self._ears.pop(ns)
        asyncio.get_running_loop().remove_reader(sock)
        sock.close()

    def _receive(self, sock: socket.socket, name: NetworkName) -> None:
        try:
            probe = decode(sock.recv(_FRAME_MAX))
        except OSError:  # nothing there after all, or its device is gone
            return
        cluster, site = self._feed.cluster, self._reconciler.site
        own, network = cluster.hosts.get(self._host), cluster.networks.get(name)
        if probe is None or site is None or own is None or network is None or probe.destination != own.vtep.mac:
            return
        if probe.kind is ProbeKind.REPLY:
            answer = self._waiting.get(probe.nonce)
            if answer and not answer.done():
                answer.set_result(None)
            return
        self._ways(site)
        if remote := self._hosts.at(probe.source):
            with contextlib.suppress(KernelError):  # without an address there is nothing to answer from
                Tunnel(own, remote, network, site).send(ProbeKind.REPLY, probe.nonce, SMALLEST)

    def _tell(self, narrow: dict[HostId, ProbedWay]) -> None:
        """Report the paths on which packets of full size are lost, if they have changed."""
        if narrow == self._narrow:
            return
        self._narrow = narrow
        self._reconciler.notice(
            "path",
            tuple(
                Problem(
                    f"host {way.remote.name}",
                    f"packets of {way.size} bytes do not reach {way.remote.address}, smaller ones do: the underlay"
                    " between is narrower than this host's device; raise its MTU, or lower the device's",
                    way.network.name,
                )
                for way in narrow.values()
            ),
        )
