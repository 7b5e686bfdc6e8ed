"""A unix socket for root: one request, one answer, bounded in size, number and time."""

import asyncio
import errno
import select
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import structlog

from overlayd.configuration.files import status

_log = structlog.get_logger(__name__)

BACKLOG = 1024
"""Connections that may wait: a node that starts sends hundreds of requests at once."""

CONNECTIONS_MAX = 1024
"""Connections that are served at the same time; further ones wait in the backlog."""

REQUEST_MAX = 6 << 20
"""Bytes: more than what a launcher sends at most, its environment included."""

_READ_TIMEOUT = 10.0
_WRITE_TIMEOUT = 10.0
_PIECE = 65536
"""Bytes read at a time."""

_WAIT = 0.1
"""Seconds between two attempts to accept a connection while the machine has no room for it."""

_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What accept(2) says while there is no descriptor, or no memory, for another connection."""


class UnixServer:
    """Listens on a socket of mode 0600 from its construction on.

    `read` reads one request, which by default ends where the client closes its sending side. Each request is a task of
    `run`, so an unexpected exception ends the server, as in any other actor. `grace` is how many seconds requests under
    way may take when the server stops.
    """

    def __init__(
        self,
        path: Path,
        answer: Callable[[bytes], Awaitable[bytes]],
        grace: float,
        read: Callable[[socket.socket], Awaitable[bytes | None]] | None = None,
    ) -> None:
        self._path = path
        self._answer = answer
        self._grace = grace
        self._read = read or _read_all
        self._listener = _listen(path)
        self._place = _place(path)
        self._is_closed = False
        self._moved = asyncio.Event()
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)
        self._requests: set[asyncio.Task[None]] = set()

    async def run(self) -> NoReturn:
        """Answer until cancelled; then accept no further request, and return when those under way have ended.

        Those that take longer than the grace are cancelled, and undo their work.
        """
        async with asyncio.TaskGroup() as tasks:
            try:
                while True:
                    await self._room.acquire()
                    task = tasks.create_task(self._serve(await self._accept()), name=f"request on {self._path.name}")
                    self._requests.add(task)
                    task.add_done_callback(self._ended)
            finally:
                self.close()
                if self._requests:
                    await asyncio.wait(self._requests, timeout=self._grace)

    def is_lost(self) -> bool:
        """Return whether clients cannot find this socket, as its path is gone or another file; false once closed."""
        return not self._is_closed and _place(self._path) != self._place

    def listen_again(self) -> None:
        """Listen on a new socket at the path; if that fails, raise `OSError` and keep the present one."""
        before, self._listener = self._listener, _listen(self._path)
        self._place = _place(self._path)
        asyncio.get_running_loop().remove_reader(before)
        before.close()
        self._moved.set()

    def close(self) -> None:
        """Stop listening and remove the socket: a client that connects from now on is refused at once.

        A file that another agent has put at the path stays.
        """
        if self._is_closed:
            return
        is_lost, self._is_closed = self.is_lost(), True
        self._listener.close()
        if not is_lost:
            self._path.unlink(missing_ok=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        self._room.release()

    async def _accept(self) -> socket.socket:
        """Return the next connection; wait while the process has no descriptor for one."""
        has_room = True
        while True:
            try:
                channel, _ = self._listener.accept()
            except BlockingIOError:
                await self._readable()
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                if has_room:
                    _log.warning("no connection can be accepted for now", socket=str(self._path), reason=str(error))
                has_room = False
                await asyncio.sleep(_WAIT)
            else:
                channel.setblocking(False)  # noqa: FBT003 - its only parameter
                return channel

    async def _readable(self) -> None:
        """Return when a connection waits to be accepted, or the listening socket has been replaced.

        The loop's own sock_accept() fails, and loses the connection, when one comes as it is cancelled.
        """
        loop, listener, self._moved = asyncio.get_running_loop(), self._listener, asyncio.Event()
        loop.add_reader(listener, self._moved.set)
        try:
            await self._moved.wait()
        finally:
            if listener is self._listener:
                loop.remove_reader(listener)

    async def _serve(self, channel: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with channel:
            try:
                async with asyncio.timeout(_READ_TIMEOUT):
                    request = await self._read(channel)
            except OSError:
                return  # the client went away or does not speak our protocol: no one is left to be answered
            if request is None or _has_hung_up(channel):
                return
            answer = await self._answer(request)
            try:
                async with asyncio.timeout(_WRITE_TIMEOUT):
                    await loop.sock_sendall(channel, answer)
            except OSError:
                return  # as above


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    listener.bind(str(path))
    path.chmod(0o600)  # before it listens, so that no other user ever connects
    listener.listen(BACKLOG)
    return listener


def _place(path: Path) -> tuple[int, int] | None:
    """Return device and inode of the file at a path, None when there is none; raise `OSError`."""
    found = status(path)
    return (found.st_dev, found.st_ino) if found else None


async def _read_all(channel: socket.socket) -> bytes | None:
    """Return the request until the client closes its sending side, None when it is too long; raise `OSError`."""
    loop, chunks = asyncio.get_running_loop(), bytearray()
    while chunk := await loop.sock_recv(channel, _PIECE):
        chunks += chunk
        if len(chunks) > REQUEST_MAX:
            return None
    return bytes(chunks)


def _has_hung_up(channel: socket.socket) -> bool:
    """Return whether the client has closed the whole connection, not only its sending side (poll(2): POLLHUP).

    A request can wait in the backlog for long, for example while this process is frozen. A client that no longer waits
    has reported a failure or has queued the request: executing it now could undo what came after it.
    """
    poll = select.poll()
    poll.register(channel, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))
