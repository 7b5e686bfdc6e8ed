"""Requests to detach that were answered with success before they were executed: one file each, by launcher or agent."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from overlayd.agent.runtime.logs import Complaint
from overlayd.agent.runtime.signals import Changes
from overlayd.agent.runtime.unix_server import REQUEST_MAX
from overlayd.configuration.files import names, read_regular, write_atomically
from overlayd.model.errors import InvalidValue, OverlayError

_log = structlog.get_logger(__name__)

T = TypeVar("T")

AT_ONCE = 16
"""How many are executed at the same time: one that waits delays no other, and a new request waits for a few only."""

DEADLINE = 30.0
"""Seconds for one of them, in this attempt."""


@dataclass(slots=True)
class _Queued(Generic[T]):
    """One queued request. It is executed once, by the first task that takes it."""

    path: Path
    request: T
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    is_done: bool = False
    failure: Complaint = field(default_factory=lambda: Complaint("a queued request failed and stays queued"))


@dataclass(frozen=True, slots=True)
class QueuedKind(Generic[T]):
    """What the requests in a queue are, which every runtime has in a form of its own.

    `suffix` ends the names of their files; `read` returns the request in such a file, or raises `InvalidValue` when it
    holds none that can ever be executed; `detach` executes one; `concerns` returns whether the first one would detach
    what the second one, a later request, is about.
    """

    suffix: str
    read: Callable[[bytes], T]
    detach: Callable[[T], Awaitable[None]]
    concerns: Callable[[T, T], bool]


class DetachQueue(Generic[T]):
    """The queued requests; each file is read once."""

    def __init__(self, directory: Path, kind: QueuedKind[T]) -> None:
        self._directory = directory
        self._kind = kind
        self._known: dict[str, _Queued[T]] = {}
        self._puts = Changes()

    def put(self, frame: bytes) -> None:
        """Queue a request as the launcher does; it is tried again soon. Raises `OSError`."""
        write_atomically(self._directory / f"{time.time_ns()}-{os.getpid()}{self._kind.suffix}", frame)
        self._puts.set()

    async def precede(self, request: T) -> None:
        """Execute the queued requests about what a new one attaches: later, they would detach what that makes.

        Raises the error that prevents it; then the new one must not be executed either.
        """
        known, unreadable = self._queued()
        if unreadable:
            raise unreadable
        for queued in known:
            if self._kind.concerns(queued.request, request):
                await self._execute(queued)

    async def follow(self, request: T) -> None:
        """Wait for what a request to attach may be waiting for in `precede`, so that one to detach comes after it."""
        for queued in list(self._known.values()):
            if queued.turn.locked() and self._kind.concerns(queued.request, request):
                async with queued.turn:  # its waiters have it in the order in which they came
                    pass

    async def drain(self) -> None:
        """Execute every request in the queue. One that fails stays.

        Raises `OSError` when the queue cannot be read, and after that for a file that cannot be.
        """
        room = asyncio.Semaphore(AT_ONCE)
        known, unreadable = self._queued()
        async with asyncio.TaskGroup() as tasks:
            for queued in known:
                tasks.create_task(self._try(queued, room), name=f"queued request {queued.path.name}")
        if unreadable:
            raise unreadable

    async def run(self, interval: float) -> None:
        """Drain now, after each `put`, and at this interval in seconds: a launcher may have queued a request."""
        failure = Complaint("the queue of requests to detach cannot be read now")
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

    async def _try(self, queued: _Queued[T], room: asyncio.Semaphore) -> None:
        try:
            async with room, asyncio.timeout(DEADLINE):
                await self._execute(queued)
        except (OverlayError, OSError) as error:
            reason = f"not done within {DEADLINE:.0f} s" if isinstance(error, TimeoutError) else str(error)
            queued.failure.because(reason, file=queued.path.name)

    async def _execute(self, queued: _Queued[T]) -> None:
        async with queued.turn:
            if not queued.is_done:
                await self._kind.detach(queued.request)
                queued.path.unlink(missing_ok=True)
                queued.is_done = True

    def _queued(self) -> tuple[list[_Queued[T]], OSError | None]:
        """Return the queued requests, the oldest first, and why a further file cannot be read, if there is one.

        Raises `OSError` when the directory cannot be read.
        """
        found = {name: self._directory / name for name in names(self._directory) if name.endswith(self._kind.suffix)}
        # A file that was removed before its request was done changes nothing: its runtime takes that for done.
        self._known = {name: each for name, each in self._known.items() if name in found or not each.is_done}
        unreadable: OSError | None = None
        for name in sorted(found.keys() - self._known.keys()):
            try:
                for request in self._read(found[name]):
                    self._known[name] = _Queued(found[name], request)
            except OSError as error:
                unreadable = error
        return list(self._known.values()), unreadable

    def _read(self, path: Path) -> Iterator[T]:
        """Yield the request in a file; set the file aside when it holds none that can ever be executed.

        Raises `OSError`.
        """
        try:
            yield self._kind.read(read_regular(path, REQUEST_MAX))
        except FileNotFoundError:
            return
        except InvalidValue as error:
            _log.warning("set a queued request aside that cannot be executed", file=path.name, reason=str(error))
            path.replace(path.with_suffix(".refused"))
