"""Shared addresses of this host's containers: the member that announces one becomes its holder."""

import asyncio
import contextlib
import socket
from dataclasses import dataclass

import structlog

from overlayd.agent.controllers.client import ControllerClient
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.runtime.backoff import Backoff
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.agent.runtime.signals import Changes
from overlayd.dataplane import ownership
from overlayd.dataplane.items import network_namespace
from overlayd.kernel.packets import announced
from overlayd.kernel.port import KernelError
from overlayd.kernel.spaces.namespaces import Identity, identity
from overlayd.model.address import IpAddress
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import OverlayError
from overlayd.model.ids import MacAddress, NetworkName
from overlayd.model.reservation import Holder, Reservation, ReservationKey, shared_addresses

_log = structlog.get_logger(__name__)

INTERVAL = 1.0
"""Seconds between two looks at where is to be listened, at most."""

PACE = 0.2
"""Seconds from one look at what was heard in a network to the next: a member may announce what it likes."""

_AT_ONCE = 32
"""Frames that one look takes; the kernel's queue drops what is too much."""

REPEAT = 2.0
"""Seconds between the two announcements of an address (RFC 5227 section 1.1: ANNOUNCE_INTERVAL, ANNOUNCE_NUM)."""

PATIENCE = 30.0
"""Seconds for which a claim is repeated. Later it would be old news: another member may have taken over long ago."""

_FRAME_MAX = 256


@dataclass(frozen=True, slots=True)
class _Ear:
    """A socket at the bridge of a network's namespace, and the addresses whose announcements it receives."""

    namespace: Identity
    addresses: frozenset[IpAddress]
    sock: socket.socket


@dataclass(frozen=True, slots=True)
class _Announcement:
    """An announcement of a member, and the time of the event loop until which it is worth a claim."""

    member: Endpoint
    expires: float


class SharedAddresses:
    """Receives announcements of members on this host, claims for them, and announces to the other hosts' containers."""

    def __init__(
        self,
        turn: KernelTurn,
        client: ControllerClient,
        feed: ClusterFeed,
        records: AttachmentRecords,
        reconciler: Reconciler,
    ) -> None:
        self._turn = turn
        self._client = client
        self._feed = feed
        self._records = records
        self._reconciler = reconciler
        self._ears: dict[NetworkName, _Ear] = {}
        self._members: dict[tuple[NetworkName, MacAddress, IpAddress], tuple[Endpoint, Reservation]] = {}
        self._announced: dict[ReservationKey, _Announcement] = {}
        self._heard = Changes()

    async def run(self, attachments: Changes) -> None:
        """Listen and claim, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(attachments), name="shared addresses: listen")
            tasks.create_task(self._claim(tasks), name="shared addresses: claim")

    async def _listen(self, attachments: Changes) -> None:
        wake = Changes(attachments, self._feed.changes, self._reconciler.reports)
        try:
            while True:
                seen = wake.count
                self._know_members()
                await self._open()
                await asyncio.sleep(PACE)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(INTERVAL):
                        await wake.wait(seen)
        finally:
            for name in list(self._ears):
                self._close(name)

    def _know_members(self) -> None:
        reservations = self._feed.cluster.reservations
        self._members = {
            (endpoint.network, endpoint.mac, address): (endpoint, reservation)
            for endpoint in self._records.endpoints
            if endpoint.shares
            for address, reservation in shared_addresses(endpoint, reservations).items()
        }

    async def _open(self) -> None:
        """Listen for every address that a member on this host may announce, and not in a deleted namespace.

        An open socket would keep a deleted namespace alive: it is closed at the next look.
        """
        wanted: dict[NetworkName, set[IpAddress]] = {}
        for network, _, address in self._members:
            wanted.setdefault(network, set()).add(address)
        for name, ear in list(self._ears.items()):
            with contextlib.suppress(KernelError):  # it cannot be looked at: it stays as it is
                found = identity(network_namespace(name))
                if ear.addresses != frozenset(wanted.get(name, ())) or found != ear.namespace:
                    self._close(name)
        for name in wanted.keys() - self._ears.keys():
            ns, addresses = network_namespace(name), frozenset(wanted[name])
            with contextlib.suppress(KernelError):  # it went in between, or its bridge is yet to come
                if (found := identity(ns)) is None:
                    continue
                sock = await self._turn.call(announced.receiving, ns, ownership.BRIDGE, addresses)
                self._ears[name] = _Ear(found, addresses, sock)
                asyncio.get_running_loop().add_reader(sock, self._hear, name, sock)

    def _close(self, name: NetworkName) -> None:
        ear = self._ears.pop(name)
        asyncio.get_running_loop().remove_reader(ear.sock)
        ear.sock.close()

    def _hear(self, name: NetworkName, sock: socket.socket) -> None:
        """Read announcements; then leave the socket alone for a moment, so that no member can keep the agent busy."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        loop.call_later(PACE, self._listen_on, name, sock)
        for _ in range(_AT_ONCE):
            try:
                frame = sock.recv(_FRAME_MAX)
            except BlockingIOError:
                return
            except OSError:  # the bridge went down, or is gone: another one may come
                self._close(name)
                return
            mac, address = announced.announced(frame)
            if known := self._members.get((name, mac, address)):
                member, reservation = known
                self._announced[reservation.key] = _Announcement(member, loop.time() + PATIENCE)
                self._heard.set()

    def _listen_on(self, name: NetworkName, sock: socket.socket) -> None:
        ear = self._ears.get(name)
        if ear is not None and ear.sock is sock:
            asyncio.get_running_loop().add_reader(sock, self._hear, name, sock)

    async def _claim(self, tasks: asyncio.TaskGroup) -> None:
        """Claim what members announced, one after another, the newest announcement of each address, until cancelled."""
        backoff = Backoff()
        while True:
            seen = self._heard.count
            failed = None
            for key, announcement in list(self._announced.items()):
                try:
                    claimed = await self._claimed(key, announcement.member)
                except OverlayError as error:
                    failed = error
                    self._forget_if_old(key, announcement, error)
                    continue
                if self._announced.get(key) is announcement:
                    del self._announced[key]
                if claimed is not None:
                    tasks.create_task(self._tell(claimed, announcement.member), name=f"shared address {key[1]}")
            if failed is None:
                backoff.succeeded()
                await self._heard.wait(seen)
            else:
                await asyncio.sleep(backoff.after(failed))

    async def _claimed(self, key: ReservationKey, member: Endpoint) -> Reservation | None:
        """Claim a reservation for a member; None when either no longer exists.

        The present holder claims it too: another member may have taken it, and the feed not shown that yet.
        """
        reservation = self._feed.cluster.reservations.get(key)
        if reservation is None or not reservation.shared or member.key not in self._records.attachments:
            return None
        await self._client.claim_reservation(reservation, Holder.of(member.key))
        return reservation

    def _forget_if_old(self, key: ReservationKey, announcement: _Announcement, error: OverlayError) -> None:
        if self._announced.get(key) is announcement and announcement.expires <= asyncio.get_running_loop().time():
            del self._announced[key]
            _log.warning(
                "a shared address stays where it was: announce it again when controllers answer",
                network=key[0],
                reservation=key[1],
                reason=str(error),
            )

    async def _tell(self, reservation: Reservation, member: Endpoint) -> None:
        """Announce to the containers of other hosts, twice: the bridge forwards no announcement to the tunnel."""
        ns = network_namespace(member.network)
        for pause in (0.0, REPEAT):
            await asyncio.sleep(pause)
            if pause and not self._is_held(reservation.key, member):
                return
            async with self._turn.taken():
                try:
                    await self._turn.call(
                        self._turn.kernel.announce, ns, ownership.VXLAN, member.mac, reservation.addresses
                    )
                except KernelError as error:
                    _log.warning("a shared address is not announced", problem=str(error), network=member.network)

    def _is_held(self, key: ReservationKey, member: Endpoint) -> bool:
        reservation = self._feed.cluster.reservations.get(key)
        return reservation is not None and reservation.holder == Holder.of(member.key)
