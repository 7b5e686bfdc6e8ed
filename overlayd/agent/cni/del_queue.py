"""DELs that were answered with success before they were executed: one file each, from a launcher or an agent."""

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from overlayd.agent.cni.collection import Detach
from overlayd.agent.cni.translation import name_of
from overlayd.agent.runtime.logs import Complaint
from overlayd.agent.runtime.signals import Changes
from overlayd.agent.runtime.unix_server import REQUEST_MAX
from overlayd.configuration.files import names, read_regular, write_atomically
from overlayd.model.errors import InvalidValue, OverlayError
from overlayd.wire.cni import requests as cni
from overlayd.wire.cni.error import CniError
from overlayd.wire.cni.requests import Command, Request

_log = structlog.get_logger(__name__)

AT_ONCE = 16
"""How many are executed at the same time: one that waits delays no other, and a new request waits for a few only."""

DEADLINE = 30.0
"""Seconds for one of them, in this attempt."""


@dataclass(slots=True)
class _Queued:
    """One queued DEL. It is executed once, by the first task that takes it."""

    path: Path
    request: Request
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    is_done: bool = False
    failure: Complaint = field(default_factory=lambda: Complaint("a queued DEL failed and stays queued"))

    def concerns(self, request: Request) -> bool:
        """Return whether a request concerns what this DEL would detach: by its network, or by its config."""
        theirs, ours = ((each.container_id, each.interface) for each in (request, self.request))
        return theirs == ours and (request.network == self.request.network or request.conf == self.request.conf)


class DelQueue:
    """The queued requests; each file is read once."""

    def __init__(self, directory: Path, detach: Detach) -> None:
        self._directory = directory
        self._detach = detach
        self._known: dict[str, _Queued] = {}
        self._puts = Changes()

    def put(self, frame: bytes) -> None:
        """Queue a DEL as the launcher does; it is tried again soon. Raises `OSError`."""
        write_atomically(self._directory / f"{time.time_ns()}-{os.getpid()}.del", frame)
        self._puts.set()

    async def precede(self, request: Request) -> None:
        """Execute the DELs in the queue for the interface of an ADD: later, they would detach what the ADD makes.

        Raises the error that prevents it; then the ADD must not be executed either.
        """
        for queued in self._queued():
            if queued.concerns(request):
                await self._execute(queued)

    async def drain(self) -> None:
        """Execute every DEL in the queue. One that fails stays."""
        room = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            for queued in self._queued():
                tasks.create_task(self._try(queued, room), name=f"queued DEL {queued.path.name}")

    async def run(self, interval: float) -> None:
        """Drain now, after each `put`, and at this interval in seconds: a launcher may have queued a DEL."""
        failure = Complaint("the queue of DELs cannot be read now")
        while True:
            seen = self._puts.count
            try:
                await self.drain()
                failure.over()
            except OSError as error:
                failure.because(str(error), queue=str(self._directory))
            with suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._puts.wait(seen)

    async def _try(self, queued: _Queued, room: asyncio.Semaphore) -> None:
        try:
            async with room, asyncio.timeout(DEADLINE):
                await self._execute(queued)
        except (OverlayError, OSError) as error:
            reason = f"not done within {DEADLINE:.0f} s" if isinstance(error, TimeoutError) else str(error)
            queued.failure.because(reason, file=queued.path.name)

    async def _execute(self, queued: _Queued) -> None:
        async with queued.turn:
            if not queued.is_done:
                await self._detach(name_of(queued.request), queued.request.conf)
                queued.path.unlink(missing_ok=True)
                queued.is_done = True

    def _queued(self) -> list[_Queued]:
        """Return the queued DELs, the oldest first; raise `OSError`."""
        found = {name: self._directory / name for name in names(self._directory) if name.endswith(".del")}
        # A file that was removed before its DEL was done changes nothing: its runtime takes that for done.
        self._known = {name: each for name, each in self._known.items() if name in found or not each.is_done}
        for name in sorted(found.keys() - self._known.keys()):
            if request := _read(found[name]):
                self._known[name] = _Queued(found[name], request)
        return list(self._known.values())


def _read(path: Path) -> Request | None:
    """Return the request in a file; set the file aside when it holds none that can ever be executed.

    Raises `OSError`.
    """
    try:
        request = cni.parse(*cni.unpack(read_regular(path, REQUEST_MAX)))
        if isinstance(request, Request) and request.command is Command.DEL:
            return request
        reason = "it is no DEL"
    except FileNotFoundError:
        return None
    except InvalidValue as error:
        reason = error.detail
    except CniError as error:
        reason = error.msg
    _log.warning("set a queued request aside that cannot be executed", file=path.name, reason=reason)
    path.replace(path.with_suffix(".refused"))
    return None
