"""The events of one run of the chaos with their times, printed in full when the run fails."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_BEFORE = 0.1
"""Seconds that a packet may have been under way when it got lost."""


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which some hosts may lose packets, in seconds of the epoch; `networks` None: in all of them."""

    begin: float
    end: float
    hosts: frozenset[str]
    networks: frozenset[str] | None

    def excuses(self, moment: float, hosts: frozenset[str], network: str) -> bool:
        """Return whether a packet between these hosts may be lost at a moment."""
        is_there = bool(self.hosts & hosts) and (self.networks is None or network in self.networks)
        return is_there and self.begin <= moment <= self.end


@dataclass
class Timeline:
    """Events and faults, each with its time. Several threads write to it."""

    started: float = field(default_factory=time.time)
    events: list[tuple[float, str]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    windows: list[Window] = field(default_factory=list)
    last_fault: float = 0.0
    """Seconds from the beginning."""
    _open: list[Window] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, what: str) -> None:
        """Write down an event."""
        with self._lock:
            self.events.append((time.time(), what))

    def violate(self, what: str) -> None:
        """Write down that something is not as it must always be."""
        with self._lock:
            self.violations.append(f"{time.time() - self.started:8.2f}  {what}")
            self.events.append((time.time(), f"VIOLATED: {what}"))

    @contextmanager
    def fault(self, kind: str, what: str) -> Iterator[None]:
        """Write down that a fault begins and ends."""
        self.faults[kind] += 1
        self.note(f"{kind}: {what}")
        self.last_fault = self.moment()
        try:
            yield
        finally:
            self.last_fault = self.moment()
            self.note(f"over: {kind}: {what}")

    @contextmanager
    def losing(self, hosts: frozenset[str], grace: float, networks: frozenset[str] | None = None) -> Iterator[None]:
        """Excuse lost packets of these hosts inside the block, and for so many seconds after it."""
        begin = time.time() - _BEFORE
        opened = Window(begin, float("inf"), hosts, networks)
        with self._lock:
            self._open.append(opened)
        try:
            yield
        finally:
            with self._lock:
                self._open.remove(opened)
                self.windows.append(Window(begin, time.time() + grace, hosts, networks))

    def excuses(self, moment: float, hosts: frozenset[str], network: str) -> bool:
        """Return whether a packet between these hosts may be lost at a moment."""
        with self._lock:
            return any(window.excuses(moment, hosts, network) for window in self.windows)

    def excuses_now(self, hosts: frozenset[str], network: str) -> bool:
        """Return whether a packet between these hosts may be lost now: a window that is open has no end yet."""
        with self._lock:
            opened = any(window.excuses(window.begin, hosts, network) for window in self._open)
        return opened or self.excuses(time.time(), hosts, network)

    def moment(self) -> float:
        """Return the seconds since the beginning."""
        return time.time() - self.started

    def report(self) -> str:
        """Return every event, one a line, in seconds from the beginning."""
        return "".join(f"{moment - self.started:8.2f}  {what}\n" for moment, what in sorted(self.events))
