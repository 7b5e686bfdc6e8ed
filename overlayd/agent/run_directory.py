"""The agent's directory on a tmpfs: restored when an administrator removes it or files in it."""

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import structlog

from overlayd.agent.runtime.instance_lock import Lock
from overlayd.agent.runtime.logs import Complaint
from overlayd.agent.runtime.unix_server import UnixServer
from overlayd.model.errors import InUse

_log = structlog.get_logger(__name__)

INTERVAL = 1.0
"""Seconds between two looks. Until one finds it, a launcher finds no socket: an ADD is tried again, a DEL is queued."""


class RunDirectory:
    """Checks whether locks, sockets and files still exist.

    `path` is the directory, for messages. Each of `files` writes some again and returns how many were missing.
    """

    def __init__(
        self,
        path: Path,
        locks: Collection[Lock],
        servers: Collection[UnixServer[Any]],
        files: Collection[Callable[[], int]],
    ) -> None:
        self._path = path
        self._locks = locks
        self._servers = servers
        self._files = files
        self._failure = Complaint("what was removed cannot be written again now")

    async def run(self) -> None:
        """Check until cancelled. Raises `InUse` when another agent holds a lock that this one has lost."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                if self.restore():
                    _log.warning("what was removed is written again", directory=str(self._path))
                self._failure.over()
            except OSError as error:
                self._failure.because(str(error))

    def restore(self) -> bool:
        """Restore what is missing, the locks first; return whether anything was. Raises `InUse` and `OSError`."""
        lost = [lock for lock in self._locks if lock.is_lost()]
        for lock in lost:
            try:
                lock.renew()
            except InUse as error:
                raise InUse(f"{error.detail}, since the lock of this one was removed") from None
        deaf = [server for server in self._servers if server.is_lost()]
        files = [restore() for restore in self._files]
        for server in deaf:
            server.listen_again()
        return any((lost, deaf, *files))
