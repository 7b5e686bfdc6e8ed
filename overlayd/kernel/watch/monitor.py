"""Notices changes that others make to what is ours.

A notification is only a reason to observe, and carries no state. Notifications that were queued before a namespace is
observed are discarded, because the observation includes their changes.
"""

import errno
import os
import select
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

from overlayd.dataplane.items import HOST, NETWORK_NAMESPACES, Item, NamespaceRef, NftTable
from overlayd.kernel.netlink.decoding import link_reading, sysctl_reading
from overlayd.kernel.netlink.rtnetlink import RTM_NEWLINK, RTM_NEWNETCONF
from overlayd.kernel.packets import socket_filter
from overlayd.kernel.port import KernelError, Outcome, translated
from overlayd.kernel.spaces import sysctls
from overlayd.kernel.spaces.namespace_names import MountWatch
from overlayd.kernel.spaces.namespaces import descriptor, identity, share
from overlayd.kernel.watch import inotify
from overlayd.kernel.watch.beliefs import Beliefs, decoded
from overlayd.kernel.watch.host_watch import HostWatch
from overlayd.kernel.watch.inotify import LOST, Inotify
from overlayd.kernel.watch.notifications import Notifications
from overlayd.kernel.watch.revivals import Revivals
from overlayd.kernel.watch.table_watch import TableWatch
from overlayd.model.ids import InterfaceName

_DIRECTORY = Path(NETWORK_NAMESPACES).parent
_PREFIX = Path(NETWORK_NAMESPACES).name
_NAMES_CHANGE = inotify.IN_CREATE | inotify.IN_DELETE | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO


class _Watched:
    """One namespace: its sockets, and the directories of its sysctls.

    A watch on a directory reports writes to the files in it. Each directory is held open, as a watch ends once no
    process holds what it watches; one descriptor serves all files of a directory.
    """

    def __init__(self, ns: NamespaceRef, port: int) -> None:
        """Listen in the namespace in which the calling thread is; `port` is the port id of the socket that writes.

        Raises `KernelError`.
        """
        self.identity = identity(HOST)
        steps = socket_filter.of_host(port) if ns == HOST else socket_filter.of_namespace(port)
        self.rtnetlink = Notifications.of_rtnetlink(steps)
        with ExitStack() as failure:
            failure.callback(self.rtnetlink.close)
            self.nftables = Notifications.of_nftables()
            failure.pop_all()
        self.tables = TableWatch()
        self.sysctls: dict[int, int] = {}
        """Descriptors by watch."""

    @property
    def sockets(self) -> tuple[Notifications, ...]:
        return (self.rtnetlink, self.nftables) if self.nftables else (self.rtnetlink,)

    @property
    def descriptors(self) -> tuple[int, ...]:
        return tuple(each.fileno() for each in self.sockets)

    def close(self) -> None:
        self.rtnetlink.close()
        if self.nftables:
            self.nftables.close()
        for fd in self.sysctls.values():
            os.close(fd)


class Monitor:
    """Receives notifications of every namespace of ours and of the host's own. Reading never blocks."""

    def __init__(self, port: int) -> None:
        """Start in the host's own namespace: the calling thread is there, and writes from a socket of this port id."""
        self.host = HostWatch()
        self._epoll = select.epoll()
        self._sockets = select.epoll()
        """The sockets alone: polling this one leaves the events of mounts to the code that waits for them."""
        self._epoll.register(self._sockets.fileno(), select.EPOLLIN)
        self._inotify = Inotify()
        self._epoll.register(self._inotify.fileno(), select.EPOLLIN)
        self._mounts = MountWatch()
        self._epoll.register(self._mounts.fileno(), select.EPOLLPRI)
        with translated(str(_DIRECTORY)):
            share()
        self._directory = self._inotify.watch(_DIRECTORY, _NAMES_CHANGE)
        self._watched: dict[NamespaceRef, _Watched] = {}
        self._beliefs: dict[NamespaceRef, Beliefs] = {}
        self._revivals: dict[NamespaceRef, Revivals] = {}
        self._outcomes: list[Sequence[Outcome]] = []
        self._places: dict[int, NamespaceRef] = {}
        """Namespaces by the inotify watches on their sysctls."""
        self.enter(HOST, port)

    def fileno(self) -> int:
        """Return a descriptor that is readable while something is queued."""
        return self._epoll.fileno()

    def enter(self, ns: NamespaceRef, port: int) -> None:
        """Listen in one more namespace, in which the calling thread is and writes from a socket of this port id.

        Raises `KernelError`, and then listens in it not at all.
        """
        watched = self._watched[ns] = _Watched(ns, port)
        with ExitStack() as failure:
            failure.callback(self.leave, ns)
            with translated(f"watch {ns}"):
                for fd in watched.descriptors:
                    self._sockets.register(fd, select.EPOLLIN)
            if ns != HOST:
                self._beliefs[ns] = Beliefs(ns)
                self._revivals[ns] = Revivals()
                for path in sysctls.directories():
                    self._watch_sysctls(ns, path)
            failure.pop_all()

    def _watch_sysctls(self, ns: NamespaceRef, directory: Path) -> None:
        with translated(f"watch {directory}"):
            try:
                fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:  # those of IPv6 or of br_netfilter, where the kernel has none
                return
        try:
            watch = self._inotify.watch(Path(f"/proc/self/fd/{fd}"), inotify.IN_MODIFY)
        except KernelError:
            os.close(fd)
            raise
        self._watched[ns].sysctls[watch] = fd
        self._places[watch] = ns

    def leave(self, ns: NamespaceRef) -> None:
        """Listen no longer in a namespace."""
        watched = self._watched.pop(ns)
        for watch in watched.sysctls:
            self._inotify.unwatch(watch)
            del self._places[watch]
        watched.close()  # which takes the sockets out of epoll
        self._beliefs.pop(ns, None)
        self._revivals.pop(ns, None)

    def settle(self, ns: NamespaceRef) -> None:
        """Discard the queued notifications of a namespace that is about to be observed."""
        self._catch_up()
        watched = self._watched[ns]
        watched.tables.settle()
        for sock in watched.sockets:
            # Of the host's own namespace the underlay is not part of what is observed.
            if ns != HOST or sock is watched.nftables:
                _drain(sock)

    def saw(self, ns: NamespaceRef, items: Iterable[Item], devices: Sequence[link_reading.Device]) -> None:
        """Record everything of ours in a namespace, and all its devices, as observed."""
        if ns in self._beliefs:
            self._revivals[ns].saw_all(devices)
            self._beliefs[ns].saw(items, {device.index: device.name for device in devices})

    def did(self, outcomes: Sequence[Outcome]) -> None:
        """Record executed operations. They are applied to the beliefs later, so that no attachment waits for that."""
        self._outcomes.append(outcomes)

    def _catch_up(self) -> None:
        """Apply recorded operations to the beliefs."""
        ops = [outcome.op for outcomes in self._outcomes for outcome in outcomes if outcome.done]
        self._outcomes.clear()
        for ns, run in groupby(ops, lambda op: op.item.ns):
            done = list(run)
            if ns == HOST:
                self.host.did(done)
            elif ns in self._beliefs:
                self._beliefs[ns].did(done)
            for op in done:
                if isinstance(op.item, NftTable) and ns in self._watched:
                    self._watched[ns].tables.did()

    def changed(self) -> frozenset[NamespaceRef]:
        """Return the namespaces, `HOST` among them, that may not be as this agent last saw or left them."""
        self._catch_up()
        found, sysctls_touched = self._file_news()
        readable = {fd for fd, _ in self._sockets.poll(0, max(2 * len(self._watched), 1))}
        for ns in [ns for ns, watched in self._watched.items() if not readable.isdisjoint(watched.descriptors)]:
            is_news, touched = self._news_of(ns)
            if touched:
                sysctls_touched.add(ns)
            if is_news:
                found.add(ns)
        return frozenset(found | {ns for ns in sysctls_touched - found if self._sysctls_differ(ns)})

    def revived(self) -> frozenset[tuple[NamespaceRef, InterfaceName]]:
        """Return the host's ends of veth pairs whose other ends were down and came up since the last call."""
        return frozenset((ns, name) for ns, revivals in self._revivals.items() for name in revivals.take())

    def close(self) -> None:
        """Stop listening."""
        for ns in list(self._watched):
            self.leave(ns)
        self._inotify.close()
        self._mounts.close()
        self._sockets.close()
        self._epoll.close()

    def _file_news(self) -> tuple[set[NamespaceRef], set[NamespaceRef]]:
        """Return namespaces that were added or removed, and those whose sysctls were written."""
        names, touched = set(), set()
        for event in self._inotify.events():
            if event.watch in self._places:
                touched.add(self._places[event.watch])
            elif event.watch == self._directory and event.name.startswith(_PREFIX):
                names.add(NamespaceRef(str(_DIRECTORY / event.name)))
            elif event.watch == LOST:
                names |= self._watched.keys() - {HOST}
                touched |= self._watched.keys() - {HOST}
        if self._mounts.is_news():
            names |= self._watched.keys() - {HOST}
        return {ns for ns in names if self._is_another(ns)}, touched

    def _is_another(self, ns: NamespaceRef) -> bool:
        """Return whether a name may lead to another namespace than when this began to listen there."""
        watched = self._watched.get(ns)
        try:
            return identity(ns) != (watched.identity if watched else None)
        except KernelError:
            return True  # observing it raises the same error, with its reason

    def _news_of(self, ns: NamespaceRef) -> tuple[bool, bool]:
        """Return whether the sockets of a namespace have news, and whether its sysctls must be read."""
        watched = self._watched[ns]
        try:
            queued = list(watched.rtnetlink.queued())
            tables = list(watched.nftables.queued()) if watched.nftables else []
        except KernelError:
            if ns == HOST:
                self.host.lost()
            return True, True
        tables_differ = watched.tables.is_news(tables)
        if ns == HOST:
            return self.host.is_news(queued) or tables_differ, False
        devices = decoded(queued)
        for kind, payload in queued:
            if kind == RTM_NEWLINK and payload in devices:
                self._revivals[ns].saw(devices[payload])
        confs = [payload for kind, payload in queued if kind == RTM_NEWNETCONF]
        touched = any(sysctl_reading.netconf_index(payload) < 0 for payload in confs)
        deviates = any(self._deviates(ns, payload) for payload in confs if sysctl_reading.netconf_index(payload) > 0)
        return self._beliefs[ns].is_news(queued, devices) or tables_differ or deviates, touched

    def _deviates(self, ns: NamespaceRef, payload: bytes) -> bool:
        """Return whether a device's sysctls now differ from those of its namespace."""
        known = self._beliefs[ns].sysctls
        named = InterfaceName(str(sysctl_reading.netconf_index(payload)))
        return known is None or bool(sysctls.deviating([(named, sysctl_reading.netconf_sysctls(payload))], known))

    def _sysctls_differ(self, ns: NamespaceRef) -> bool:
        try:
            with descriptor(ns) as fd:
                return self._beliefs[ns].sysctls != sysctls.observe(fd)
        except KernelError:
            return True  # it is gone or cannot be read, which observing it reports


def _drain(sock: Notifications) -> None:
    """Discard queued notifications; raise `KernelError`."""
    try:
        deque(sock.queued(), maxlen=0)
    except KernelError as error:
        if error.errno != errno.ENOBUFS:  # what was lost need not be thrown away
            raise
