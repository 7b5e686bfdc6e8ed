"""Finding out whether packets of full size get from this host to the others that share a network with it.

Where the underlay carries less than its devices say, small packets arrive and large ones do not: connections open, and
stand still with the first large answer.
"""

import asyncio
import contextlib
import errno
import secrets
import socket
from collections.abc import Container
from dataclasses import dataclass
from enum import Enum

from overlayd.agent.feed import ClusterFeed
from overlayd.agent.kernel_turn import KernelTurn
from overlayd.agent.problem import Problem
from overlayd.agent.reconcile import Reconciler
from overlayd.dataplane.items import NamespaceRef, network_namespace
from overlayd.dataplane.probe import SMALLEST, Kind, Probe, decode, encode
from overlayd.dataplane.resolve import Site
from overlayd.kernel import probe_socket
from overlayd.kernel.namespaces import Identity, identity
from overlayd.kernel.port import KernelError
from overlayd.model.address import Family
from overlayd.model.cluster import Cluster
from overlayd.model.host import Host
from overlayd.model.ids import HostId, NetworkName
from overlayd.model.network import Network

INTERVAL = 1.0
"""Seconds between two looks at what is to be probed."""

_PATIENCE = 1.0
_TRIES = 3
_AT_ONCE = 8
_FRAME_MAX = 1 << 16


class Path(Enum):
    """What is known of a way. The value is for how many seconds it holds."""

    WIDE = 600.0
    NARROW = 15.0
    SILENT = 300.0


@dataclass(frozen=True, slots=True)
class Way:
    """A way to another host; one with another address or size is another way."""

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

    def send(self, kind: Kind, nonce: bytes, size: int) -> None:
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


class Surroundings:
    """The other hosts of this host's networks."""

    def __init__(self, cluster: Cluster, site: Site, networks: tuple[NetworkName, ...]) -> None:
        self.cluster = cluster
        self.site = site
        self.networks = networks
        ours, found = set(networks), dict[HostId, Way]()
        for block in cluster.blocks.values():
            remote = cluster.hosts.get(block.host)
            if block.network not in ours or remote is None or remote.id == site.host or remote.id in found:
                continue
            if Family.of(remote.address) is site.underlay:
                found[remote.id] = Way(remote, cluster.networks[block.network], site.underlay_mtu)
        self.ways = dict.fromkeys(found.values())
        self.by_mac = {way.remote.vtep.mac: way.remote for way in self.ways}


class PathProbe:
    """Probes each way when it is new, and again from time to time, and answers the probes of others."""

    def __init__(self, turn: KernelTurn, feed: ClusterFeed, reconciler: Reconciler, host: HostId) -> None:
        self._turn = turn
        self._feed = feed
        self._reconciler = reconciler
        self._host = host
        self._ears: dict[NamespaceRef, tuple[Identity, socket.socket]] = {}
        self._known: dict[Way, tuple[Path, float]] = {}
        self._waiting: dict[bytes, asyncio.Future[None]] = {}
        self._last: Surroundings | None = None

    async def run(self) -> None:
        """Probe for ever."""
        now = asyncio.get_running_loop().time
        try:
            while True:
                await asyncio.sleep(INTERVAL)
                site = self._reconciler.site
                if site is None or not self._feed.in_sync:
                    continue
                await self._listen()
                ways = self._surroundings(site).ways
                due = [way for way in ways if way not in self._known or self._known[way][1] <= now()]
                for start in range(0, len(due), _AT_ONCE):
                    part = due[start : start + _AT_ONCE]
                    paths = await asyncio.gather(*(self._path(way, site) for way in part))
                    tried = ((way, path) for way, path in zip(part, paths, strict=True) if path)
                    self._known |= {way: (path, now() + path.value) for way, path in tried}
                    self._tell(ways)
        finally:
            for ns in list(self._ears):
                self._stop_listening(ns)

    def _surroundings(self, site: Site) -> Surroundings:
        """Return the other hosts of this host's networks, looked for anew when something of it has changed."""
        cluster, networks = self._feed.cluster, self._reconciler.networks
        known = self._last
        if (
            known is None
            or not known.cluster.has_records_of(cluster)
            or (known.site, known.networks) != (site, networks)
        ):
            known = self._last = Surroundings(cluster, site, networks)
        return known

    async def _path(self, way: Way, site: Site) -> Path | None:
        """Return what a way is like; None when this host itself could not try it."""
        tunnel = Tunnel(self._feed.cluster.hosts[self._host], way.remote, way.network, site)
        try:
            if not await self._is_answered(tunnel, SMALLEST):
                return Path.SILENT
            return Path.WIDE if await self._is_answered(tunnel, way.size) else Path.NARROW
        except KernelError as error:
            # Otherwise the address or the route is gone, which is reported where it matters.
            return None if error.is_shortage else Path.SILENT

    async def _is_answered(self, tunnel: Tunnel, size: int) -> bool:
        for _ in range(_TRIES):
            nonce = secrets.token_bytes(8)
            answer = self._waiting[nonce] = asyncio.get_running_loop().create_future()
            try:
                tunnel.send(Kind.REQUEST, nonce, size)
                async with asyncio.timeout(_PATIENCE):
                    await answer
            except TimeoutError:
                continue
            finally:
                del self._waiting[nonce]
            return True
        return False

    async def _listen(self) -> None:
        """Listen in every network that is in force, and in no namespace that is gone."""
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
        if probe.kind is Kind.REPLY:
            answer = self._waiting.get(probe.nonce)
            if answer and not answer.done():
                answer.set_result(None)
        elif remote := self._surroundings(site).by_mac.get(probe.source):
            with contextlib.suppress(KernelError):  # without an address there is nothing to answer from
                Tunnel(own, remote, network, site).send(Kind.REPLY, probe.nonce, SMALLEST)

    def _tell(self, ways: Container[Way]) -> None:
        """Report the ways on which packets of full size get lost."""
        self._known = {way: known for way, known in self._known.items() if way in ways}
        self._reconciler.notice(
            tuple(
                Problem(
                    f"host {way.remote.name}",
                    f"packets of {way.size} bytes do not reach {way.remote.address}, smaller ones do: the underlay"
                    " between is narrower than this host's device; raise its MTU, or lower the device's",
                    way.network.name,
                )
                for way, (path, _) in self._known.items()
                if path is Path.NARROW
            )
        )
