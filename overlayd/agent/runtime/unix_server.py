"""A unix socket: one request, one answer, bounded in size, number and time."""

import asyncio
import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar, cast

from overlayd.agent.runtime.logs import Complaint
from overlayd.configuration.files import status

R = TypeVar("R")

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

_ACCEPTED_AT_ONCE = 64
"""Connections that are accepted before the loop does other work."""

_WAIT = 0.1
"""Seconds between two attempts to accept a connection while the machine has no room for it."""

_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What accept(2) says while there is no descriptor, or no memory, for another connection."""


_ACL_VERSION, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
"""linux/posix_acl_xattr.h: the list of who may use a file (acl(5))."""

_OWNER, _USER, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x10, 0x20
_READ_WRITE = 6
_NO_ID = 0xFFFFFFFF


def _forget(_request: object) -> None:
    """Do nothing more about a request that is over."""


class UnixServer(Generic[R]):
    """Listens on a socket, to which root and `users` may connect, from its construction on.

    `read` reads one request; by default that is the bytes that come until the client closes its sending side. `over` is
    called for every request that was read, answered or not. `close` closes a connection; it is given where that may
    take long, and is not waited for by a server that stops. Each request is a task of `run`, so an unexpected exception
    ends the server, as in any other actor. `grace` is how many seconds requests under way may take when the server
    stops.
    """

    def __init__(  # noqa: PLR0913 - the last four are for sockets of other protocols and users
        self,
        path: Path,
        answer: Callable[[R], Awaitable[bytes]],
        grace: float,
        read: Callable[[socket.socket], Awaitable[R | None]] | None = None,
        over: Callable[[R], None] = _forget,
        *,
        close: Callable[[socket.socket], Awaitable[None]] | None = None,
        users: Collection[int] = (),
    ) -> None:
        self._path = path
        self._answer = answer
        self._grace = grace
        self._read = read
        self._over = over
        self._close_connection = close
        self._users = users
        self._listener = _listen(path, users)
        self._place = _place(path)
        self._is_closed = self._is_accepting = False
        self._requests: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._failure: asyncio.Future[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._complaint = Complaint("no connection can be accepted for now")

    async def run(self) -> None:
        """Answer until cancelled; then accept no further request, and return when those under way have ended.

        Those that take longer than the grace are cancelled, and undo their work.
        """
        async with asyncio.TaskGroup() as tasks:
            self._tasks, self._failure = tasks, asyncio.get_running_loop().create_future()
            try:
                self._resume()
                await self._failure
            finally:
                self._tasks = None
                self.close()
                if self._requests:
                    await asyncio.wait(self._requests, timeout=self._grace)

    def is_lost(self) -> bool:
        """Return whether clients cannot find this socket, as its path is gone or another file; false once closed."""
        return not self._is_closed and _place(self._path) != self._place

    def listen_again(self) -> None:
        """Listen on a new socket at the path; if that fails, raise `OSError` and keep the present one."""
        before, self._listener = self._listener, _listen(self._path, self._users)
        self._place = _place(self._path)
        asyncio.get_running_loop().remove_reader(before)
        self._close_listener(before)
        self._resume()

    def close(self) -> None:
        """Stop listening and remove the socket: a client that connects from now on is refused at once.

        A file that another agent has put at the path stays.
        """
        if self._is_closed:
            return
        is_lost, self._is_closed = self.is_lost(), True
        if self._is_accepting:
            asyncio.get_running_loop().remove_reader(self._listener)
        self._close_listener(self._listener)
        if not is_lost:
            self._path.unlink(missing_ok=True)

    def _close_listener(self, listener: socket.socket) -> None:
        """Close a listener, and with it the connections that wait for being accepted, which may take as long."""
        if self._close_connection is None:
            listener.close()
            return
        # Where there is no room for a thread, the listener ends with the process.
        with suppress(RuntimeError):
            threading.Thread(target=listener.close, name=f"end of {self._path.name}", daemon=True).start()

    def _resume(self) -> None:
        """Accept connections from now on, if this runs."""
        if self._tasks and not self._is_closed:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)
            self._is_accepting = True

    def _pause(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._is_accepting = False

    def _accept(self) -> None:
        """Begin to serve the connections that wait. The loop calls this when there are some."""
        for _ in range(_ACCEPTED_AT_ONCE):
            if self._tasks is None or self._failure is None or self._failure.done():
                return  # it stops: what waits is refused as the listener is closed
            if len(self._requests) >= CONNECTIONS_MAX:
                self._pause()
                return
            try:
                channel, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._cannot_accept(error)
                return
            self._complaint.over()
            channel.setblocking(False)  # noqa: FBT003 - its only parameter
            task = self._tasks.create_task(self._serve(channel), name=f"request on {self._path.name}")
            self._requests.add(task)
            task.add_done_callback(self._ended)

    def _cannot_accept(self, error: OSError) -> None:
        """Wait while the machine has no room for another connection; any other reason ends the server."""
        if error.errno in _NO_ROOM:
            self._complaint.because(str(error), socket=str(self._path))
            self._pause()
            if self._retry:
                self._retry.cancel()  # a request that ended has tried since then
            self._retry = asyncio.get_running_loop().call_later(_WAIT, self._resume)
        elif self._failure and not self._failure.done():
            self._failure.set_exception(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        if not task.cancelled() and task.exception():
            self._tasks = None  # the group ends: it takes no further task
        elif not self._is_accepting:
            self._resume()

    async def _request(self, channel: socket.socket) -> R | None:
        if self._read is None:
            return cast("R | None", await _read_all(channel))
        async with asyncio.timeout(_READ_TIMEOUT):
            return await self._read(channel)

    async def _serve(self, channel: socket.socket) -> None:
        try:
            await self._serve_open(channel)
        finally:
            await self._close_channel(channel)

    async def _serve_open(self, channel: socket.socket) -> None:
        try:
            request = await self._request(channel)
        except OSError:
            return  # the client went away or does not speak our protocol: no one is left to be answered
        if request is None:
            return
        try:
            if _has_hung_up(channel):
                return
            answer = await self._answer(request)
        finally:
            self._over(request)
        try:
            await _write_all(channel, answer)
        except OSError:
            return  # as above

    async def _close_channel(self, channel: socket.socket) -> None:
        if self._close_connection is None:
            channel.close()
            return
        closing = asyncio.ensure_future(self._closed(self._close_connection(channel)))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        if not self._is_closed:
            await asyncio.shield(closing)  # so that it counts among the connections

    @staticmethod
    async def _closed(closing: Awaitable[None]) -> None:
        with suppress(OSError):  # no room for what it takes: the connection ends with its last reference
            await closing


def _listen(path: Path, users: Collection[int]) -> socket.socket:
    path.parent.mkdir(mode=0o755 if users else 0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    listener.bind(str(path))
    path.chmod(0o600)  # before it listens, so that no other user ever connects
    if users:
        _let_in(path, users)
    listener.listen(BACKLOG)
    return listener


def _let_in(path: Path, users: Collection[int]) -> None:
    """Let users connect, and all where the filesystem takes no such list: who serves them must look at them anyway."""
    entries = [
        (_OWNER, _READ_WRITE, _NO_ID),
        *((_USER, _READ_WRITE, uid) for uid in sorted(users)),
        (_GROUP, 0, _NO_ID),
        (_MASK, _READ_WRITE, _NO_ID),
        (_OTHERS, 0, _NO_ID),
    ]
    content = _ACL_VERSION.pack(2) + b"".join(_ACL_ENTRY.pack(*each) for each in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", content)
    except OSError:
        path.chmod(0o666)


def _place(path: Path) -> tuple[int, int] | None:
    """Return device and inode of the file at a path, None when there is none; raise `OSError`."""
    found = status(path)
    return (found.st_dev, found.st_ino) if found else None


async def _read_all(channel: socket.socket) -> bytes | None:
    """Return the request until the client closes its sending side, None when it is too long; raise `OSError`.

    The loop is needed only for a request that has not arrived whole, which is rare.
    """
    chunks = bytearray()
    try:
        while chunk := channel.recv(_PIECE):
            chunks += chunk
            if len(chunks) > REQUEST_MAX:
                return None
        return bytes(chunks)
    except BlockingIOError:
        pass
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_READ_TIMEOUT):
        while chunk := await loop.sock_recv(channel, _PIECE):
            chunks += chunk
            if len(chunks) > REQUEST_MAX:
                return None
    return bytes(chunks)


async def _write_all(channel: socket.socket, answer: bytes) -> None:
    """Send an answer, which mostly fits into the socket's buffer; raise `OSError`."""
    try:
        sent = channel.send(answer)
    except BlockingIOError:
        sent = 0
    if sent < len(answer):
        async with asyncio.timeout(_WRITE_TIMEOUT):
            await asyncio.get_running_loop().sock_sendall(channel, answer[sent:])


def _has_hung_up(channel: socket.socket) -> bool:
    """Return whether the client has closed the whole connection, not only its sending side (poll(2): POLLHUP).

    A request can wait in the backlog for long, for example while this process is frozen. A client that no longer waits
    has reported a failure or has queued the request: executing it now could undo what came after it.
    """
    poll = select.poll()
    poll.register(channel, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))
