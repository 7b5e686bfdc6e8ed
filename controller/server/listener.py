"""The sockets of a controller: accepts connections, bounds their number, and limits the time of TLS handshakes.

asyncio's own servers bound no handshake by less than a minute, know of no connection before it, and log a traceback for
each of thousands of attempts when descriptors run out.
"""

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import Callable

import structlog

from controller.clock import Clock
from controller.server.bounds import ConnectionBounds
from controller.server.visitors import Visitor, Visitors
from controller.throttle import Throttle

_BACKLOG = 2048
"""Connections that the kernel keeps until they are accepted; it has a bound of its own, net.core.somaxconn."""

_RESERVE = 64
"""Descriptors that connections leave: for the store, certificates, and what libraries open."""

_PAUSE = 0.2
"""Seconds until the next attempt to accept, when the machine has run short of something."""

_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What accept(2) says when descriptors or memory are short."""

_PASSING = frozenset(
    {
        errno.ECONNABORTED,
        errno.ENETDOWN,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
        errno.EPERM,
    }
)
"""What accept(2) says of the one connection that it took from the queue, and the next one may be well."""

_log = structlog.get_logger()

MakeProtocol = Callable[[Visitor], asyncio.Protocol]


class Listener:
    """Accepts connections on sockets that are bound, each with a protocol of its own."""

    def __init__(
        self,
        sockets: list[socket.socket],
        context: ssl.SSLContext | None,
        make: MakeProtocol,
        clock: Clock,
        bounds: ConnectionBounds,
    ) -> None:
        self._sockets = sockets
        self._context = context
        self._make = make
        self._clock = clock
        self._bounds = bounds
        self._visitors = Visitors(clock, bounds)
        self._short = Throttle()
        self._accepting: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Accept connections until `stop`, or until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for sock in self._sockets:
                sock.setblocking(False)  # noqa: FBT003 - the socket module's signature
                sock.listen(_BACKLOG)
                name = "accept {}:{}".format(*sock.getsockname()[:2])
                self._accepting.append(tasks.create_task(self._accept(sock, tasks), name=name))

    def stop(self) -> None:
        """Accept no further connections; those that are open stay."""
        for task in self._accepting:
            task.cancel()

    async def _accept(self, sock: socket.socket, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(sock)
            except OSError as error:
                if error.errno in _SHORT:
                    self._note(error.strerror)
                    self._visitors.drop_oldest()
                    await self._clock.sleep(_PAUSE)
                elif error.errno not in _PASSING:
                    raise
                continue
            if connection.fileno() >= _descriptors() - _RESERVE:
                self._note("no descriptors are left for connections")
                self._visitors.drop_oldest()
                connection.close()
                continue
            visitor = self._visitors.enter(address[0], _aborting(connection))
            if visitor is None:
                connection.close()
            else:
                tasks.create_task(self._open(connection, visitor), name=f"connection of {address[0]}")

    async def _open(self, connection: socket.socket, visitor: Visitor) -> None:
        """Begin a connection's protocol, after the handshake where there is TLS."""
        handshake, farewell = (self._bounds.handshake, self._bounds.farewell) if self._context else (None, None)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._make(visitor),
                connection,
                ssl=self._context,
                ssl_handshake_timeout=handshake,
                ssl_shutdown_timeout=farewell,
            )
        except OSError:  # the peer left, took too long, or does not speak TLS: nothing of ours is wrong
            visitor.leave()
            connection.close()

    def _note(self, reason: str | None) -> None:
        if count := self._short.count(self._clock.now()):
            _log.error("connections not accepted", count=count, reason=reason)


def raise_descriptor_limit() -> None:
    """Let this process open as many files as it may: its soft limit becomes the hard one (getrlimit(2))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _descriptors() -> int:
    """Return how many descriptors this process may have; the lowest free number is always the next one."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _aborting(connection: socket.socket) -> Callable[[], None]:
    """Return a function that ends a connection in any state: its transport sees the end, and closes it."""

    def abort() -> None:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            # The peer was first, or the transport has closed it.
            if error.errno not in {errno.ENOTCONN, errno.EBADF}:
                raise

    return abort
